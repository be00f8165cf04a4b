// SPDX-License-Identifier: MIT OR Apache-2.0
//! A toolkit's stub of the driver, which programs are linked with, where the driver is looked for.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where the system's loader looks first.
const SEARCHED: &str = "LD_LIBRARY_PATH";

/// Begins anew without the folders of stubs, if there are any where drivers are looked for: the loader
/// read the variable when the program began, and would find no other driver. If that fails, the program
/// goes on, and says that it met a stub.
pub(super) fn leave_stubs() {
    let Some(path) = env::var_os(SEARCHED) else { return };
    let (stubs, others): (Vec<PathBuf>, Vec<PathBuf>) =
        env::split_paths(&path).partition(|folder| is_of_stubs(folder));
    if stubs.is_empty() {
        return;
    }
    if let (Ok(program), Ok(others)) = (env::current_exe(), env::join_paths(others)) {
        begin_anew(&program, &others);
    }
}

fn is_of_stubs(folder: &Path) -> bool {
    folder.file_name() == Some(OsStr::new("stubs")) && folder.join("libcuda.so").exists()
}

#[cfg(unix)]
fn begin_anew(program: &Path, searched: &OsStr) {
    use std::os::unix::process::CommandExt;
    let mut arguments = env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It returns only if it fails.
    let _ = command.args(arguments).env(SEARCHED, searched).exec();
}

#[cfg(not(unix))]
fn begin_anew(_: &Path, _: &OsStr) {}
