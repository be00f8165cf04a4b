// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running cases within a budget of time, each within a budget of memory.

use std::any::Any;
use std::fs;
use std::io::Write;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use tempfile::TempDir;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is counted for the process, so targets take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Cases that a target runs however little time there is.
const LEAST: u64 = 40;

/// Numbers that look random and are the same in every run (SplitMix64).
pub(crate) struct Numbers(u64);

/// One case.
pub(crate) struct Case {
    pub(crate) numbers: Numbers,
    /// A folder that is the target's own.
    pub(crate) folder: PathBuf,
    /// Everything that was written in this case.
    written: Vec<PathBuf>,
}

/// Runs cases of a target for its share of the time, in percent.
pub(crate) fn run(target: &str, share: u32, mut body: impl FnMut(&mut Case)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = variable("KILN_FUZZ_SEED").unwrap_or(0x6b69_6c6e);
    let seconds = variable("KILN_FUZZ_SECONDS").unwrap_or(5) as u32;
    let end = Instant::now() + Duration::from_secs(1) * seconds * share / 100;
    let only = variable("KILN_FUZZ_CASE");
    let folder = folder().expect("a folder");
    let mut case = Case { numbers: Numbers(0), folder: folder.path().into(), written: vec![] };
    let mut number = only.unwrap_or(0);
    loop {
        case.numbers = Numbers::new(target.bytes().fold(seed ^ number << 20, mixed));
        case.written.clear();
        let result = catch_unwind(AssertUnwindSafe(|| body(&mut case)));
        if let Err(panic) = result {
            fail(target, seed, number, &case, panic);
        }
        number += 1;
        if only.is_some() || (number >= LEAST && Instant::now() >= end) {
            break;
        }
    }
    say(&format!("{target}: {number} cases, seed {seed}"));
}

/// In memory where the system has a place for it: cases write more than they compute.
fn folder() -> std::io::Result<TempDir> {
    match Path::new("/dev/shm").is_dir() {
        true => TempDir::new_in("/dev/shm"),
        false => TempDir::new(),
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn mixed(sum: u64, byte: u8) -> u64 {
    (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Keeps what the case wrote, and says how to run it again.
fn fail(target: &str, seed: u64, number: u64, case: &Case, panic: Box<dyn Any + Send>) -> ! {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}-{number}"));
    let _ = fs::create_dir_all(&kept);
    for path in &case.written {
        let _ = fs::copy(path, kept.join(path.file_name().unwrap_or_default()));
    }
    let files = kept.display();
    let again =
        format!("KILN_FUZZ_SEED={seed} KILN_FUZZ_CASE={number} cargo test --test fuzz {target}");
    let text = format!("{target}: case {number} of seed {seed} failed; its files are in {files}");
    let _ = writeln!(std::io::stderr(), "{text}\nagain: {again}");
    resume_unwind(panic)
}

impl Case {
    /// Writes a file of the case.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, bytes).expect("a file");
        self.written.push(path.clone());
        path
    }

    /// Calls `body`, which may take so many bytes of memory more than there are in use.
    pub(crate) fn within<T>(&self, limit: usize, body: impl FnOnce() -> T) -> T {
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let result = body();
        let taken = MEMORY.peak_usage().saturating_sub(before);
        assert!(taken <= limit, "{taken} bytes were taken, of {limit} allowed");
        result
    }
}

/// What holds for every error about a file.
pub(crate) fn judge(error: &kiln::Error, file: &Path) {
    let text = error.to_string();
    let name = kiln::Printable(file.display()).to_string();
    assert!(text.contains(&name), "{name} is not named: {text}");
    judge_text(&text);
}

/// What holds for every error.
pub(crate) fn judge_text(text: &str) {
    assert!(!text.contains(char::is_control), "control characters: {text:?}");
    assert!(!text.contains("internal"), "a defect of ours: {text}");
    assert!(text.len() <= 16 << 10, "{} bytes: {text}", text.len());
}

impl Numbers {
    fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is above 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A number at the edge of what a type, a format or a machine can hold.
    pub(crate) fn edge(&mut self) -> u64 {
        let near = self.below(4) as u64;
        match self.below(4) {
            0 => near,
            1 => (1_u64 << self.below(64)).wrapping_sub(near),
            2 => (1_u64 << self.below(64)).wrapping_add(near),
            _ => u64::MAX - near,
        }
    }
}
