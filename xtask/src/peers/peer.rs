// SPDX-License-Identifier: MIT OR Apache-2.0
//! A resident process of another library on the CPU.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use super::case::Case;
use super::program::Program;
use super::talk::{positive, shown, Talk};
use crate::Result;

/// How PyTorch is told to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torch {
    /// As it does by itself.
    Eager,
    /// With `fused=True` for its optimiser, with images in channels_last, and in inference mode.
    Best,
    /// With all that, compiled.
    Compiled,
}

/// How long a step takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepTime {
    /// Milliseconds that pass, in the middle and in the slowest hundredth.
    pub(crate) passed: f64,
    pub(crate) slow: f64,
    /// Milliseconds that processors work for it, where the peer tells.
    pub(crate) worked: Option<f64>,
}

/// What came of a peer's step under kiln's masks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stepped {
    Loss(f64),
    /// None: its library cannot take masks.
    TakesNoMasks,
}

/// A running peer; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Peer(Talk);

impl Peer {
    /// Starts a program with this many threads and waits until it is ready.
    pub(crate) fn start(
        program: &Program,
        threads: NonZeroUsize,
        patience: Duration,
    ) -> Result<Self> {
        let name = program.to_string();
        Talk::start(&mut program.command(threads), &name, patience).map(Peer)
    }

    /// The version of its library.
    pub(crate) fn version(&self) -> &str {
        self.0.version()
    }

    /// Its number among the system's processes.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Repeats a case's step for some time.
    pub(crate) fn time(&mut self, case: &str, milliseconds: u64) -> Result<StepTime> {
        let answer = self.0.ask_for(milliseconds, &format!("time {case} {milliseconds}"))?;
        let passed = positive(&answer, "step_median_ms")?;
        let slow = positive(&answer, "step_p99_ms")?;
        Ok(StepTime { passed, slow, worked: answer["processor_median_ms"].as_f64() })
    }

    /// Makes so many steps of a case.
    pub(super) fn steps(&mut self, case: &str, count: u32) -> Result<()> {
        self.0.ask(&format!("steps {case} {count}")).map(drop)
    }

    /// Makes one step from the state in a directory, leaves the result there, and tells the loss.
    pub(super) fn step(&mut self, case: &str, directory: &Path) -> Result<Stepped> {
        let answer = self.0.ask(&format!("check {case} {}", directory.display()))?;
        match (answer["loss"].as_f64(), answer["masks"].as_str()) {
            (Some(loss), _) => Ok(Stepped::Loss(loss)),
            (None, Some("none")) => Ok(Stepped::TakesNoMasks),
            _ => Err(format!("the peer: expected a loss, got {}", shown(&answer)).into()),
        }
    }

    /// Ends a peer that may listen no more.
    pub(super) fn abandon(self) {
        self.0.abandon();
    }
}

impl Torch {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Torch::Eager => "torch-eager",
            Torch::Best => "torch-best",
            Torch::Compiled => "torch-compiled",
        }
    }

    /// The case by the name that the peer knows.
    pub(crate) fn case_name(self, case: &Case) -> String {
        let suffix = match self {
            Torch::Eager => "",
            Torch::Best => "+best",
            Torch::Compiled => "+compiled",
        };
        format!("{}{suffix}", case.name)
    }
}
