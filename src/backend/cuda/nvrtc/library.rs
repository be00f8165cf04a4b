// SPDX-License-Identifier: MIT OR Apache-2.0
//! NVRTC's library, found at run time: the one that `KILN_NVRTC` names, else where the system's loader
//! finds it, else in the Python environment that is active, else in the folders of an installed toolkit.

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;

use libloading::Library;

use crate::backend::cuda::system::System;

type Program = *mut c_void;
type Status = c_int;
const SUCCESS: Status = 0;

/// The functions that tell the size of what was made and copy it.
type Taken = (
    unsafe extern "C" fn(Program, *mut usize) -> Status,
    unsafe extern "C" fn(Program, *mut c_char) -> Status,
);

/// The functions that are used.
pub(super) struct Nvrtc {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    ptx: Taken,
    /// Since CUDA 11.2, as what follows.
    machine_code: Option<Taken>,
    count_architectures: Option<unsafe extern "C" fn(*mut c_int) -> Status>,
    list_architectures: Option<unsafe extern "C" fn(*mut c_int) -> Status>,
    log: Taken,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
}

/// Why there is no code.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What the compiler says about the source.
    Source(String),
    /// The function that failed, and how.
    Call(&'static str, Status),
    /// A function that the library does not have.
    Missing(&'static str),
}

impl Nvrtc {
    /// The library of this machine, loaded when it is first asked for; `None` if there is none.
    pub(super) fn find() -> Option<&'static Nvrtc> {
        static FOUND: OnceLock<Option<Nvrtc>> = OnceLock::new();
        let find = || {
            if let Some(named) = std::env::var_os("KILN_NVRTC").filter(|name| !name.is_empty()) {
                return Self::of_file(Path::new(&named));
            }
            Self::by_name().or_else(Self::of_package).or_else(Self::of_toolkit)
        };
        FOUND.get_or_init(find).as_ref()
    }

    /// That which the system's loader finds.
    fn by_name() -> Option<Self> {
        System::THIS.nvrtc_names().iter().find_map(|name| Self::load(Path::new(name)))
    }

    /// That of the Python package in the active environment.
    fn of_package() -> Option<Self> {
        let folders = System::THIS.package_folders(&|name| std::env::var_os(name));
        folders.iter().find_map(|folder| Self::of_folder(folder))
    }

    /// That of an installed toolkit, the latest first.
    fn of_toolkit() -> Option<Self> {
        let folders = System::THIS.toolkit_folders(&|name| std::env::var_os(name));
        folders.iter().find_map(|folder| Self::of_folder(folder))
    }

    fn of_folder(folder: &Path) -> Option<Self> {
        let libraries = files(folder, |name| System::THIS.is_nvrtc(name));
        let found = libraries.iter().rev().find_map(|file| Self::load(file))?;
        load_builtins(folder);
        Some(found)
    }

    /// One that the user names.
    fn of_file(file: &Path) -> Option<Self> {
        let found = Self::load(file)?;
        if let Some(folder) = file.parent() {
            load_builtins(folder);
        }
        Some(found)
    }

    fn load(file: &Path) -> Option<Self> {
        // SAFETY: loads the compiler's library, as any program that uses it does.
        let library = unsafe { Library::new(file) }.ok()?;
        // SAFETY: the types are those of `nvrtc.h`.
        let found = unsafe {
            Nvrtc {
                version: *library.get(b"nvrtcVersion\0").ok()?,
                create: *library.get(b"nvrtcCreateProgram\0").ok()?,
                compile: *library.get(b"nvrtcCompileProgram\0").ok()?,
                ptx: (
                    *library.get(b"nvrtcGetPTXSize\0").ok()?,
                    *library.get(b"nvrtcGetPTX\0").ok()?,
                ),
                machine_code: match library.get(b"nvrtcGetCUBINSize\0") {
                    Ok(size) => Some((*size, *library.get(b"nvrtcGetCUBIN\0").ok()?)),
                    Err(_) => None,
                },
                count_architectures: library.get(b"nvrtcGetNumSupportedArchs\0").ok().map(|f| *f),
                list_architectures: library.get(b"nvrtcGetSupportedArchs\0").ok().map(|f| *f),
                log: (
                    *library.get(b"nvrtcGetProgramLogSize\0").ok()?,
                    *library.get(b"nvrtcGetProgramLog\0").ok()?,
                ),
                destroy: *library.get(b"nvrtcDestroyProgram\0").ok()?,
            }
        };
        // The functions are used until the process ends.
        std::mem::forget(library);
        Some(found)
    }

    /// Major and minor version; `None` if the library does not tell.
    pub(super) fn version(&self) -> Option<(i32, i32)> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both places are valid to write.
        let status = unsafe { (self.version)(&mut major, &mut minor) };
        (status == SUCCESS).then_some((major, minor))
    }

    /// Architectures that it compiles for, as 90 for sm_90; none if the library does not tell.
    pub(super) fn architectures(&self) -> Vec<u32> {
        let (Some(count), Some(list)) = (self.count_architectures, self.list_architectures) else {
            return Vec::new();
        };
        let mut number = 0;
        // SAFETY: the place is valid to write.
        let counted = unsafe { count(&mut number) };
        let mut known: Vec<c_int> = vec![0; usize::try_from(number).unwrap_or(0)];
        if counted != SUCCESS || known.is_empty() {
            return Vec::new();
        }
        // SAFETY: there is room for as many numbers as the library said.
        match unsafe { list(known.as_mut_ptr()) } {
            SUCCESS => known.into_iter().filter_map(|number| u32::try_from(number).ok()).collect(),
            _ => Vec::new(),
        }
    }

    /// Machine code of a source.
    pub(super) fn machine_code(
        &self,
        name: &str,
        text: &str,
        options: &[String],
    ) -> Result<Vec<u8>, Refusal> {
        let taken = self.machine_code.ok_or(Refusal::Missing("nvrtcGetCUBIN"))?;
        self.compile(name, text, options)?.bytes("nvrtcGetCUBIN", taken)
    }

    /// PTX of a source.
    pub(super) fn ptx(
        &self,
        name: &str,
        text: &str,
        options: &[String],
    ) -> Result<Vec<u8>, Refusal> {
        let program = self.compile(name, text, options)?;
        program.text("nvrtcGetPTX", self.ptx).map(String::into_bytes)
    }

    fn compile(
        &self,
        name: &str,
        text: &str,
        options: &[String],
    ) -> Result<Compiling<'_>, Refusal> {
        let c_string = |text: &str| CString::new(text).map_err(|e| Refusal::Source(e.to_string()));
        let (text, name) = (c_string(text)?, c_string(name)?);
        let options: Vec<CString> =
            options.iter().map(|o| c_string(o)).collect::<Result<_, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut handle = ptr::null_mut();
        // SAFETY: the strings end with a zero and live during the call; there are no headers.
        check("nvrtcCreateProgram", unsafe {
            (self.create)(&mut handle, text.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null())
        })?;
        let program = Compiling { nvrtc: self, handle };
        let count = c_int::try_from(options.len()).unwrap_or(c_int::MAX);
        // SAFETY: the program was created, and the options are as many strings that outlive the call.
        let status = unsafe { (self.compile)(handle, count, options.as_ptr()) };
        if status != SUCCESS {
            return Err(match program.text("nvrtcGetProgramLog", self.log) {
                Ok(log) if !log.trim().is_empty() => Refusal::Source(log),
                _ => Refusal::Call("nvrtcCompileProgram", status),
            });
        }
        Ok(program)
    }
}

