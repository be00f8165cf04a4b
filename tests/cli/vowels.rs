// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of speech in the program: sequences of features instead of tokens.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{fail, json, run, succeed};

/// Made-up speakers, each with a level of the first features and a drift of his own, in the files of the real ones.
pub(super) fn write(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (part, each) in [("train", 8), ("test", 3)] {
        let mut frames = String::new();
        for speaker in 0..9 {
            for take in 0..each {
                for step in 0..7 + (speaker + 3 * take) % 12 {
                    let feature = |place: usize| {
                        let level = if place % 9 == speaker { 1.5 } else { -0.5 };
                        level + 0.05 * (step * (place + 1) % 7) as f64 + 0.02 * take as f64
                    };
                    let features = (0..12).map(|place| format!("{:.6} ", feature(place)));
                    frames += &features.collect::<String>();
                    frames += "\n";
                }
                frames += "\n";
            }
        }
        fs::write(folder.join(format!("ae.{part}")), frames).unwrap();
        let sizes = vec![each.to_string(); 9].join(" ");
        fs::write(folder.join(format!("size_ae.{part}")), sizes + "\n").unwrap();
    }
}

const SMALL: [&str; 9] =
    ["train", "--net", "rnn", "--data", "vowels:speech", "--hidden", "16", "--batch", "8"];

#[test]
fn a_run_on_vowels_learns_and_is_known_to_the_other_commands() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write(&at.join("speech"));
    let trained =
        json(at, &[&SMALL[..], &["--epochs", "16", "--out", "A", "--json", "--quiet"]].concat());
    assert!(trained["test_accuracy"].as_f64().unwrap() > 0.8, "{trained}");
    let evaluated = json(at, &["eval", "--checkpoint", "A", "--json"]);
    assert_eq!(evaluated["accuracy"], trained["test_accuracy"]);
    assert_eq!((&evaluated["samples"], &evaluated["data"]), (&27.into(), &"vowels".into()));
    let mask = succeed(at, &["mask", "--checkpoint", "A", "--layer", "dropout", "--pass", "3"]);
    assert!(mask.contains("elements of [8, 16]"), "{mask}");
    let drawn = json(at, &["eval", "--checkpoint", "A", "--monte-carlo", "4", "--json"]);
    assert!(drawn["monte_carlo"].is_object(), "{drawn}");

    // Two epochs at once, and one after the other.
    let trained = |out: &str, epochs: &str| {
        succeed(at, &[&SMALL[..], &["--epochs", epochs, "--out", out, "--quiet"]].concat());
    };
    trained("whole", "2");
    trained("parts", "1");
    succeed(at, &["train", "--resume", "parts", "--epochs", "2", "--quiet"]);
    let model = |run: &str| fs::read(at.join(run).join("model.safetensors")).unwrap();
    assert_eq!(model("whole"), model("parts"));
    assert!(fail(at, &["predict", "--checkpoint", "A"]).contains("got rnn on vowels"));
}

#[test]
fn vowels_that_cannot_be_trained_on_are_refused_in_one_line() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write(&at.join("speech"));
    let refused = |args: &[&str], expected: &str| {
        let text = fail(at, &[&["train", "--data", "vowels:speech"], args].concat());
        assert!(text.contains(expected), "{args:?}: {text}");
    };
    refused(&["--net", "simple"], "net: expected rnn, which takes sequences");
    refused(&["--net", "rnn", "--embedding", "8"], "embedding: expected texts in --data");
    refused(&["--net", "rnn", "--tokens", "words"], "tokens: expected texts in --data");
    refused(&["--net", "rnn", "--augment", "flip"], "augment: expected images to change");
    refused(&["--net", "rnn", "--train-samples", "73"], "train-samples: expected at most 72");
    let file = at.join("speech/ae.test");
    let frames = fs::read_to_string(&file).unwrap();
    fs::write(&file, frames.replacen("-0.5", "-0.5x", 1)).unwrap();
    refused(&["--net", "rnn"], "ae.test");
    refused(&["--net", "rnn"], "expected numbers in line 1");
    fs::remove_file(&file).unwrap();
    refused(&["--net", "rnn"], "ae.test");
    assert_eq!(run(at, &["train", "--data", "vowels:"]).status.code(), Some(2));
}
