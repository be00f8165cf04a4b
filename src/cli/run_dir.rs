// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run directories: never written over.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kiln::{Error, Result};

/// Where runs go that were not given a directory.
const HOME: &str = "runs";

/// Makes the directory of a new run: the one given, which must be new or empty, or the next free
/// `runs/NAME-N`.
pub(super) fn create(out: Option<&Path>, name: &str) -> Result<PathBuf> {
    match out {
        Some(path) => given(path),
        None => next_free(name),
    }
}

fn given(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    let mut entries = fs::read_dir(path).map_err(Error::io("read", path))?;
    if entries.next().is_some() {
        let expected = "a new or empty directory, or --resume to continue the run in it";
        return Err(Error::argument("out", expected, path.display()));
    }
    Ok(path.into())
}

fn next_free(name: &str) -> Result<PathBuf> {
    fs::create_dir_all(HOME).map_err(Error::io("create", HOME))?;
    let mut number = 1;
    loop {
        let path = Path::new(HOME).join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("create", path)(error)),
        }
    }
}
