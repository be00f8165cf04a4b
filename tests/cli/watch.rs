// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is watched of a run: its best epoch, its early end, a rate that falls on a plateau.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{epochs, fail, json, kiln, model, records, succeed, QUICK};

fn lines(at: &Path, run: &str) -> Vec<Value> {
    let metrics = fs::read_to_string(at.join(run).join("metrics.jsonl")).unwrap();
    metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A difference that no accuracy makes: after the first, no epoch counts as better.
const OUT_OF_REACH: [&str; 2] = ["--min-delta", "1"];

#[test]
fn a_run_that_gets_no_better_ends_and_keeps_its_best_epoch() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args = ["--epochs", "9", "--monitor", "test-accuracy", "--patience", "2", "--out", "A"];
    let told = json(at, &[&QUICK[..], &args, &OUT_OF_REACH, &["--json"]].concat());
    assert_eq!(epochs(at, "A"), [1, 2, 3]);
    assert_eq!((&told["epochs"], &told["ended_early"]), (&3.into(), &true.into()));
    let accuracy = |line: &Value| line["test_accuracy"].as_f64().unwrap();
    let best = |lines: &[Value]| {
        let first = |best: usize, (at, line): (usize, &Value)| {
            if accuracy(line) > accuracy(&lines[best]) {
                at
            } else {
                best
            }
        };
        lines.iter().enumerate().fold(0, first)
    };
    let measured = lines(at, "A");
    assert_eq!(told["best_epoch"], best(&measured) + 1);
    let evaluated = json(at, &["eval", "--checkpoint", "A/best", "--json"]);
    assert_eq!(evaluated["accuracy"], measured[best(&measured)]["test_accuracy"]);
    assert_eq!(evaluated["epoch"], told["best_epoch"]);

    // It has ended, until it is told to wait longer; what it is compared by stays.
    succeed(at, &["train", "--quiet", "--resume", "A"]);
    assert_eq!(epochs(at, "A"), [1, 2, 3]);
    let text = fail(at, &["train", "--resume", "A", "--monitor", "test-loss", "--patience", "3"]);
    assert!(text.contains("monitor: expected test-accuracy"), "{text}");
    let more = json(at, &["train", "--resume", "A", "--patience", "3", "--json"]);
    assert_eq!(epochs(at, "A"), [1, 2, 3, 4]);
    assert_eq!(more["best_epoch"], best(&lines(at, "A")) + 1);
}

#[test]
fn runs_that_are_not_watched_are_as_before() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    succeed(at, &[&QUICK[..], &["--epochs", "1", "--out", "A"]].concat());
    assert!(!at.join("A/best").exists());
    let text = fail(at, &["train", "--resume", "A", "--epochs", "2", "--patience", "1"]);
    assert!(text.contains("patience: expected none"), "{text}");
    let text = fail(at, &[&QUICK[..], &["--plateau-factor", "0.5", "--out", "B"]].concat());
    assert!(text.contains("--schedule plateau"), "{text}");
    let plateau = ["--schedule", "plateau", "--plateau-factor", "1", "--out", "B"];
    let text = fail(at, &[&QUICK[..], &plateau].concat());
    assert!(text.contains("factor of the plateau: expected in [0, 1), got 1"), "{text}");
    assert!(!at.join("B").exists());
}

