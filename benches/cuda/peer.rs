// SPDX-License-Identifier: MIT OR Apache-2.0
//! PyTorch on the same GPU, in a process that stays: a line of text asks, a line of JSON answers.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use kiln::Precision;
use serde_json::Value;

use super::Result;

const PRODUCT_MILLISECONDS: u64 = 100;

/// A running peer; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The ways in which it runs a step, by the names that it knows.
    pub(crate) modes: Vec<String>,
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts PyTorch's side and waits until it is ready.
    pub(crate) fn start(
        python: &Path,
        script: &Path,
        device: &str,
        modes: Vec<String>,
    ) -> Result<Self> {
        let mut child = Command::new(python)
            .arg(script)
            .args(["--device", device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", python.display()))?;
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("the peer has no output")?);
        let mut peer = Peer { modes, child, questions, answers };
        let greeting = peer.answer()?;
        println!("in turns with PyTorch {} on {}", greeting["torch"], greeting["device"]);
        Ok(peer)
    }

    /// Makes one step from the state in a folder, leaves the result there, and tells the loss.
    pub(crate) fn check(&mut self, case: &str, precision: Precision, at: &Path) -> Result<f64> {
        self.number(&format!("check {case} {precision} {}", at.display()), "loss")
    }

    /// The median time of a step, in microseconds.
    pub(crate) fn time(
        &mut self,
        case: &str,
        mode: &str,
        precision: Precision,
        feed: &str,
        milliseconds: u64,
    ) -> Result<f64> {
        let feed = feed.replace(' ', "-");
        self.number(&format!("time {case} {mode} {precision} {feed} {milliseconds}"), "us")
    }

    /// The median time of a product of square matrices, in microseconds.
    pub(crate) fn product(&mut self, n: usize, precision: Precision, form: &str) -> Result<f64> {
        self.number(&format!("product {n} {precision} {form} {PRODUCT_MILLISECONDS}"), "us")
    }

    fn number(&mut self, question: &str, key: &str) -> Result<f64> {
        let questions = self.questions.as_mut().ok_or("the peer takes no input")?;
        writeln!(questions, "{question}").map_err(|error| format!("the peer is gone: {error}"))?;
        let answer = self.answer()?;
        if let Some(error) = answer.get("error") {
            return Err(format!("PyTorch's side cannot `{question}`: {error}").into());
        }
        let number = answer[key].as_f64();
        number.ok_or_else(|| format!("`{question}`: expected a number {key}, got {answer}").into())
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(format!("the peer ended before it answered: {status}").into());
        }
        let answer = serde_json::from_str(&line);
        answer.map_err(|_| format!("the peer: expected JSON, got {}", line.trim()).into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is the signal to leave.
        self.questions = None;
        let _ = self.child.wait();
    }
}