/// Loads what NVRTC asks the loader for by its name alone, which finds what is loaded already.
fn load_builtins(folder: &Path) {
    for file in files(folder, |name| System::THIS.is_nvrtc_builtins(name)) {
        // SAFETY: loads a part of NVRTC, as NVRTC itself does.
        if let Ok(library) = unsafe { Library::new(file) } {
            std::mem::forget(library);
        }
    }
}

/// Files of a folder whose names are picked, in the order of their names.
fn files(folder: &Path, picked: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&picked))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

fn check(call: &'static str, status: Status) -> Result<(), Refusal> {
    match status {
        SUCCESS => Ok(()),
        _ => Err(Refusal::Call(call, status)),
    }
}

/// A program of NVRTC's, destroyed at the end.
struct Compiling<'a> {
    nvrtc: &'a Nvrtc,
    handle: Program,
}

impl Compiling<'_> {
    /// What the library made.
    fn bytes(&self, call: &'static str, (size, copy): Taken) -> Result<Vec<u8>, Refusal> {
        let mut count = 0;
        // SAFETY: the program lives as long as `self`, and the place is valid to write.
        check(call, unsafe { size(self.handle, &mut count) })?;
        let mut bytes = vec![0u8; count];
        // SAFETY: as above; the library writes as many bytes as it said.
        check(call, unsafe { copy(self.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }

    /// A text that the library made, which ends with a zero.
    fn text(&self, call: &'static str, taken: Taken) -> Result<String, Refusal> {
        let mut bytes = self.bytes(call, taken)?;
        bytes.push(0);
        let text = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
        Ok(text.to_string_lossy().into_owned())
    }
}

impl Drop for Compiling<'_> {
    fn drop(&mut self) {
        // SAFETY: the program was created and is destroyed once. A failure would leave its memory.
        let _ = unsafe { (self.nvrtc.destroy)(&mut self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Later versions come last, so that they are tried first; what is no library is passed over.
    #[test]
    fn a_folder_is_searched_for_every_version() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let names = match System::THIS {
            System::Windows => ["nvrtc64_120_0.dll", "nvrtc64_130_0.dll"],
            System::Linux | System::MacOs => ["libnvrtc.so.12", "libnvrtc.so.13"],
        };
        for name in names.iter().rev().chain(&["readme.txt"]) {
            fs::write(folder.path().join(name), "no library").expect("a file");
        }
        let found = files(folder.path(), |name| name.contains("nvrtc"));
        assert_eq!(found, names.map(|name| folder.path().join(name)));
        assert!(Nvrtc::of_folder(folder.path()).is_none());
    }
}
