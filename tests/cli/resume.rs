// SPDX-License-Identifier: MIT OR Apache-2.0
//! Going on with a run: to more epochs, in the precision and on the data that it began with.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::{epochs, fail, model, run, succeed, write_idx, QUICK};

/// Learning rate of the last update of each epoch.
fn rates(at: &Path, run: &str) -> Vec<f64> {
    let metrics = fs::read_to_string(at.join(run).join("metrics.jsonl")).unwrap();
    let rate = |line: &str| serde_json::from_str::<Value>(line).unwrap()["learning_rate"].as_f64();
    metrics.lines().map(|line| rate(line).unwrap()).collect()
}

fn assert_close(got: &[f64], expected: &[f64]) {
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12;
    assert!(
        got.len() == expected.len() && got.iter().zip(expected).all(close),
        "{got:?}, expected {expected:?}"
    );
}

#[test]
fn schedules_without_an_end_go_on() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    // Four updates in an epoch: the rate falls after each epoch, or rises over one and a half
    // updates, as it was begun with.
    let step: Vec<f64> = (0..6).map(|drops| 0.05 * 0.1_f64.powi(drops)).collect();
    for (schedule, expected) in
        [("constant", vec![0.05; 6]), ("step", step), ("warmup", vec![0.05; 6])]
    {
        let args = ["--epochs", "3", "--schedule", schedule, "--out", schedule];
        succeed(at, &[&QUICK[..], &args].concat());
        succeed(at, &["train", "--quiet", "--resume", schedule, "--epochs", "5"]);
        succeed(at, &["train", "--quiet", "--resume", schedule, "--epochs", "6"]);
        assert_close(&rates(at, schedule), &expected);
    }
}

#[test]
fn schedules_with_an_end_are_stretched_if_asked_for() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    for schedule in ["cosine", "one-cycle"] {
        let args = ["--epochs", "3", "--schedule", schedule, "--out", schedule];
        succeed(at, &[&QUICK[..], &args].concat());
        let before = fs::read(at.join(schedule).join("training.safetensors")).unwrap();
        let text = fail(at, &["train", "--resume", schedule, "--epochs", "6"]);
        for word in ["epochs: expected at most 3", schedule, "--stretch-schedule", "got 6"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
        // Also when it is said in other words, and beside other mistakes.
        let more = ["train", "--resume", schedule, "--epochs", "6", "--seed", "4"];
        let text = fail(at, &more);
        assert!(text.contains("at most 3") && text.contains("seed: expected 0"), "{text}");
        let after = fs::read(at.join(schedule).join("training.safetensors")).unwrap();
        assert_eq!(before, after);

        let stretch = ["train", "--quiet", "--resume", schedule, "--stretch-schedule"];
        succeed(at, &[&stretch[..], &["--epochs", "6"]].concat());
        assert_eq!(epochs(at, schedule), [1, 2, 3, 4, 5, 6]);
    }
    // Of the cosine over 24 updates, those from the 13th on.
    let cosine =
        |update: u32| 0.025 * (1.0 + (std::f64::consts::PI * f64::from(update) / 24.0).cos());
    assert_close(&rates(at, "cosine")[3..], &[15, 19, 23].map(cosine));
    // What was stretched goes on as it is now.
    succeed(at, &["train", "--quiet", "--resume", "cosine"]);
    let output = run(at, &["train", "--stretch-schedule"]);
    assert_eq!(output.status.code(), Some(2), "nothing to stretch");
}

#[test]
fn a_run_goes_on_in_its_own_precision() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args = [&QUICK[..], &["--precision", "bf16", "--out"]].concat();
    succeed(at, &[&args[..], &["whole", "--epochs", "2"]].concat());
    succeed(at, &[&args[..], &["parts", "--epochs", "1"]].concat());
    let other = ["train", "--resume", "parts", "--precision", "f32", "--lr", "1", "--epochs", "2"];
    let text = fail(at, &other);
    assert!(text.contains("precision: expected bf16, with which the run began, got f32"), "{text}");
    assert!(text.contains("lr: expected 0.05"), "{text}");
    succeed(at, &["train", "--quiet", "--resume", "parts", "--epochs", "2"]);
    assert_eq!(model(at, "whole"), model(at, "parts"));
    // It is evaluated in that precision too, unless another is asked for.
    let loss = |extra: &[&str]| {
        let text = succeed(at, &[&["eval", "--json", "--checkpoint", "parts"], extra].concat());
        serde_json::from_str::<Value>(&text).unwrap()["loss"].as_f64().unwrap()
    };
    let metrics = fs::read_to_string(at.join("parts/metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert_eq!(loss(&[]), last["test_loss"].as_f64().unwrap());
    assert_ne!(loss(&["--precision", "f32"]), loss(&[]));
}

#[test]
fn data_may_move_but_not_change() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_idx(&at.join("here"), 28, 0);
    let args = ["train", "--quiet", "--hidden", "8", "--data", "mnist:here", "--epochs", "1"];
    succeed(at, &[&args[..], &["--out", "A"]].concat());
    fs::rename(at.join("here"), at.join("there")).unwrap();
    assert!(fail(at, &["train", "--resume", "A", "--epochs", "2"]).contains("here"));
    let moved = ["train", "--quiet", "--resume", "A", "--data", "mnist:there", "--epochs"];
    succeed(at, &[&moved[..], &["2"]].concat());
    assert_eq!(epochs(at, "A"), [1, 2]);

    let images = at.join("there/train-images-idx3-ubyte");
    let mut bytes = fs::read(&images).unwrap();
    bytes[100] ^= 1;
    fs::write(&images, bytes).unwrap();
    let text = fail(at, &[&moved[..], &["3", "--seed", "9"]].concat());
    assert!(text.contains("seed: expected 0") && text.contains("data: expected"), "{text}");
}

/// A run that failed before its first step is not in the way of the next.
#[cfg(unix)]
#[test]
fn a_first_checkpoint_that_cannot_be_written_leaves_an_empty_directory() {
    use std::process::Command;
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args = [&QUICK[..], &["--epochs", "1", "--out", "A"]].concat();
    let program = assert_cmd::cargo::cargo_bin("kiln");
    // Files of 16 blocks at most, and no signal for more.
    let limited = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.current_dir(at).args(["-c", limited]).arg(program).args(&args);
    let output = shell.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("training.safetensors"), "{stderr}");
    succeed(at, &args);
}
