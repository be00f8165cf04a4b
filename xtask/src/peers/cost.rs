// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a process costs beside its steps: the time until its first step is done, the memory of 200 steps, and the
//! size of the program.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::peer::Peer;
use super::program::{Library, Program};
use super::report::median;
use crate::Result;

/// What every process trains.
const CASE: &str = "a64sgd";
/// Steps of which the memory is told.
const STEPS: u32 = 200;
/// Processes that are started.
const STARTS: usize = 3;
const MIB: f64 = (1 << 20) as f64;

/// The costs of one library.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Cost {
    pub(crate) peer: String,
    /// Milliseconds from the start of the process to the end of its first training step.
    pub(crate) first_step_ms: Option<f64>,
    /// MiB that were resident at most in 200 steps, where the system tells.
    pub(crate) peak_mib: Option<f64>,
    /// MiB of the stripped program; of PyTorch the package's.
    pub(crate) program_mib: Option<f64>,
    pub(crate) broken: Option<String>,
}

/// Measures kiln and all that takes part, with one thread.
pub(super) fn measure(programs: &[(Library, Program)], patience: Duration) -> Result<Vec<Cost>> {
    let kiln = Program::Kiln(std::env::current_exe()?);
    let kiln = ("kiln".to_owned(), &kiln);
    let others = programs.iter().map(|(library, program)| (library.to_string(), program));
    let cost = |(peer, program): (String, &Program)| match of(program, patience) {
        Ok(cost) => Cost { peer, ..cost },
        Err(why) => Cost { peer, broken: Some(why.to_string()), ..Cost::default() },
    };
    Ok(std::iter::once(kiln).chain(others).map(cost).collect())
}

fn of(program: &Program, patience: Duration) -> Result<Cost> {
    let mut firsts = Vec::new();
    let mut peak_mib = None;
    for start in 0..STARTS {
        let begin = Instant::now();
        let mut peer = Peer::start(program, NonZeroUsize::MIN, patience)?;
        peer.steps(CASE, 1)?;
        firsts.push(begin.elapsed().as_secs_f64() * 1e3);
        if start == 0 {
            peer.steps(CASE, STEPS - 1)?;
            peak_mib = peak(peer.id());
        }
    }
    let program_mib = size(program).map(|bytes| bytes as f64 / MIB);
    let first_step_ms = Some(median(firsts));
    Ok(Cost { first_step_ms, peak_mib, program_mib, ..Cost::default() })
}

/// Most memory of a process that was resident, in MiB.
fn peak(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0 / MIB)
}

/// Bytes that a user has to have.
fn size(program: &Program) -> Option<u64> {
    match program {
        Program::Alone(path) => stripped(path),
        // Its own program, which this one was built beside.
        Program::Kiln(path) => stripped(&path.with_file_name("kiln")),
        Program::Python(python) => {
            let ask = "import importlib.util as u; print(u.find_spec('torch').origin)";
            let output = Command::new(python).args(["-c", ask]).output().ok()?;
            let origin = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
            Some(folder_size(origin.parent()?))
        }
    }
}

/// Bytes of a program without its symbols, if there is a tool that strips.
fn stripped(path: &Path) -> Option<u64> {
    let folder = tempfile::tempdir().ok()?;
    let bare = folder.path().join("bare");
    let status = Command::new("strip").arg("-o").arg(&bare).arg(path).status().ok()?;
    status.success().then(|| std::fs::metadata(&bare).map(|data| data.len()).ok())?
}

fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_size(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}", self.peer)?;
        if let Some(why) = &self.broken {
            return write!(f, " no figures: {why}");
        }
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        let [first, peak] = [self.first_step_ms, self.peak_mib].map(|value| number(value, 0));
        write!(f, " {first:>13} {peak:>9} {:>12}", number(self.program_mib, 1))
    }
}
