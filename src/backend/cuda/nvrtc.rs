// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels compiled from source for the device found, and kept on disk under the hash of all that
//! went into them.

use std::fs;
use std::path::PathBuf;

use cudarc::nvrtc::{compile_ptx_with_opts, sys, CompileError, CompileOptions};

use super::gpu::Gpu;
use super::image::Source;
use crate::{Error, Result};

/// PTX of a source for a device.
///
/// # Errors
/// [`Error::Device`] if NVRTC is missing or refuses the source.
pub(super) fn ptx(gpu: &Gpu, source: &Source) -> Result<String> {
    let (major, minor) = gpu.info().capability;
    let options = [format!("--gpu-architecture=compute_{major}{minor}"), "-std=c++17".to_owned()];
    let error = |message: String| Error::Device { device: gpu.name().into(), message };
    // SAFETY: loads the compiler's library, as any program that uses it does.
    if !unsafe { sys::is_culib_present() } {
        return Err(error(
            "this program was built without nvcc, and NVRTC (libnvrtc) was not found: install the \
             CUDA toolkit or the package nvidia-cuda-nvrtc"
                .into(),
        ));
    }
    let file = cache_file(source, &options);
    if let Some(known) = file.as_ref().and_then(|file| fs::read_to_string(file).ok()) {
        return Ok(known);
    }
    let compiled = compile_ptx_with_opts(
        source.text,
        CompileOptions {
            options: options.to_vec(),
            name: Some(format!("{}.cu", source.name)),
            ..CompileOptions::default()
        },
    );
    let ptx = compiled.map_err(|failure| error(describe(source, failure)))?.to_src();
    if let Some(file) = file {
        keep(&file, &ptx);
    }
    Ok(ptx)
}

fn describe(source: &Source, failure: CompileError) -> String {
    match failure {
        CompileError::CompileError { log, .. } => {
            format!("NVRTC refused {}: {}", source.name, log.to_string_lossy())
        }
        other => format!("NVRTC failed on {}: {other}", source.name),
    }
}

/// Where a compiled source is kept; nowhere if the system has no folder for such things.
fn cache_file(source: &Source, options: &[String]) -> Option<PathBuf> {
    let (major, minor) = nvrtc_version()?;
    let key = format!("{major}.{minor}\n{}\n{}", options.join(" "), source.text);
    let name = format!("{}-{:016x}.ptx", source.name, fnv1a(key.as_bytes()));
    Some(cache_folder()?.join("kernels").join(name))
}

/// Version of NVRTC on this machine, major and minor; `None` if there is none.
pub fn nvrtc_version() -> Option<(i32, i32)> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is asked only if it is present; both places are valid to write.
    unsafe {
        if sys::is_culib_present() {
            let status = sys::nvrtcVersion(&mut major, &mut minor);
            return (status == sys::nvrtcResult::NVRTC_SUCCESS).then_some((major, minor));
        }
    }
    None
}

/// The user's folder for what can be made again; `None` if the system has none.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(folder.join("kiln"))
}

/// Writes a file that others may be writing too: under another name first, then in one step.
fn keep(file: &std::path::Path, ptx: &str) {
    let partial = file.with_extension(format!("{}.part", std::process::id()));
    let kept = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&partial, ptx))
        .and_then(|()| fs::rename(&partial, file));
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
