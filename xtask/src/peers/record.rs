// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run that is kept: what was measured, on what, when and how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln::backend::cpu::Cpu;
use serde::{Deserialize, Serialize};

use super::gpu::Found;
use super::report::Report;
use crate::Result;

/// Where runs are kept.
pub(crate) const RUNS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/runs");

/// A run with all that is needed to make it again.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    /// Year, month and day, in UTC.
    pub(crate) date: String,
    pub(crate) machine: Machine,
    /// What cargo was asked for.
    pub(crate) command: String,
    /// What makes each library as fast as it was.
    pub(crate) features: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(crate) report: Report,
    /// What was found on a GPU; then nothing was measured on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gpu: Option<Found>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) processors: usize,
    /// What kiln's kernels compute with.
    pub(crate) instructions: String,
    pub(crate) system: String,
    /// Processes that wanted a processor in the last minute, where the system tells: more than were measured
    /// with, and others were at work too.
    pub(crate) load: Option<f64>,
}

impl Record {
    pub(super) fn new(report: Report, gpu: Option<Found>) -> Result<Self> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let on_cpu = [
            ("kiln", "release, instructions chosen at run time"),
            ("torch-best", "fused optimiser, channels_last, inference mode"),
            ("burn", "flex; simd, rayon, x86-v4; target-cpu=native"),
            ("candle", "gemm with x86-v4; target-cpu=native"),
        ];
        let on_gpu = [
            ("kiln", "release, captured steps"),
            ("torch-fused", "fused optimiser"),
            ("torch-graph", "fused optimiser, captured as a CUDA graph"),
            ("burn", "cuda; fusion, autotune"),
        ];
        let features = if gpu.is_some() { on_gpu } else { on_cpu };
        let features = features.map(|(name, what)| (name.to_owned(), what.to_owned()));
        Ok(Record {
            date: date_of(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400),
            machine: Machine {
                cpu: cpu(),
                processors: std::thread::available_parallelism()?.get(),
                instructions: Cpu::instruction_set(),
                system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                load: load(),
            },
            command: format!("cargo xtask {}", arguments.join(" ")),
            features: features.into(),
            report,
            gpu,
        })
    }

    /// Whether it was made on a GPU.
    pub(crate) fn is_of_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Whether it was made on the CPU.
    pub(crate) fn is_of_cpu(&self) -> bool {
        self.gpu.is_none()
    }

    /// Keeps it under its date and its machine.
    pub(super) fn save(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let of = self.gpu.as_ref().map_or(&self.machine.cpu, |gpu| &gpu.origin.device);
        let path = folder.join(format!("{}-{}.json", self.date, slug(of)));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// The run of a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let of = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| of(&error))?;
        Ok(serde_json::from_str(&text).map_err(|error| of(&error))?)
    }
}

/// The processor's name, where the system tells.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Letters and digits in lower case, all else as single hyphens.
fn slug(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<String> =
        words.filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
    words.join("-")
}

/// Year, month and day of a number of days since the beginning of 1970.
fn date_of(days: u64) -> String {
    let is_leap = |year: u64| {
        let is = |years| year.is_multiple_of(years);
        (is(4) && !is(100)) || is(400)
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        let dates = [0, 59, 11_016, 19_782, 20_453].map(date_of);
        assert_eq!(dates, ["1970-01-01", "1970-03-01", "2000-02-29", "2024-02-29", "2025-12-31"]);
    }

    #[test]
    fn a_run_is_read_as_it_was_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let gpu = Found { is_timed: true, ..Found::default() };
        for gpu in [None, Some(gpu)] {
            let record = Record::new(Report::default(), gpu).expect("a record");
            let path = record.save(folder.path()).expect("a file");
            let read = Record::read(&path).expect("a run");
            let text = |record: &Record| serde_json::to_string(record).expect("JSON");
            assert_eq!(text(&read), text(&record));
            assert_eq!(
                [read.is_of_gpu(), read.is_of_cpu()],
                [record.gpu.is_some(), record.gpu.is_none()]
            );
        }
        assert_eq!(slug("AMD EPYC 9B14 (2.6 GHz)"), "amd-epyc-9b14-2-6-ghz");
    }
}
