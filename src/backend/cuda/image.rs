// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernels as the program carries them, and the forms in which a device may get them.

use std::fmt;

use super::gpu::DeviceInfo;
use super::nvrtc;
use super::options::CudaImage;
use crate::{Error, Result};

/// A source file of kernels and what was compiled from it when the program was built.
#[derive(Debug)]
pub(super) struct Source {
    /// The file's name without its extension.
    pub(super) name: &'static str,
    /// The text, its headers included.
    pub(super) text: &'static str,
    /// The kernels in it.
    pub(super) kernels: &'static [&'static str],
    /// Machine code for several architectures.
    pub(super) cubins: Option<&'static [u8]>,
    /// PTX.
    pub(super) ptx: Option<&'static str>,
}

/// All sources; written by `build.rs`. One place in memory: a constant's megabytes would be in each crate that inlines its use.
pub(super) static SOURCES: &[Source] = include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Architectures that `build.rs` compiles machine code for.
const CUBIN_ARCHITECTURES: &[u32] = &include!(concat!(env!("OUT_DIR"), "/architectures.rs")).0;
/// Architecture of the embedded PTX.
const PTX_ARCHITECTURE: u32 = include!(concat!(env!("OUT_DIR"), "/architectures.rs")).1;

/// What the program carries beside the kernels' sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Architectures with machine code: 90 for sm_90.
    pub cubins: Vec<u32>,
    /// Architecture of the PTX, which later ones can compile.
    pub ptx: Option<u32>,
    /// Number of kernels.
    pub kernels: usize,
}

/// What this program was built with.
pub fn embedded() -> Embedded {
    let built = is_built();
    Embedded {
        cubins: if built { CUBIN_ARCHITECTURES.to_vec() } else { Vec::new() },
        ptx: built.then_some(PTX_ARCHITECTURE),
        kernels: SOURCES.iter().map(|source| source.kernels.len()).sum(),
    }
}

/// The PTX that this program was built with, each text with its source's name.
pub fn embedded_ptx() -> impl Iterator<Item = (&'static str, &'static str)> {
    SOURCES.iter().filter_map(|source| Some((source.name, source.ptx?)))
}

/// The machine code that this program was built with, each file with its source's name: a fatbin of
/// all its architectures.
pub fn embedded_cubins() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    SOURCES.iter().filter_map(|source| Some((source.name, source.cubins?)))
}

fn is_built() -> bool {
    SOURCES.iter().all(|source| source.cubins.is_some() && source.ptx.is_some())
}

/// The form in which a device's kernels were loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadedImage {
    /// Machine code from the program.
    Cubin,
    /// PTX from the program, compiled by the driver.
    Ptx,
    /// Compiled from source by NVRTC.
    Nvrtc,
    /// Built for the host, run by the simulated driver.
    Simulated,
}

impl LoadedImage {
    /// The forms that a device may get, in the order in which they are tried.
    ///
    /// # Errors
    /// [`Error::Device`] if the form asked for is not in the program.
    pub(super) fn candidates(device: &DeviceInfo, wanted: CudaImage) -> Result<Vec<Self>> {
        let architecture = architecture(device);
        let (built, has_cubin) = (is_built(), cubin_for(architecture).is_some() && is_built());
        let missing = |what: &str| {
            Err(Error::Device {
                device: format!("cuda:{}", device.ordinal),
                message: format!(
                    "this program has no {what} for sm_{architecture}; build it with nvcc, or choose \
                     nvrtc"
                ),
            })
        };
        match wanted {
            CudaImage::Cubin if has_cubin => Ok(vec![LoadedImage::Cubin]),
            CudaImage::Cubin => missing("machine code"),
            CudaImage::Ptx if built => Ok(vec![LoadedImage::Ptx]),
            CudaImage::Ptx => missing("PTX"),
            CudaImage::Nvrtc => Ok(vec![LoadedImage::Nvrtc]),
            CudaImage::Auto => {
                let all = [
                    (LoadedImage::Simulated, device.simulated),
                    (LoadedImage::Cubin, has_cubin),
                    (LoadedImage::Ptx, built),
                    (LoadedImage::Nvrtc, true),
                ];
                Ok(all.into_iter().filter(|(_, there)| *there).map(|(image, _)| image).collect())
            }
        }
    }

