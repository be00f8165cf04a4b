// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trainings that run into NaN or infinity.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::{epochs, fail, json, succeed, QUICK};

/// Each update multiplies weights and biases by about -10, so that something overflows after some
/// updates and before the fortieth, whatever the gradients are. There are four updates in an epoch.
const GROWING: [&str; 8] =
    ["--momentum", "0", "--lr", "1", "--weight-decay", "11", "--epochs", "20"];

/// The parameters in a file.
fn weights(file: &Path) -> Vec<f32> {
    let bytes = fs::read(file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let elements = bytes[header..].chunks_exact(4);
    elements.map(|element| f32::from_le_bytes(element.try_into().unwrap())).collect()
}

/// The number behind a word.
fn number_after(text: &str, word: &str) -> u64 {
    let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("no {word} in {text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {word} in {text}"))
}

#[test]
fn a_training_stops_and_keeps_its_last_finite_checkpoint() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let text = fail(at, &[&QUICK[..], &GROWING, &["--out", "A"]].concat());
    let (update, kept) = (number_after(&text, "update "), number_after(&text, "A, of update "));
    assert!((5..=40).contains(&update), "{text}");
    let done = epochs(at, "A").len() as u64;
    assert_eq!(kept, 4 * done, "{text}");
    assert!(done > 0 && update > kept && update <= kept + 4, "{text}");
    assert!(text.contains("is the first layer whose output is not finite"), "{text}");
    assert!(text.contains("--non-finite continue"), "{text}");

    let held = weights(&at.join("A/model.safetensors"));
    assert!(held.len() > 784 && held.iter().all(|weight| weight.is_finite()));
    assert_eq!(json(at, &["eval", "--checkpoint", "A", "--json"])["epoch"], done);
    assert_eq!(fail(at, &["train", "--quiet", "--resume", "A"]), text, "it happens again");
}

#[test]
fn a_rate_that_is_far_too_high_names_the_step_and_the_layer() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let text = fail(at, &[&QUICK[..], &["--lr", "1e8", "--out", "A"]].concat());
    assert!((2..=4).contains(&number_after(&text, "error: update ")), "{text}");
    assert!(text.contains(": the loss is "), "{text}");
    assert!(["fc1", "fc2", "fc3"].iter().any(|layer| text.contains(layer)), "{text}");
    assert!(weights(&at.join("A/model.safetensors")).iter().all(|weight| weight.is_finite()));
    assert_eq!(epochs(at, "A"), [0; 0]);
}

#[test]
fn a_setting_lets_it_go_on_and_nothing_is_counted_of_nan() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let go_on = ["--lr", "1e8", "--non-finite", "continue", "--epochs", "2", "--log", "error"];
    let text = succeed(at, &[&QUICK[..], &go_on, &["--out", "A"]].concat());
    assert!(text.starts_with("test accuracy unknown, loss NaN"), "{text}");
    let metrics = fs::read_to_string(at.join("A/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 2);
    for line in metrics.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for key in ["train_loss", "train_accuracy", "test_loss", "test_accuracy"] {
            assert!(line[key].is_null(), "{key} in {line}");
        }
    }
    let object = json(at, &[&QUICK[..], &go_on, &["--out", "B", "--json"]].concat());
    assert!(object["test_accuracy"].is_null() && object["train_accuracy"].is_null(), "{object}");

    let text = fail(at, &["eval", "--checkpoint", "A"]);
    assert!(text.contains("fc1 is the first layer whose output is not finite"), "{text}");
    // Resumed without the setting, the first step stops it.
    let text = fail(at, &["train", "--resume", "A", "--epochs", "3", "--quiet"]);
    assert!(text.contains("fc1.weight is NaN"), "{text}");
}

#[test]
fn a_comparison_stops_too_and_leaves_nothing_in_the_way() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let compare = ["compare", "--hidden", "16", "--train-samples", "100", "--out", "C", "--quiet"];
    let text = fail(at, &[&compare[..], &["--lr", "1e8"]].concat());
    assert!(text.contains(": the loss ") && text.contains("first layer"), "{text}");
    succeed(at, &[&compare[..], &["--epochs", "1"]].concat());
}