/// A killed run finds in its history what the best epoch is and when the rate falls.
#[test]
fn a_killed_run_falls_and_keeps_as_one_that_was_left_alone() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let never_better = ["--plateau-threshold", "9", "--plateau-threshold-mode", "abs"];
    let falls = ["--schedule", "plateau", "--plateau-patience", "0", "--plateau-factor", "0.5"];
    let watched = ["--epochs", "5", "--batch", "4", "--patience", "5", "--min-lr", "0.01"];
    let args = [&QUICK[..], &watched, &falls, &never_better, &["--out"]].concat();
    succeed(at, &[&args[..], &["whole"]].concat());
    let rates: Vec<f64> =
        lines(at, "whole").iter().map(|line| line["learning_rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [0.05, 0.05, 0.025, 0.0125, 0.01]);

    let mut command = [&args[..], &["killed"]].concat();
    for done in [1, 3] {
        let mut child = kiln(at).args(&command).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_there = |run: &str| {
            let metrics = fs::read_to_string(at.join(run).join("metrics.jsonl"));
            metrics.unwrap_or_default().lines().count() >= done
        };
        while !is_there("killed") && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no epoch within a minute");
            sleep(Duration::from_millis(1));
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        command = vec!["train", "--quiet", "--resume", "killed"];
    }
    succeed(at, &command);
    assert_eq!(epochs(at, "killed"), [1, 2, 3, 4, 5]);
    assert_eq!(model(at, "whole"), model(at, "killed"));
    for file in ["training.safetensors", "best/training.safetensors", "best/model.safetensors"] {
        let bytes = |run: &str| fs::read(at.join(run).join(file)).unwrap();
        assert!(bytes("whole") == bytes("killed"), "{file}");
    }
}

#[test]
fn tensorboard_is_told_of_steps_epochs_and_histograms() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    succeed(at, &[&QUICK[..], &["--epochs", "2", "--out", "plain"]].concat());
    let board = ["--tensorboard", "--tensorboard-every", "3", "--histograms", "1"];
    succeed(at, &[&QUICK[..], &["--epochs", "1", "--out", "A"], &board].concat());
    succeed(at, &[&["train", "--quiet", "--resume", "A", "--epochs", "2"], &board[..]].concat());
    assert_eq!(model(at, "plain"), model(at, "A"), "watching changes nothing");

    let files = records::read(&at.join("A/tensorboard"));
    assert_eq!(files.len(), 2);
    // Four steps in an epoch. What the second file has takes the place of what the first might.
    assert_eq!((files[1][1].session, files[1][1].step), (Some(1), 5));
    assert!(files.iter().all(|events| events[0].version.as_deref() == Some("brain.Event:2")));
    let all: Vec<_> = files.iter().flatten().collect();
    let curve = |tag: &str| -> Vec<(u64, f32)> {
        let points = all.iter().filter(|event| event.tag == tag);
        points.map(|event| (event.step, event.scalar.unwrap())).collect()
    };
    let measured = lines(at, "A");
    for (tag, key) in [
        ("loss/train", "train_loss"),
        ("loss/test", "test_loss"),
        ("accuracy/train", "train_accuracy"),
        ("accuracy/test", "test_accuracy"),
        ("epoch/learning rate", "learning_rate"),
    ] {
        let expected = [4_u64, 8].iter().zip(&measured);
        let expected: Vec<_> =
            expected.map(|(step, line)| (*step, line[key].as_f64().unwrap() as f32)).collect();
        assert_eq!(curve(tag), expected, "{tag}");
    }
    let steps: Vec<u64> = curve("step/loss").iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [3, 6]);
    assert_eq!(curve("epoch/samples per second").len(), 2);

    let histograms = |tag: &str| -> Vec<records::Histogram> {
        let found = all.iter().filter(|event| event.tag == tag);
        found.map(|event| event.histogram.clone().unwrap()).collect()
    };
    for (tag, elements) in [
        ("weights/fc1.weight", 32 * 784),
        ("gradients/fc1.weight", 32 * 784),
        ("activations/fc1/relu", 64 * 32),
        ("activations/fc3/add", 64 * 10),
    ] {
        let found = histograms(tag);
        assert_eq!(found.len(), 2, "{tag}");
        for histogram in found {
            let records::Histogram { min, max, count, edges, counts } = histogram;
            assert_eq!(count, f64::from(elements), "{tag}");
            assert_eq!((counts.iter().sum::<f64>(), counts.len()), (count, edges.len()));
            assert!(edges.is_sorted() && min < max && edges.last() >= Some(&max), "{tag}");
        }
    }
}

#[test]
fn histograms_that_nobody_counted_wait_until_they_are_cheap() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let board = ["--tensorboard", "--histograms", "--epochs", "2", "--out", "A"];
    succeed(at, &[&QUICK[..], &board].concat());
    let files = records::read(&at.join("A/tensorboard"));
    let of_weights = files[0].iter().filter(|event| event.tag == "weights/fc1.weight");
    // Two epochs of four steps are over before a set would cost less than 1 % of them.
    assert_eq!(of_weights.count(), 0);
}

