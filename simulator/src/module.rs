// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules: images that name kernels, each of which must have a build for the host.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::sync::Arc;

use crate::capture::Reach;
use crate::driver::{call, call_always, Driver, Handle};
use crate::engine::Engine;
use crate::function::Function;
use crate::ptx::{self, Entry};
use crate::settings::{ImageKind, Mode};
use crate::status::{put, Result, Status};

/// A loaded image.
#[derive(Debug)]
pub(crate) enum Module {
    /// PTX, or a list of names.
    Text(BTreeMap<String, Entry>),
    /// A cubin or fat binary, which is not read: every kernel built for the host may be in it.
    Binary,
}

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const FAT_BINARY_MAGIC: [u8; 4] = 0xba55_ed50_u32.to_le_bytes();

impl Driver {
    /// # Safety
    /// `image` is a zero-terminated text or a binary image.
    unsafe fn load_module(&mut self, image: *const c_void) -> Result<Handle> {
        if image.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: any image has four bytes, the shortest text being an entry.
        let magic = unsafe { image.cast::<[u8; 4]>().read_unaligned() };
        let module = if magic == ELF_MAGIC || magic == FAT_BINARY_MAGIC {
            self.check_kind(ImageKind::Binary)?;
            Module::Binary
        } else {
            // SAFETY: an image that is not binary is a zero-terminated text.
            let text = unsafe { CStr::from_ptr(image.cast()) }.to_string_lossy();
            self.check_version(&text)?;
            Module::Text(self.check_text(&text)?)
        };
        self.counters.modules += 1;
        let handle = self.new_handle();
        self.modules.insert(handle, module);
        Ok(handle)
    }

    fn check_kind(&mut self, kind: ImageKind) -> Result<()> {
        match self.settings.refused_images[kind as usize] {
            0 => Ok(()),
            code => self.refuse(Status(code), format!("{kind:?} images are refused by a test")),
        }
    }

    /// Refuses PTX that is later than the driver, as a compiler does.
    fn check_version(&mut self, text: &str) -> Result<()> {
        let Some(version) = ptx::version(text) else { return self.check_kind(ImageKind::Names) };
        self.check_kind(ImageKind::Ptx)?;
        match self.settings.latest_ptx {
            0 => Ok(()),
            latest if version <= latest => Ok(()),
            latest => {
                let shown = |version: u32| format!("{}.{}", version / 10, version % 10);
                let text = format!("PTX {} is later than {}", shown(version), shown(latest));
                self.refuse(Status::UNSUPPORTED_PTX_VERSION, text)
            }
        }
    }

    /// Compares each entry with the kernel built for the host.
    fn check_text(&mut self, text: &str) -> Result<BTreeMap<String, Entry>> {
        if let Some(target) = ptx::target(text).filter(|target| *target > self.device().version()) {
            let text = format!(
                "the module is for sm_{target}, the device is sm_{}",
                self.device().version()
            );
            return self.refuse(Status::NO_BINARY_FOR_GPU, text);
        }
        let entries = match ptx::entries(text) {
            Ok(entries) if entries.is_empty() => {
                return self.refuse(Status::INVALID_IMAGE, "the module has no .entry")
            }
            Ok(entries) => entries,
            Err(problem) => return self.refuse(Status::INVALID_PTX, problem),
        };
        let engine = match Engine::get(Mode::Plain) {
            Ok(engine) => engine,
            Err(problem) => return self.refuse(Status::FILE_NOT_FOUND, problem),
        };
        for entry in &entries {
            if let Some(problem) = mismatch(engine, entry) {
                return self.refuse(Status::INVALID_IMAGE, problem);
            }
        }
        Ok(entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect())
    }

    fn get_function(&mut self, module: Handle, name: &str) -> Result<Handle> {
        let most_threads = match self.modules.get(&module) {
            None => return Err(Status::INVALID_HANDLE),
            Some(Module::Binary) => None,
            Some(Module::Text(entries)) => match entries.get(name) {
                Some(entry) => entry.most_threads,
                None => {
                    return self
                        .refuse(Status::NOT_FOUND, format!("the module has no kernel {name}"))
                }
            },
        };
        let engine = match Engine::get(Mode::Plain) {
            Ok(engine) => engine,
            Err(problem) => return self.refuse(Status::FILE_NOT_FOUND, problem),
        };
        let Some(parameters) = engine.parameters(name) else {
            return self.refuse(Status::NOT_FOUND, format!("kernel {name} has no host build"));
        };
        let handle = self.new_handle();
        let most_threads = most_threads.unwrap_or(self.device().threads_per_block);
        let name: Arc<str> = name.into();
        self.functions.insert(
            handle,
            Function { name, parameters, most_threads, dynamic_limit: Function::DEFAULT_DYNAMIC },
        );
        Ok(handle)
    }
}

