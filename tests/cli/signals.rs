// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGINT and SIGTERM: a training is kept to the step, and goes on from there bit for bit.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};
use tempfile::TempDir;

use crate::compare::assert_same_results;
use crate::{epochs, json, kiln, model, succeed};

/// 1500 updates in an epoch.
const LONG: [&str; 8] = ["train", "--quiet", "--hidden", "8", "--batch", "1", "--epochs", "2"];

/// A training that tells of every step. It gets no further ahead of the reader than a pipe holds, a
/// few hundred steps, so that a signal comes in time however busy the machine is.
struct Training {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Training {
    /// Starts, and reads of a number of steps.
    fn start(at: &Path, args: &[&str], steps: usize) -> Self {
        let mut command = kiln(at);
        command.args(args).args(["--log", "trace"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (mut seen, mut line) = (0, String::new());
        while seen < steps {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended after {seen} steps");
            seen += usize::from(line.contains("session: step "));
        }
        Training { child, lines }
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Exit code, and the last line on the standard error.
    fn finish(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, text.lines().last().unwrap_or_default().into())
    }
}

#[test]
fn a_training_stops_after_a_step_and_goes_on_with_the_next() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let cases = [
        (Signal::INT, 130, "interrupted", "constant"),
        (Signal::TERM, 143, "terminated", "cosine"),
    ];
    for (signal, code, verb, schedule) in cases {
        let args = [&LONG[..], &["--schedule", schedule, "--out"]].concat();
        succeed(at, &[&args[..], &[schedule]].concat());
        let out = format!("{schedule}-stopped");
        let stopped = [&args[..], &[&out]].concat();
        let training = Training::start(at, &stopped, 1510);
        training.send(signal);
        let (got, line) = training.finish();
        assert_eq!(got, Some(code), "{line}");
        assert!(line.starts_with(&format!("{verb} after update ")), "{line}");
        let end = format!(", in epoch 2 of 2; to go on: kiln train --resume {out}");
        assert!(line.ends_with(&end), "{line}");

        succeed(at, &["train", "--quiet", "--resume", &out]);
        assert_eq!(model(at, schedule), model(at, &out));
        assert_eq!(training_file(at, schedule), training_file(at, &out), "nothing else differs");
        assert_eq!(epochs(at, &out), [1, 2]);
    }
}

fn training_file(at: &Path, run: &str) -> Vec<u8> {
    fs::read(at.join(run).join("training.safetensors")).unwrap()
}

/// Stopped again and again, each time within an epoch.
#[test]
fn checkpoints_are_written_within_an_epoch() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    succeed(at, &[&LONG[..], &["--optimizer", "adam", "--out", "whole"]].concat());
    let first = [&LONG[..], &["--optimizer", "adam", "--out", "parts"]].concat();
    let mut args = first.as_slice();
    let mut batches = Vec::new();
    for _ in 0..3 {
        let training = Training::start(at, args, 20);
        training.send(Signal::INT);
        assert_eq!(training.finish().0, Some(130));
        let scores = json(at, &["eval", "--checkpoint", "parts", "--json"]);
        batches.push((scores["epoch"].as_u64().unwrap(), scores["batch"].as_u64().unwrap()));
        args = &["train", "--quiet", "--resume", "parts"];
    }
    assert!(batches.is_sorted() && batches[0] != batches[2], "{batches:?}");
    assert!(batches.iter().any(|(_, batch)| *batch > 0), "{batches:?}");
    succeed(at, args);
    assert_eq!(model(at, "whole"), model(at, "parts"));
    assert_eq!(epochs(at, "parts"), [1, 2]);
}

/// One step in an epoch, after which most of the time goes into measuring.
#[test]
fn an_epoch_may_be_trained_and_not_yet_measured() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args = ["train", "--quiet", "--hidden", "256", "--batch", "1500", "--epochs", "5", "--out"];
    succeed(at, &[&args[..], &["whole"]].concat());
    let caught = (0..20).map(|attempt| attempt.to_string()).find(|out| {
        let training = Training::start(at, &[&args[..], &[out]].concat(), 1);
        training.send(Signal::TERM);
        if training.finish().0 == Some(0) {
            return false; // too late
        }
        let scores = json(at, &["eval", "--checkpoint", out, "--json"]);
        scores["epoch"].as_u64().unwrap() as usize == epochs(at, out).len() + 1
    });
    let caught = caught.expect("one of twenty signals comes while it measures");
    succeed(at, &["train", "--quiet", "--resume", &caught]);
    assert_eq!(training_file(at, "whole"), training_file(at, &caught));
    assert_eq!(epochs(at, &caught), [1, 2, 3, 4, 5]);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let training = Training::start(at, &[&LONG[..], &["--out", "A"]].concat(), 1);
    // Long enough to fill the pipe: the step under way cannot end then.
    sleep(Duration::from_secs(1));
    training.send(Signal::INT);
    training.send(Signal::TERM);
    let (code, line) = training.finish();
    // Two that come at once are handled in an order that the system chooses.
    assert!([Some(130), Some(143)].contains(&code), "{code:?}: {line}");
    assert!(!line.contains("after update"), "{line}");
    assert_eq!(json(at, &["eval", "--checkpoint", "A", "--json"])["batch"], 0, "nothing is kept");
}

/// Stopped in the first training and in a later one, it goes on to the same results.
#[test]
fn a_comparison_goes_on_with_the_training_that_it_was_at() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args = ["compare", "--hidden", "8", "--batch", "1", "--train-samples", "1500"];
    let args = [&args[..], &["--epochs", "1", "--seeds", "2", "--quiet", "--out"]].concat();
    succeed(at, &[&args[..], &["whole"]].concat());
    let begun = [&args[..], &["parts"]].concat();
    let resumed = ["compare", "--quiet", "--resume", "parts"];
    // A training is 1500 steps, of which a pipe holds fewer than half.
    for (args, steps, stopped) in [
        (&begun[..], 50, "with dropout 0 and seed 0, 0 of 4 trainings finished"),
        (&resumed, 3000, "2 of 4 trainings finished"),
    ] {
        let training = Training::start(at, args, steps);
        training.send(Signal::INT);
        let (code, line) = training.finish();
        assert_eq!(code, Some(130), "{line}");
        assert!(line.starts_with("interrupted ") && line.contains(stopped), "{line}");
        assert!(line.ends_with("to go on: kiln compare --resume parts"), "{line}");
    }
    succeed(at, &resumed);
    assert_same_results(at, "whole", "parts");
}
