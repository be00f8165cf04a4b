// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels compiled from source for the device found, and kept on disk under the hash of all that
//! went into them.

mod cache;
mod library;

use std::path::PathBuf;

use super::gpu::Gpu;
use super::image::{self, Source};
use super::system::System;
use crate::{Error, Result};
use library::{Nvrtc, Refusal};

/// What NVRTC made of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Machine code, which a driver loads as it is.
    Machine(Vec<u8>),
    /// PTX, for devices that NVRTC is too old to know: the driver compiles it.
    Ptx(String),
}

/// What kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// 90 for sm_90.
    pub(super) architecture: u32,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Machine,
    Ptx,
}

/// What NVRTC of this machine compiles kernels for, if they are for a device of an architecture.
pub(super) fn target(device: u32) -> Target {
    let known = Nvrtc::find().map(Nvrtc::architectures);
    target_among(known.as_deref(), device)
}

/// The same for a compiler that knows these architectures. Without one, what it would have compiled
/// may still have been kept.
fn target_among(known: Option<&[u32]>, device: u32) -> Target {
    let Some(known) = known.filter(|known| !known.is_empty()) else {
        return Target { architecture: device, form: Form::Machine };
    };
    if let Some(architecture) = image::latest_that_runs(known, device) {
        return Target { architecture, form: Form::Machine };
    }
    let earlier = known.iter().copied().filter(|architecture| *architecture <= device).max();
    Target { architecture: earlier.unwrap_or(device), form: Form::Ptx }
}

impl Target {
    /// Options for the compiler. `-default-device` lets lambdas without an annotation be compiled for
    /// the device; versions before 13.2 refuse them otherwise.
    fn options(self) -> [String; 3] {
        let kind = match self.form {
            Form::Machine => "sm",
            Form::Ptx => "compute",
        };
        let architecture = format!("--gpu-architecture={kind}_{}", self.architecture);
        [architecture, "-std=c++17".into(), "-default-device".into()]
    }
}

/// A source compiled for a device.
///
/// # Errors
/// [`Error::Device`] if NVRTC is missing or refuses the source.
pub(super) fn compiled(gpu: &Gpu, source: &Source) -> Result<Code> {
    let target = target(image::architecture(gpu.info()));
    let options = target.options();
    let nvrtc = Nvrtc::find();
    let version = nvrtc.and_then(Nvrtc::version);
    let file = cache_file(source, &options);
    let kept = file.as_deref().and_then(|file| cache::read(file, version));
    if let Some(code) = kept.and_then(|bytes| target.code(bytes)) {
        return Ok(code);
    }
    let error = |message: String| Error::Device { device: gpu.name().into(), message };
    let Some(nvrtc) = nvrtc else {
        let name = System::THIS.nvrtc();
        return Err(error(format!(
            "kernels have to be compiled for it, and NVRTC ({name}) was not found: install the CUDA \
             toolkit or the package nvidia-cuda-nvrtc, or name the library by KILN_NVRTC"
        )));
    };
    let compiled = match target.form {
        Form::Machine => nvrtc.machine_code(&format!("{}.cu", source.name), source.text, &options),
        Form::Ptx => nvrtc.ptx(&format!("{}.cu", source.name), source.text, &options),
    };
    let bytes = compiled.map_err(|refusal| error(describe(source, &refusal)))?;
    if let (Some(file), Some(version)) = (&file, version) {
        cache::keep(file, version, &bytes);
    }
    target.code(bytes).ok_or_else(|| error(format!("NVRTC wrote no text for {}", source.name)))
}

impl Target {
    fn code(self, bytes: Vec<u8>) -> Option<Code> {
        match self.form {
            Form::Machine => Some(Code::Machine(bytes)),
            Form::Ptx => String::from_utf8(bytes).ok().map(Code::Ptx),
        }
    }
}

fn describe(source: &Source, refusal: &Refusal) -> String {
    match refusal {
        Refusal::Source(log) => format!("NVRTC refused {}: {log}", source.name),
        Refusal::Call(call, status) => {
            format!("NVRTC failed on {}: {call} returned {status}", source.name)
        }
        Refusal::Missing(what) => format!("NVRTC has no {what}: version 11.2 or later is needed"),
    }
}

/// Why what NVRTC compiled may not load: it is of a later CUDA than the driver. `None` if it is not.
pub(super) fn too_new_for(driver: (u32, u32)) -> Option<String> {
    let (major, minor) = nvrtc_version()?;
    let is_later = u32::try_from(major).is_ok_and(|major| major > driver.0);
    is_later.then(|| {
        format!(
            "NVRTC is of CUDA {major}.{minor} and the driver of CUDA {}.{}: update the driver, or \
             install NVRTC of CUDA {}",
            driver.0, driver.1, driver.0
        )
    })
}

/// Where a compiled source is kept; nowhere if the system has no folder for such things.
fn cache_file(source: &Source, options: &[String]) -> Option<PathBuf> {
    let key = format!("{}\n{}", options.join(" "), source.text);
    let name = format!("{}-{:016x}.kernels", source.name, fnv1a(key.as_bytes()));
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

/// 64-bit FNV-1a.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NVRTC 12.4 knows nothing after sm_90; what it knows of the same kind comes first.
    #[test]
    fn kernels_are_compiled_for_what_the_compiler_knows() {
        let known = [50, 52, 60, 70, 75, 80, 86, 87, 89, 90];
        let target = |device| target_among(Some(&known), device);
        let machine = |architecture| Target { architecture, form: Form::Machine };
        assert_eq!(target(90), machine(90));
        assert_eq!(target(88), machine(86), "not the code of a system on a chip");
        for device in [100, 103, 120, 121] {
            assert_eq!(target(device), Target { architecture: 90, form: Form::Ptx });
        }
        assert_eq!(target(120).options()[0], "--gpu-architecture=compute_90");
        assert_eq!(target(90).options()[0], "--gpu-architecture=sm_90");
        assert_eq!(target_among(None, 100), machine(100));
    }
}