fn mismatch(engine: &Engine, entry: &Entry) -> Option<String> {
    let name = &entry.name;
    let Some(host) = engine.parameters(name) else {
        let known: Vec<_> = engine.names().collect();
        return Some(format!(
            "kernel {name} has no host build (is KILN_EXPORT({name}) missing?); there are {}: {}",
            known.len(),
            known.join(", ")
        ));
    };
    let host: Vec<u32> = host.iter().map(|parameter| parameter.bytes).collect();
    let found = entry.parameters.as_ref()?;
    (*found != host).then(|| {
        format!(
            "kernel {name}: its parameters are {found:?} bytes in the module, {host:?} in the host \
             build"
        )
    })
}

#[no_mangle]
unsafe extern "C" fn cuModuleLoadData(module: *mut Handle, image: *const c_void) -> Status {
    call(|driver| {
        driver.unsafe_call("a module was loaded", Reach::Device)?;
        // SAFETY: the caller gives an image, and a place for the handle.
        unsafe { put(module, driver.load_module(image)?) }.ok()
    })
}

#[no_mangle]
unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut Handle,
    image: *const c_void,
    _option_count: c_uint,
    _options: *const c_int,
    _values: *const *const c_void,
) -> Status {
    // SAFETY: the caller's promise is passed on; options steer a compiler that does not run here.
    unsafe { cuModuleLoadData(module, image) }
}

#[no_mangle]
unsafe extern "C" fn cuModuleLoad(module: *mut Handle, path: *const c_char) -> Status {
    call(|driver| {
        // SAFETY: the caller gives a zero-terminated path.
        let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
        let Ok(mut image) = std::fs::read(&path) else {
            return driver.refuse(Status::FILE_NOT_FOUND, path);
        };
        driver.unsafe_call("a module was loaded", Reach::Device)?;
        image.extend([0; 4]);
        // SAFETY: the image ends with a zero, and the caller gives a place for the handle.
        unsafe { put(module, driver.load_module(image.as_ptr().cast())?) }.ok()
    })
}

#[no_mangle]
extern "C" fn cuModuleUnload(module: Handle) -> Status {
    call_always(|driver| {
        if driver.sticky.is_none() {
            driver.unsafe_call("a module was unloaded", Reach::Device)?;
        }
        driver.modules.remove(&module).map(|_| ()).ok_or(Status::INVALID_HANDLE)
    })
}

#[no_mangle]
unsafe extern "C" fn cuModuleGetFunction(
    function: *mut Handle,
    module: Handle,
    name: *const c_char,
) -> Status {
    call(|driver| {
        // SAFETY: the caller gives a zero-terminated name, and a place for the handle.
        unsafe {
            let name = CStr::from_ptr(name).to_string_lossy();
            put(function, driver.get_function(module, &name)?).ok()
        }
    })
}

#[no_mangle]
unsafe extern "C" fn cuModuleGetGlobal_v2(
    _address: *mut usize,
    _bytes: *mut usize,
    _module: Handle,
    name: *const c_char,
) -> Status {
    call(|driver| {
        // SAFETY: the caller gives a zero-terminated name.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        driver.refuse(Status::NOT_FOUND, format!("device variable {name}: kernels here have none"))
    })
}

// Libraries are modules that need no context; here the two are one.

#[no_mangle]
unsafe extern "C" fn cuLibraryLoadData(
    library: *mut Handle,
    image: *const c_void,
    _jit_options: *const c_int,
    _jit_values: *const *const c_void,
    _jit_count: c_uint,
    _options: *const c_int,
    _values: *const *const c_void,
    _count: c_uint,
) -> Status {
    // SAFETY: the caller's promise is passed on.
    unsafe { cuModuleLoadData(library, image) }
}

#[no_mangle]
extern "C" fn cuLibraryUnload(library: Handle) -> Status {
    cuModuleUnload(library)
}

#[no_mangle]
unsafe extern "C" fn cuLibraryGetKernel(
    kernel: *mut Handle,
    library: Handle,
    name: *const c_char,
) -> Status {
    // SAFETY: the caller's promise is passed on.
    unsafe { cuModuleGetFunction(kernel, library, name) }
}

#[no_mangle]
unsafe extern "C" fn cuKernelGetFunction(function: *mut Handle, kernel: Handle) -> Status {
    call(|driver| {
        driver.function(kernel)?;
        // SAFETY: the caller gives a place for the handle.
        unsafe { put(function, kernel) }.ok()
    })
}
