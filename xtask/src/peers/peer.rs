// SPDX-License-Identifier: MIT OR Apache-2.0
//! A resident process of another library: one line of text asks, one line of JSON answers.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use super::case::Case;
use super::program::Program;
use crate::Result;

/// Most bytes of an answer that a message shows.
const SHOWN: usize = 200;

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

/// A running peer; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What it complains about; a pipe that nobody reads would stop it once it is full.
    complaints: File,
    version: String,
}

impl Peer {
    /// Starts a program with this many threads and waits until it is ready.
    pub(crate) fn start(program: &Program, threads: NonZeroUsize) -> Result<Self> {
        let complaints = tempfile::tempfile()?;
        let mut child = program
            .command(threads)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints.try_clone()?)
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let questions = child.stdin.take();
        let answers = child.stdout.take().ok_or("the peer has no output")?;
        let answers = BufReader::new(answers);
        let mut peer = Peer { child, questions, answers, complaints, version: String::new() };
        let greeting = match peer.answer() {
            Ok(greeting) => greeting,
            Err(error) => {
                peer.abandon();
                return Err(error);
            }
        };
        match greeting["version"].as_str() {
            Some(version) => peer.version = version.to_owned(),
            None => {
                peer.abandon();
                return Err("the peer told no version".into());
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
        self.child.id()
    }

    /// Repeats a case's step for some time.
    pub(crate) fn time(&mut self, case: &str, milliseconds: u64) -> Result<StepTime> {
        let answer = self.ask(&format!("time {case} {milliseconds}"))?;
        let passed = positive(&answer, "step_median_ms")?;
        let slow = positive(&answer, "step_p99_ms")?;
        Ok(StepTime { passed, slow, worked: answer["processor_median_ms"].as_f64() })
    }

    /// Makes so many steps of a case.
    pub(super) fn steps(&mut self, case: &str, count: u32) -> Result<()> {
        self.ask(&format!("steps {case} {count}")).map(drop)
    }

    /// Makes one step from the state in a directory, leaves the result there, and tells the loss.
    pub(super) fn step(&mut self, case: &str, directory: &Path) -> Result<f64> {
        let answer = self.ask(&format!("check {case} {}", directory.display()))?;
        let loss = answer["loss"].as_f64();
        loss.ok_or_else(|| format!("the peer: expected a loss, got {}", shown(&answer)).into())
    }

    /// Ends a peer that may listen no more.
    pub(super) fn abandon(mut self) {
        // It may be gone already.
        let _ = self.child.kill();
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
            return Err(self.last_words()?.into());
        }
        let answer = serde_json::from_str(&line).ok().filter(Value::is_object);
        answer.ok_or_else(|| format!("the peer: expected JSON, got {}", shown(line.trim())).into())
    }

    /// How it ended, and the last line that it complained with.
    fn last_words(&mut self) -> Result<String> {
        let status = self.child.wait()?;
        self.complaints.rewind()?;
        let lines = BufReader::new(&self.complaints).lines().map_while(std::io::Result::ok);
        let last = lines.filter(|line| !line.trim().is_empty()).last();
        let why = last.map_or(String::new(), |line| format!(", {}", shown(line.trim())));
        Ok(format!("the peer ended before it answered: {status}{why}"))
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
