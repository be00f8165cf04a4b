// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernels as the program carries them, and how they reach a device.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use cudarc::driver::{CudaFunction, CudaModule};
use cudarc::nvrtc::Ptx;

use super::gpu::{DeviceInfo, Gpu};
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

/// All sources; written by `build.rs`.
pub(super) const SOURCES: &[Source] = include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Architectures that `build.rs` compiles machine code for.
const CUBIN_ARCHITECTURES: &[u32] = &[80, 86, 89, 90, 100, 120];
/// Architecture of the embedded PTX.
const PTX_ARCHITECTURE: u32 = 80;
/// Dynamic shared memory that a kernel may use without having asked for it.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;

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
    /// The form that a device gets.
    ///
    /// # Errors
    /// [`Error::Device`] if the form asked for is not in the program.
    pub fn choose(device: &DeviceInfo, wanted: CudaImage) -> Result<Self> {
        let built = is_built();
        let has_cubin = built && CUBIN_ARCHITECTURES.contains(&architecture(device));
        let missing = |what: &str| {
            Err(Error::Device {
                device: format!("cuda:{}", device.ordinal),
                message: format!(
                    "this program has no {what} for sm_{}; build it with nvcc, or choose nvrtc",
                    architecture(device)
                ),
            })
        };
        match wanted {
            CudaImage::Auto if device.simulated => Ok(LoadedImage::Simulated),
            CudaImage::Auto | CudaImage::Cubin if has_cubin => Ok(LoadedImage::Cubin),
            CudaImage::Auto | CudaImage::Ptx if built => Ok(LoadedImage::Ptx),
            CudaImage::Auto | CudaImage::Nvrtc => Ok(LoadedImage::Nvrtc),
            CudaImage::Cubin => missing("machine code"),
            CudaImage::Ptx => missing("PTX"),
        }
    }

    /// The architecture that the kernels were compiled for, as `__CUDA_ARCH__ / 10` has it: where
    /// it decides the size of shared memory, the host must decide likewise.
    pub(super) fn architecture(self, device: &DeviceInfo) -> u32 {
        match self {
            LoadedImage::Cubin | LoadedImage::Nvrtc => architecture(device),
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

fn architecture(device: &DeviceInfo) -> u32 {
    device.capability.0 * 10 + device.capability.1
}

/// The kernels of a device, each source loaded when the first of its kernels is needed.
#[derive(Debug)]
pub(super) struct Kernels {
    image: LoadedImage,
    modules: BTreeMap<&'static str, Arc<CudaModule>>,
    functions: BTreeMap<String, CudaFunction>,
}

impl Kernels {
    pub(super) fn new(image: LoadedImage) -> Self {
        Kernels { image, modules: BTreeMap::new(), functions: BTreeMap::new() }
    }

    pub(super) fn image(&self) -> LoadedImage {
        self.image
    }

    /// A kernel that may use this much dynamic shared memory.
    ///
    /// # Errors
    /// [`Error::Device`] if it cannot be compiled or loaded.
    pub(super) fn get(&mut self, gpu: &Gpu, name: &str, shared: u32) -> Result<CudaFunction> {
        let failed = |error| gpu.error(format_args!("loading kernel {name}"), error);
        let function = match self.functions.get(name) {
            Some(function) => function.clone(),
            None => {
                let module = self.module(gpu, name)?;
                let _turn = gpu.turns().call(); // a driver that loads lazily does so here
                let function = module.load_function(name).map_err(failed)?;
                self.functions.insert(name.into(), function.clone());
                function
            }
        };
        if shared > SHARED_WITHOUT_ASKING {
            let _turn = gpu.turns().call();
            let attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared as i32).map_err(failed)?;
        }
        Ok(function)
    }

    /// Forgets all kernels: those that no program uses are unloaded.
    pub(super) fn clear(&mut self) {
        self.functions.clear();
        self.modules.clear();
    }

    /// Loads all kernels of all sources; their number.
    pub(super) fn load_all(&mut self, gpu: &Gpu) -> Result<usize> {
        let names = || SOURCES.iter().flat_map(|source| source.kernels);
        names().try_for_each(|kernel| self.get(gpu, kernel, 0).map(drop))?;
        Ok(names().count())
    }

    fn module(&mut self, gpu: &Gpu, kernel: &str) -> Result<Arc<CudaModule>> {
        let source = SOURCES.iter().find(|source| source.kernels.contains(&kernel));
        let source = source.ok_or_else(|| Error::Internal {
            pass: "cuda",
            message: format!("no source has a kernel named {kernel}"),
        })?;
        if let Some(module) = self.modules.get(source.name) {
            return Ok(module.clone());
        }
        let image = match (self.image, source.cubins, source.ptx) {
            (LoadedImage::Cubin, Some(cubins), _) => Ptx::from_binary(cubins.to_vec()),
            (LoadedImage::Ptx, _, Some(ptx)) => Ptx::from_src(ptx),
            (LoadedImage::Simulated, ..) => Ptx::from_src(names(source).as_ref()),
            _ => Ptx::from_src(nvrtc::ptx(gpu, source)?),
        };
        let _turn = gpu.turns().call();
        let module = gpu.context().load_module(image);
        let module = module.map_err(|error| {
            gpu.error(format_args!("loading {} ({})", source.name, self.image), error)
        })?;
        self.modules.insert(source.name, module.clone());
        Ok(module)
    }
}

/// What the simulated driver takes for a module: the names of kernels that it was built with.
fn names(source: &Source) -> Cow<'static, str> {
    let entries = source.kernels.iter().map(|kernel| format!(".visible .entry {kernel}\n"));
    entries.collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(capability: (u32, u32), simulated: bool) -> DeviceInfo {
        let model = "test".into();
        DeviceInfo { ordinal: 0, model, capability, multiprocessors: 1, memory: 1, simulated }
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
        let chosen = LoadedImage::choose(&device((9, 0), true), CudaImage::Auto);
        assert_eq!(chosen.ok(), Some(LoadedImage::Simulated));
        let chosen = LoadedImage::choose(&device((9, 0), false), CudaImage::Nvrtc);
        assert_eq!(chosen.ok(), Some(LoadedImage::Nvrtc));
    }
}
