// SPDX-License-Identifier: MIT OR Apache-2.0
//! The resident PyTorch process: one line of text asks, one line of JSON answers.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::case::Case;
use crate::Result;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peers/pytorch.py");

/// How PyTorch is told to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torch {
    /// As it does by itself.
    Eager,
    /// With `fused=True` for its optimiser.
    Fused,
    /// With that, and with images in channels_last.
    Best,
}

/// The median duration of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepTime {
    /// Milliseconds that pass.
    pub(crate) passed: f64,
    /// Milliseconds that processors work for it.
    pub(crate) worked: f64,
}

/// A running peer; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Peer {
    /// Starts PyTorch with this many threads and waits until it is ready.
    pub(crate) fn start(python: &OsStr, threads: NonZeroUsize) -> Result<Self> {
        let mut child = Command::new(python)
            .args([SCRIPT, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", python.display()))?;
        let questions = child.stdin.take();
        let answers = child.stdout.take().ok_or("the peer has no output")?;
        let answers = BufReader::new(answers);
        let mut peer = Peer { child, questions, answers, version: String::new() };
        let greeting = peer.answer()?;
        peer.version = greeting["version"].as_str().ok_or("the peer told no version")?.to_owned();
        Ok(peer)
    }

    /// The version of PyTorch.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Repeats a case's step for some time.
    pub(crate) fn time(
        &mut self,
        case: &Case,
        torch: Torch,
        milliseconds: u64,
    ) -> Result<StepTime> {
        let name = torch.case_name(case);
        let answer = self.ask(&format!("time {name} {milliseconds}"))?;
        let passed = number(&answer, "step_median_ms")?;
        Ok(StepTime { passed, worked: number(&answer, "processor_median_ms")? })
    }

    /// Makes one step from the state in a directory, leaves the result there, and tells the loss.
    pub(super) fn step(&mut self, case: &Case, torch: Torch, directory: &Path) -> Result<f64> {
        let name = torch.case_name(case);
        let answer = self.ask(&format!("check {name} {}", directory.display()))?;
        number(&answer, "loss")
    }

    fn ask(&mut self, question: &str) -> Result<Value> {
        let questions = self.questions.as_mut().ok_or("the peer takes no input")?;
        writeln!(questions, "{question}").map_err(|error| format!("the peer is gone: {error}"))?;
        let answer = self.answer()?;
        match answer.get("error") {
            Some(error) => Err(format!("the peer cannot `{question}`: {error}").into()),
            None => Ok(answer),
        }
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(format!("the peer ended before it answered: {status}").into());
        }
        serde_json::from_str(&line)
            .map_err(|_| format!("the peer: expected JSON, got {}", line.trim()).into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is the signal to leave. Nothing can be done here about a process
        // that is gone already.
        self.questions = None;
        let _ = self.child.wait();
    }
}

impl Torch {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Torch::Eager => "torch-eager",
            Torch::Fused => "torch-fused",
            Torch::Best => "torch-best",
        }
    }

    /// The case by the name that the peer knows.
    fn case_name(self, case: &Case) -> String {
        let suffix = match self {
            Torch::Eager => "",
            Torch::Fused => "+fused",
            Torch::Best => "+best",
        };
        format!("{}{suffix}", case.name)
    }
}

fn number(answer: &Value, key: &str) -> Result<f64> {
    let value = answer[key].as_f64();
    value.ok_or_else(|| format!("the peer: expected a number {key}, got {answer}").into())
}
