// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--dropout-schedule`: rates that change, in metrics, after a resume and in masks.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::{fail, json, model, run, succeed, QUICK};

/// The rates of each epoch's last step, of a layer.
fn rates(at: &Path, run: &str, layer: &str) -> Vec<f64> {
    let metrics = fs::read_to_string(at.join(run).join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["dropout"][layer].as_f64().unwrap()).collect()
}

#[test]
fn rates_are_logged_and_go_on_after_a_resume() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    // Four steps in an epoch.
    let linear =
        ["--dropout-schedule", "linear", "--dropout-start", "0.1", "--dropout-epochs", "3"];
    let args = [&QUICK[..], &linear, &["--epochs"]].concat();
    succeed(at, &[&args[..], &["4", "--out", "whole"]].concat());
    let found = rates(at, "whole", "dropout1");
    let expected = [3.0, 7.0, 11.0, 12.0].map(|pass| 0.1 + 0.4 * pass / 12.0);
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
    }
    succeed(at, &[&args[..], &["2", "--out", "parts"]].concat());
    succeed(at, &["train", "--quiet", "--resume", "parts", "--epochs", "4"]);
    assert_eq!(model(at, "whole"), model(at, "parts"));
    assert_eq!(rates(at, "parts", "dropout2"), found);

    let text = fail(
        at,
        &["train", "--resume", "parts", "--dropout-start", "0.2", "--dropout-schedule", "cosine"],
    );
    for word in ["dropout-schedule: expected linear", "dropout-start: expected 0.1"] {
        assert!(text.contains(word), "no {word} in {text}");
    }

    // Steps 0 and 11 drop at 0.1 and at 0.467 of 32 x 64 elements.
    for (pass, p) in [("0", 0.1), ("11", 0.467)] {
        let ask =
            ["mask", "--checkpoint", "parts", "--layer", "dropout1", "--pass", pass, "--json"];
        let report = json(at, &ask);
        let share = report["kept"].as_f64().unwrap() / report["elements"].as_f64().unwrap();
        assert!((share - (1.0 - p)).abs() < 0.04, "{share} at {p}");
    }
    // Evaluation needs no rates.
    json(at, &["eval", "--checkpoint", "parts", "--json"]);
}

#[test]
fn every_network_takes_a_schedule_and_says_its_rates() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let small = ["train", "--epochs", "1", "--train-samples", "64", "--batch", "32"];
    for (net, rates) in [
        ("variable", "dropout 0.199, 0.497"),
        ("cnn", "dropout 0.248, 0.497"),
        ("rnn", "dropout 0.497"),
    ] {
        let args = ["--net", net, "--dropout-schedule", "curriculum", "--out", net];
        let text = succeed(at, &[&small[..], &args].concat());
        assert!(text.contains("dropout rates: curriculum from 0 to that of each layer"), "{text}");
        assert!(text.contains(rates), "{text}");
    }
}

#[test]
fn rates_that_are_none_are_one_line() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let with = |more: &[&'static str]| [&QUICK[..5], more].concat();
    let text = fail(at, &with(&["--dropout-schedule", "linear", "--dropout-start", "1.5"]));
    assert!(
        text.contains("dropout1: start of the schedule: expected a probability in [0, 1)"),
        "{text}"
    );
    let text = fail(at, &with(&["--dropout-schedule", "cosine", "--p", "1"]));
    assert!(text.contains("dropout2: end of the schedule"), "{text}");
    let text = fail(at, &with(&["--dropout-schedule", "curriculum", "--dropout-start", "0.2"]));
    assert!(text.contains("dropout-start: expected --dropout-schedule linear or cosine"), "{text}");
    let output = run(at, &with(&["--dropout-end", "0.2"]));
    assert_eq!(output.status.code(), Some(2), "no schedule to end");
    assert!(!at.join("runs").exists());
}