#[test]
fn what_does_not_learn_is_warned_about() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    // Steps far too large leave units behind that are never above 0 again.
    let wild = ["--lr", "30", "--clip", "100", "--momentum", "0", "--epochs", "1", "--out"];
    let args = [&QUICK[..], &wild, &["A", "--json"]].concat();
    let told = json(at, &args);
    let warnings = told["warnings"].as_array().unwrap();
    let dead = |text: &&Value| text.as_str().unwrap().contains("are 0 for all of 200 samples");
    assert!(warnings.iter().any(|text| dead(&text)), "{told}");
    // Zeros for the rate that would move them.
    let still = ["--lr", "1e-30", "--momentum", "0", "--epochs", "1", "--out", "B", "--json"];
    let told = json(at, &[&QUICK[..], &still].concat());
    let unchanged = told["warnings"].to_string();
    assert!(unchanged.contains("fc1.weight did not change in an epoch"), "{told}");
    let usual = json(at, &[&QUICK[..], &["--epochs", "2", "--out", "C", "--json"]].concat());
    assert_eq!(usual.get("warnings"), None, "{usual}");
}

#[test]
fn several_runs_are_drawn_together() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    for run in ["A", "B"] {
        succeed(at, &[&QUICK[..], &["--epochs", "1", "--out", run]].concat());
    }
    let told = json(at, &["plot", "A", "B", "--out", "both.svg", "--title", "Two", "--json"]);
    assert_eq!(told["runs"].as_array().unwrap().len(), 2);
    assert_eq!(told["runs"][1]["last"]["test_loss"], lines(at, "B")[0]["test_loss"]);
    let svg = fs::read_to_string(at.join("both.svg")).unwrap();
    let words = ["Two", "test A", "train A", "test B", "train B", "epoch", "%", "cross-entropy"];
    for word in words {
        assert!(svg.contains(word), "no {word}");
    }
    // A comparison holds two runs.
    let two = [lines(at, "A"), lines(at, "B")].concat();
    let text: Vec<String> = two.iter().map(ToString::to_string).collect();
    fs::create_dir(at.join("C")).unwrap();
    fs::write(at.join("C/metrics.jsonl"), text.join("\n")).unwrap();
    let told = json(at, &["plot", "C", "--json"]);
    assert_eq!(told["runs"].as_array().unwrap().len(), 2);
    assert!(at.join("plot.svg").is_file());

    fs::create_dir(at.join("empty")).unwrap();
    let text = fail(at, &["plot", "A", "empty", "nowhere", "--out", "x.svg"]);
    assert!(text.contains("run: expected a run directory") && text.contains("nowhere"), "{text}");
    fs::write(at.join("empty/metrics.jsonl"), "{\n").unwrap();
    let text = fail(at, &["plot", "empty", "--out", "x.svg"]);
    assert!(text.contains("metrics.jsonl: line 1: expected what was measured"), "{text}");
    fs::write(at.join("empty/metrics.jsonl"), "").unwrap();
    let text = fail(at, &["plot", "empty", "--out", "x.svg"]);
    assert!(text.contains("the end of an epoch"), "{text}");
    assert!(fail(at, &["plot", "A", "--out", "x.png"]).contains(".svg"));
    assert!(!at.join("x.svg").exists());
}

#[test]
fn a_profile_says_what_each_step_takes() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args =
        [&QUICK[..], &["--epochs", "1", "--threads", "1", "--out", "A", "--profile"]].concat();
    let told = json(at, &[&args[..], &["--json"]].concat());
    let watching = told["profile"]["watching"].as_f64().unwrap();
    assert!(watching > 0.0 && watching < 1.0, "{watching}");
    let plans = told["profile"]["plans"].as_array().unwrap();
    let step = plans.iter().find(|plan| plan["plan"] == "training step" && plan["samples"] == 64);
    let step = step.unwrap_or_else(|| panic!("{told}"));
    assert_eq!(step["runs"], 2, "three batches of 64, but for the first");
    let steps = step["steps"].as_array().unwrap();
    let sum = |key: &str| steps.iter().map(|step| step[key].as_f64().unwrap()).sum::<f64>();
    assert!((sum("share") - 1.0).abs() < 1e-9 && sum("ms") <= step["ms"].as_f64().unwrap());
    assert_eq!((&steps[0]["kernel"], &steps[0]["layer"]), (&"linear".into(), &"fc1".into()));
    for key in ["bytes", "bytes_per_second", "of_copy", "flops", "flops_per_second"] {
        assert!(steps[0][key].as_f64().unwrap() > 0.0, "{key}: {step}");
    }
    let trace: Value = serde_json::from_slice(&fs::read(at.join("A/trace.json")).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut first = events.iter().filter(|event| event["cat"] == "fc1" && event["ph"] == "X");
    assert!(first.any(|event| event["dur"].as_f64().unwrap() > 0.0), "{trace}");
}
