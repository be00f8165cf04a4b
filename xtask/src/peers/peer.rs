// SPDX-License-Identifier: MIT OR Apache-2.0
//! A resident process of another library: one line of text asks, one line of JSON answers.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::case::Case;
use super::process::{Heard, Process};
use super::program::Program;
use crate::Result;

/// Most bytes of an answer that a message shows.
const SHOWN: usize = 200;
/// Seconds that a peer has for an answer by default, beside those that it is asked to work.
pub(crate) const PATIENCE: u64 = 120;
/// A peer has so many times what a turn is asked to last: its warm-up and its last step are no part of that.
const TURNS: u64 = 10;

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
pub(crate) struct Peer {
    process: Process,
    /// How long an answer may take.
    patience: Duration,
    version: String,
}

impl Peer {
    /// Starts a program with this many threads and waits until it is ready.
    pub(crate) fn start(
        program: &Program,
        threads: NonZeroUsize,
        patience: Duration,
    ) -> Result<Self> {
        let process = Process::start(&mut program.command(threads))
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let mut peer = Peer { process, patience, version: String::new() };
        match peer.answer(patience) {
            Ok(greeting) => match greeting["version"].as_str() {
                Some(version) => peer.version = version.to_owned(),
                None => {
                    peer.abandon();
                    return Err("the peer told no version".into());
                }
            },
            Err(error) => {
                peer.abandon();
                return Err(error);
            }
        }
        Ok(peer)
    }

    /// The version of its library.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Its number among the system's processes.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Repeats a case's step for some time.
    pub(crate) fn time(&mut self, case: &str, milliseconds: u64) -> Result<StepTime> {
        let answer = self.ask_for(milliseconds, &format!("time {case} {milliseconds}"))?;
        let passed = positive(&answer, "step_median_ms")?;
        let slow = positive(&answer, "step_p99_ms")?;
        Ok(StepTime { passed, slow, worked: answer["processor_median_ms"].as_f64() })
    }

    /// Makes so many steps of a case.
    pub(super) fn steps(&mut self, case: &str, count: u32) -> Result<()> {
        self.ask(&format!("steps {case} {count}")).map(drop)
    }

    /// Makes one step from the state in a directory, leaves the result there, and tells the loss.
    pub(super) fn step(&mut self, case: &str, directory: &Path) -> Result<Stepped> {
        let answer = self.ask(&format!("check {case} {}", directory.display()))?;
        match (answer["loss"].as_f64(), answer["masks"].as_str()) {
            (Some(loss), _) => Ok(Stepped::Loss(loss)),
            (None, Some("none")) => Ok(Stepped::TakesNoMasks),
            _ => Err(format!("the peer: expected a loss, got {}", shown(&answer)).into()),
        }
    }

    /// Ends a peer that may listen no more.
    pub(super) fn abandon(mut self) {
        self.process.kill();
    }

    fn ask(&mut self, question: &str) -> Result<Value> {
        self.ask_for(0, question)
    }

    /// Asks for something that is to last so many milliseconds.
    fn ask_for(&mut self, milliseconds: u64, question: &str) -> Result<Value> {
        self.process.say(question).map_err(|error| format!("the peer is gone: {error}"))?;
        let work = Duration::from_millis(milliseconds.saturating_mul(TURNS));
        let answer = self.answer(self.patience.saturating_add(work))?;
        match answer.get("error") {
            Some(error) => Err(format!("the peer cannot `{question}`: {error}").into()),
            None => Ok(answer),
        }
    }

    fn answer(&mut self, limit: Duration) -> Result<Value> {
        let line = match self.process.hear(limit)? {
            Heard::Line(line) => line,
            Heard::End => return Err(self.last_words()?.into()),
            Heard::Silence => {
                return Err(format!("no answer in {} s", limit.as_secs_f64().round()).into())
            }
        };
        let answer = serde_json::from_str(&line).ok().filter(Value::is_object);
        answer.ok_or_else(|| format!("the peer: expected JSON, got {}", shown(line.trim())).into())
    }

    /// How it ended, and the last line that it complained with.
    fn last_words(&mut self) -> Result<String> {
        let (status, last) = self.process.last_words()?;
        let why = last.map_or(String::new(), |line| format!(", {}", shown(line.trim())));
        Ok(format!("the peer ended before it answered: {status}{why}"))
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

fn positive(answer: &Value, key: &str) -> Result<f64> {
    let value = answer[key].as_f64().filter(|value| *value > 0.0);
    let expected = || format!("the peer: expected {key} above 0, got {}", shown(answer));
    value.ok_or_else(|| expected().into())
}

/// The beginning of something that may be long, on one line.
fn shown(what: impl ToString) -> String {
    let text = what.to_string().escape_debug().to_string();
    text.chars().take(SHOWN).collect()
}
