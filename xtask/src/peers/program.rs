// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs of the libraries beside kiln: where they are, and how they are started.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

/// The variable that names the Python to use.
pub(crate) const PYTHON: &str = "TORCH_PYTHON";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peers/pytorch.py");
/// Where cargo leaves the programs of `benches/peers`.
pub(super) const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers/release");

/// What a user would take instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Library {
    Torch,
    Burn,
    Candle,
}

/// A program that can be started.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// A Python, with the script of this repository.
    Python(OsString),
    /// One that needs nothing else.
    Alone(PathBuf),
    /// This program, as kiln.
    Kiln(PathBuf),
}

impl Library {
    /// Its program.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub(crate) fn find(self, programs: Option<&Path>) -> Result<Program, String> {
        if self == Library::Torch {
            let python = std::env::var_os(PYTHON).map(Program::Python);
            return python.ok_or_else(|| format!("{PYTHON} names no Python with torch"));
        }
        let folder = programs.unwrap_or(Path::new(BUILT));
        let path = folder.join(format!("peer-{self}{}", std::env::consts::EXE_SUFFIX));
        if path.is_file() {
            return Ok(Program::Alone(path));
        }
        let how = format!("`cd benches/peers/{self} && cargo build --release --locked` makes it");
        Err(format!("there is no {}: {how}", path.display()))
    }
}

impl Program {
    /// How it is started for work of so many threads.
    pub(super) fn command(&self, threads: NonZeroUsize) -> Command {
        let mut command = match self {
            Program::Python(python) => {
                let mut command = Command::new(python);
                command.arg(SCRIPT);
                command
            }
            Program::Alone(path) => Command::new(path),
            Program::Kiln(path) => {
                let mut command = Command::new(path);
                command.arg("peer");
                command
            }
        };
        command.arg(threads.to_string());
        // Thread pools and BLAS libraries read these once, when they begin.
        for name in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(name, threads.to_string());
        }
        command
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Library::Torch => "torch",
            Library::Burn => "burn",
            Library::Candle => "candle",
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Python(python) => python.display().fmt(f),
            Program::Alone(path) | Program::Kiln(path) => path.display().fmt(f),
        }
    }
}