    /// The architecture that the kernels were compiled for, as `__CUDA_ARCH__ / 10` has it: where
    /// it decides the size of shared memory, the host must decide likewise.
    pub(super) fn architecture(self, device: &DeviceInfo) -> u32 {
        let own = architecture(device);
        match self {
            LoadedImage::Cubin => cubin_for(own).unwrap_or(own),
            LoadedImage::Nvrtc => nvrtc::target(own).architecture,
            LoadedImage::Ptx | LoadedImage::Simulated => PTX_ARCHITECTURE,
        }
    }
}

impl fmt::Display for LoadedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadedImage::Cubin => "cubin",
            LoadedImage::Ptx => "ptx",
            LoadedImage::Nvrtc => "nvrtc",
            LoadedImage::Simulated => "simulated",
        })
    }
}

/// A device's own architecture: 90 for sm_90.
pub(super) fn architecture(device: &DeviceInfo) -> u32 {
    device.capability.0 * 10 + device.capability.1
}

/// The embedded architecture whose machine code a device runs.
fn cubin_for(device: u32) -> Option<u32> {
    latest_that_runs(CUBIN_ARCHITECTURES, device)
}

/// Systems on a chip, which run no machine code but their own, and no other device runs theirs.
const ALONE: &[u32] = &[87, 101, 110];

/// The latest of some architectures whose machine code runs on a device: its own, or an earlier one
/// of the same major number. Source: CUDA C++ programming guide, "Binary Compatibility".
pub(super) fn latest_that_runs(architectures: &[u32], device: u32) -> Option<u32> {
    let runs = |architecture: &u32| {
        let is_alone = |number: u32| ALONE.contains(&number);
        let is_earlier = architecture / 10 == device / 10 && *architecture <= device;
        *architecture == device || (is_earlier && !is_alone(*architecture) && !is_alone(device))
    };
    architectures.iter().copied().filter(runs).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(capability: (u32, u32), simulated: bool) -> DeviceInfo {
        let (model, driver) = ("test".into(), (13, 0));
        DeviceInfo {
            ordinal: 0,
            model,
            capability,
            multiprocessors: 1,
            memory: 1,
            driver,
            simulated,
        }
    }

    #[test]
    fn sources_are_whole() {
        for source in SOURCES {
            assert!(!source.kernels.is_empty(), "{}", source.name);
            assert!(!source.text.contains("#include \"lib/"), "{}", source.name);
            for kernel in source.kernels {
                assert!(source.text.contains(&format!(" {kernel}(")), "{kernel}");
            }
        }
    }

    #[test]
    fn the_simulated_driver_gets_its_own_image() {
        let first = |device: &DeviceInfo, wanted| {
            LoadedImage::candidates(device, wanted).ok().and_then(|all| all.first().copied())
        };
        let simulated = first(&device((9, 0), true), CudaImage::Auto);
        assert_eq!(simulated, Some(LoadedImage::Simulated));
        let compiled = first(&device((9, 0), false), CudaImage::Nvrtc);
        assert_eq!(compiled, Some(LoadedImage::Nvrtc));
    }

    /// Whatever a program was built with, a device's last resort is NVRTC.
    #[test]
    fn every_device_has_a_last_resort() {
        for capability in [(8, 0), (8, 7), (9, 0), (10, 3), (12, 1), (13, 0)] {
            let all = LoadedImage::candidates(&device(capability, false), CudaImage::Auto);
            assert_eq!(all.ok().and_then(|all| all.last().copied()), Some(LoadedImage::Nvrtc));
        }
    }

    #[test]
    fn machine_code_serves_later_devices_of_its_kind() {
        let latest = |device| latest_that_runs(&[80, 86, 89, 90, 100, 120], device);
        for (device, expected) in [
            (80, Some(80)),
            (86, Some(86)),
            (87, None),
            (89, Some(89)),
            (90, Some(90)),
            (103, Some(100)),
            (110, None),
            (121, Some(120)),
            (75, None),
            (130, None),
        ] {
            assert_eq!(latest(device), expected, "sm_{device}");
        }
        assert_eq!(latest_that_runs(&[80, 87], 89), Some(80), "not the code of a system on a chip");
        assert_eq!(latest_that_runs(&[87], 87), Some(87));
    }
}
