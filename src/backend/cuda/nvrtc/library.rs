// SPDX-License-Identifier: MIT OR Apache-2.0
//! NVRTC's library, found at run time: where the system's loader finds it, else in the folders of an
//! installed toolkit. Its functions have been the same since CUDA 8.

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
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
}

/// Why there is no PTX.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What the compiler says about the source.
    Source(String),
    /// The function that failed, and how.
    Call(&'static str, Status),
}

impl Nvrtc {
    /// The library of this machine, loaded when it is first asked for; `None` if there is none.
    pub(super) fn find() -> Option<&'static Nvrtc> {
        static FOUND: OnceLock<Option<Nvrtc>> = OnceLock::new();
        FOUND.get_or_init(|| Self::by_name().or_else(Self::of_toolkit)).as_ref()
    }

    /// That which the system's loader finds.
    fn by_name() -> Option<Self> {
        System::THIS.nvrtc_names().iter().find_map(|name| Self::load(Path::new(name)))
    }

    /// That of an installed toolkit, the latest first.
    fn of_toolkit() -> Option<Self> {
        let folders = System::THIS.toolkit_folders(&|name| std::env::var_os(name));
        folders.iter().find_map(|folder| Self::of_folder(folder))
    }

    fn of_folder(folder: &Path) -> Option<Self> {
        let libraries = files(folder, |name| System::THIS.is_nvrtc(name));
        let found = libraries.iter().rev().find_map(|file| Self::load(file))?;
        // It asks the loader for these by their names alone, which finds what is loaded already.
        for file in files(folder, |name| System::THIS.is_nvrtc_builtins(name)) {
            // SAFETY: loads a part of NVRTC, as NVRTC itself does.
            if let Ok(library) = unsafe { Library::new(file) } {
                std::mem::forget(library);
            }
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
                ptx_size: *library.get(b"nvrtcGetPTXSize\0").ok()?,
                ptx: *library.get(b"nvrtcGetPTX\0").ok()?,
                log_size: *library.get(b"nvrtcGetProgramLogSize\0").ok()?,
                log: *library.get(b"nvrtcGetProgramLog\0").ok()?,
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

    /// PTX of a source.
    pub(super) fn compile(
        &self,
        name: &str,
        text: &str,
        options: &[String],
    ) -> Result<String, Refusal> {
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
        // SAFETY: the program was created, and the options are as many strings that outlive the call.
        let status = unsafe { (self.compile)(handle, options.len() as c_int, options.as_ptr()) };
        if status != SUCCESS {
            return Err(match program.text("nvrtcGetProgramLog", self.log_size, self.log) {
                Ok(log) if !log.trim().is_empty() => Refusal::Source(log),
                _ => Refusal::Call("nvrtcCompileProgram", status),
            });
        }
        program.text("nvrtcGetPTX", self.ptx_size, self.ptx)
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
    /// A text that the library holds, by the function that tells its size, its zero included, and the
    /// one that copies it.
    fn text(
        &self,
        call: &'static str,
        size: unsafe extern "C" fn(Program, *mut usize) -> Status,
        copy: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ) -> Result<String, Refusal> {
        let mut bytes = 0;
        // SAFETY: the program lives as long as `self`, and the place is valid to write.
        check(call, unsafe { size(self.handle, &mut bytes) })?;
        let mut text = vec![0u8; bytes + 1];
        // SAFETY: as above; the library writes as many bytes as it said.
        check(call, unsafe { copy(self.handle, text.as_mut_ptr().cast()) })?;
        let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
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
