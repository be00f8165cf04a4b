// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernels of a device, loaded in the first form that it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;

use super::calls::DriverError;
use super::driver::{CudaFunction, CudaModule};
use super::gpu::Gpu;
use super::image::{LoadedImage, Source, SOURCES};
use super::nvrtc::{self, Code};
use super::options::CudaImage;
use super::sizes::signed;
use crate::{Error, Result};

/// Dynamic shared memory that a kernel may use without having asked for it.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;

/// The kernels of a device, each source loaded when the first of its kernels is needed.
#[derive(Debug)]
pub(super) struct Kernels {
    image: LoadedImage,
    modules: BTreeMap<&'static str, Arc<CudaModule>>,
    functions: BTreeMap<String, CudaFunction>,
}

/// Why a form of the kernels is of no use.
enum Refused {
    /// The device, its driver or this machine has no use for that form; another may do.
    Form(Error),
    /// Anything else.
    Other(Error),
}

impl Kernels {
    /// Takes the first form of the kernels that the device can load. Those that it refuses are
    /// warned about.
    ///
    /// # Errors
    /// [`Error::Device`] with what was said of every form.
    pub(super) fn open(gpu: &Gpu, wanted: CudaImage) -> Result<Self> {
        let mut refused: Vec<(LoadedImage, Error)> = Vec::new();
        for image in LoadedImage::candidates(gpu.info(), wanted)? {
            let mut kernels =
                Kernels { image, modules: BTreeMap::new(), functions: BTreeMap::new() };
            match kernels.load(gpu, probe()?) {
                Ok(_) => {
                    if !refused.is_empty() {
                        let reasons = reasons(&refused);
                        tracing::warn!(device = gpu.name(), image = %image, "kernels are loaded in \
                            another form than the first: {reasons}");
                    }
                    return Ok(kernels);
                }
                Err(Refused::Form(error)) => refused.push((image, error)),
                Err(Refused::Other(error)) => return Err(error),
            }
        }
        match <[_; 1]>::try_from(refused) {
            Ok([(_, error)]) => Err(error),
            Err(refused) => Err(Error::Device {
                device: gpu.name().into(),
                message: format!("its kernels cannot be loaded: {}", reasons(&refused)),
            }),
        }
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
            function.set_attribute(attribute, signed(shared as usize)).map_err(failed)?;
        }
        Ok(function)
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
        self.load(gpu, source).map_err(Refused::into_error)
    }

    /// A source in the form in which it is loaded.
    ///
    /// # Errors
    /// [`Error::Device`] if it has to be compiled and cannot be.
    pub(super) fn code(&self, gpu: &Gpu, source: &Source) -> Result<Code> {
        Ok(match (self.image, source.cubins, source.ptx) {
            (LoadedImage::Cubin, Some(cubins), _) => Code::Machine(cubins.to_vec()),
            (LoadedImage::Ptx, _, Some(ptx)) => Code::Ptx(ptx.into()),
            (LoadedImage::Simulated, ..) => Code::Ptx(names(source)),
            _ => nvrtc::compiled(gpu, source)?,
        })
    }

    fn load(&mut self, gpu: &Gpu, source: &Source) -> Result<Arc<CudaModule>, Refused> {
        if let Some(module) = self.modules.get(source.name) {
            return Ok(module.clone());
        }
        let image = match self.code(gpu, source).map_err(Refused::Form)? {
            Code::Machine(code) => code,
            Code::Ptx(text) => [text.as_bytes(), &[0]].concat(),
        };
        let _turn = gpu.turns().call();
        let module = gpu.context().load_module(&image).map_err(|error| {
            let what = format!("loading {} ({})", source.name, self.image);
            match is_about_the_form(error) {
                true => Refused::Form(explained(gpu, self.image, gpu.error(what, error))),
                false => Refused::Other(gpu.error(what, error)),
            }
        })?;
        self.modules.insert(source.name, module.clone());
        Ok(module)
    }
}

impl Refused {
    fn into_error(self) -> Error {
        match self {
            Refused::Form(error) | Refused::Other(error) => error,
        }
    }
}

/// The source by which a form is tried: the shortest, since a driver may have to compile it.
fn probe() -> Result<&'static Source> {
    let shortest = SOURCES.iter().min_by_key(|source| source.text.len());
    shortest.ok_or_else(|| Error::Internal { pass: "cuda", message: "there are no kernels".into() })
}

/// Whether the driver would say otherwise of the same kernels in another form.
fn is_about_the_form(error: DriverError) -> bool {
    matches!(
        error,
        DriverError::INVALID_IMAGE
            | DriverError::NO_BINARY_FOR_GPU
            | DriverError::INVALID_PTX
            | DriverError::JIT_COMPILER_NOT_FOUND
            | DriverError::UNSUPPORTED_PTX_VERSION
            | DriverError::JIT_COMPILATION_DISABLED
    )
}

/// The driver's words, and what they mean where it is known.
fn explained(gpu: &Gpu, image: LoadedImage, error: Error) -> Error {
    let cause = match image {
        LoadedImage::Nvrtc => nvrtc::too_new_for(gpu.info().driver),
        _ => None,
    };
    match (error, cause) {
        (Error::Device { device, message }, Some(cause)) => {
            Error::Device { device, message: format!("{message} ({cause})") }
        }
        (error, _) => error,
    }
}

fn reasons(refused: &[(LoadedImage, Error)]) -> String {
    let reason = |(image, error): &(LoadedImage, Error)| match error {
        Error::Device { message, .. } => format!("{image}: {message}"),
        error => format!("{image}: {error}"),
    };
    refused.iter().map(reason).collect::<Vec<_>>().join("; ")
}

/// What the simulated driver takes for a module: the names of kernels that it was built with.
fn names(source: &Source) -> String {
    source.kernels.iter().map(|kernel| format!(".visible .entry {kernel}\n")).collect()
}
