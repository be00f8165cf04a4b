// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels compiled from source for the device found, and kept on disk under the hash of all that
//! went into them.

mod library;

use std::fs;
use std::path::{Path, PathBuf};

use super::gpu::Gpu;
use super::image::Source;
use super::system::System;
use crate::files::replace;
use crate::{Error, Result};
use library::{Nvrtc, Refusal};

/// PTX of a source for a device.
///
/// # Errors
/// [`Error::Device`] if NVRTC is missing or refuses the source.
pub(super) fn ptx(gpu: &Gpu, source: &Source) -> Result<String> {
    let (major, minor) = gpu.info().capability;
    let options = [format!("--gpu-architecture=compute_{major}{minor}"), "-std=c++17".to_owned()];
    let error = |message: String| Error::Device { device: gpu.name().into(), message };
    let Some(nvrtc) = Nvrtc::find() else {
        return Err(error(format!(
            "this program was built without nvcc, and NVRTC ({}) was not found: install the CUDA \
             toolkit or the package nvidia-cuda-nvrtc",
            System::THIS.nvrtc()
        )));
    };
    let file = cache_file(nvrtc, source, &options);
    if let Some(known) = file.as_ref().and_then(|file| fs::read_to_string(file).ok()) {
        return Ok(known);
    }
    let compiled = nvrtc.compile(&format!("{}.cu", source.name), source.text, &options);
    let ptx = compiled.map_err(|refusal| error(describe(source, &refusal)))?;
    if let Some(file) = file {
        keep(&file, &ptx);
    }
    Ok(ptx)
}

fn describe(source: &Source, refusal: &Refusal) -> String {
    match refusal {
        Refusal::Source(log) => format!("NVRTC refused {}: {log}", source.name),
        Refusal::Call(call, status) => {
            format!("NVRTC failed on {}: {call} returned {status}", source.name)
        }
    }
}

/// Where a compiled source is kept; nowhere if the system has no folder for such things.
fn cache_file(nvrtc: &Nvrtc, source: &Source, options: &[String]) -> Option<PathBuf> {
    let (major, minor) = nvrtc.version()?;
    let key = format!("{major}.{minor}\n{}\n{}", options.join(" "), source.text);
    let name = format!("{}-{:016x}.ptx", source.name, fnv1a(key.as_bytes()));
    Some(cache_folder()?.join("kernels").join(name))
}

/// Version of NVRTC on this machine, major and minor; `None` if there is none.
pub fn nvrtc_version() -> Option<(i32, i32)> {
    Nvrtc::find()?.version()
}

/// The user's folder for what can be made again; `None` if the system has none.
pub(super) fn cache_folder() -> Option<PathBuf> {
    System::THIS.cache_folder(&|name| std::env::var_os(name))
}

/// Writes a file that others may be writing too: under another name first, then in one step.
fn keep(file: &Path, ptx: &str) {
    let partial = file.with_extension(format!("{}.part", std::process::id()));
    let kept = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&partial, ptx))
        .and_then(|()| replace(&partial, file));
    if let Err(error) = kept {
        tracing::debug!(%error, file = %file.display(), "compiled kernels were not kept");
    }
}

/// 64-bit FNV-1a.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
