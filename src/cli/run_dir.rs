// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run directories: never written over, and each to one process.

use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use kiln::checkpoint::{write_atomically, DirectoryLock, TRAINING_FILE};
use kiln::{Error, Result};
use serde_json::json;

/// The file that tells what a run worked on.
pub(super) const RUN_FILE: &str = "run.json";

/// Where runs go that were not given a directory.
const HOME: &str = "runs";

/// A run's directory, and the sole right to write to it.
pub(super) struct RunDir {
    path: PathBuf,
    _lock: DirectoryLock,
}

impl RunDir {
    fn locked(path: &Path) -> Result<Self> {
        Ok(RunDir { path: path.into(), _lock: DirectoryLock::acquire(path)? })
    }
}

impl Deref for RunDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

/// Makes the directory of a new run: the one given, which must be new or empty, or the next free
/// `runs/NAME-N`. What a run left that was killed before its first checkpoint counts as nothing.
pub(super) fn create(out: Option<&Path>, name: &str) -> Result<RunDir> {
    match out {
        Some(path) => given(path),
        None => next_free(name),
    }
}

/// Records what a run works on. What is recorded changes no result, so a run that goes on elsewhere is
/// recorded anew.
pub(super) fn record(directory: &Path, device: &str) -> Result<()> {
    let run = json!({ "kiln": env!("CARGO_PKG_VERSION"), "device": device });
    write_atomically(directory.join(RUN_FILE), format!("{run:#}\n").as_bytes())
}

/// The directory of a run that is to go on.
pub(super) fn open(path: &Path) -> Result<RunDir> {
    open_with(path, TRAINING_FILE)
}

/// The directory of something that is to go on, as a file in it says.
pub(super) fn open_with(path: &Path, file: &str) -> Result<RunDir> {
    let training = path.join(file);
    match fs::metadata(&training) {
        Ok(_) => RunDir::locked(path),
        Err(_) if is_bare(path).unwrap_or(false) => {
            let expected =
                "a run that came to its first checkpoint; without --resume it begins anew";
            Err(Error::argument("resume", expected, path.display()))
        }
        Err(error) => Err(Error::io("read", training)(error)),
    }
}

fn given(path: &Path) -> Result<RunDir> {
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    // Asked before the lock, whose file would be a trace in the directory of somebody else; and
    // after it, since another run may have begun meanwhile.
    demand_bare(path)?;
    let directory = RunDir::locked(path)?;
    demand_bare(path)?;
    Ok(directory)
}

fn demand_bare(path: &Path) -> Result<()> {
    match is_bare(path)? {
        true => Ok(()),
        false => {
            let expected = "a new or empty directory, or --resume to continue the run in it";
            Err(Error::argument("out", expected, path.display()))
        }
    }
}

/// Whether a directory holds nothing, or nothing but what a killed run left.
fn is_bare(path: &Path) -> Result<bool> {
    for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
        let entry = entry.map_err(Error::io("read", path))?;
        if !DirectoryLock::is_trace(&entry.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn next_free(name: &str) -> Result<RunDir> {
    fs::create_dir_all(HOME).map_err(Error::io("create", HOME))?;
    let mut number = 1;
    loop {
        let path = Path::new(HOME).join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return RunDir::locked(&path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("create", path)(error)),
        }
    }
}
