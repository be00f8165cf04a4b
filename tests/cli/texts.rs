// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent networks in the program: texts to train on, to evaluate and to label.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{epochs, fail, json, kiln, model, succeed};

/// A small network of words, to be trained quickly.
const SMALL: [&str; 10] = [
    "train",
    "--net",
    "rnn",
    "--hidden",
    "16",
    "--embedding",
    "8",
    "--train-samples",
    "300",
    "--quiet",
];

/// Texts of several lengths: questions hold "why", answers do not, and each has a word of its own.
fn write_texts(file: &Path, count: usize) {
    let line = |number: usize| match number % 2 {
        0 => format!("question\twhy {}x{number} ?\n", "is that so ".repeat(number % 5)),
        _ => format!("answer\tbecause {}x{number}.\n", "it is so ".repeat(number % 7)),
    };
    fs::write(file, (0..count).map(line).collect::<String>()).unwrap();
}

/// What `predict` prints for lines on its standard input.
fn predicted(at: &Path, args: &[&str], lines: &[u8]) -> (Option<i32>, String, String) {
    let mut command = kiln(at);
    command.arg("predict").args(args).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_run_on_words_is_evaluated_and_labels_lines() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let trained = json(at, &[&SMALL[..], &["--epochs", "2", "--out", "A", "--json"]].concat());
    let evaluated = json(at, &["eval", "--checkpoint", "A", "--json"]);
    assert_eq!(evaluated["accuracy"], trained["test_accuracy"]);
    assert_eq!((&evaluated["samples"], &evaluated["unknown_tokens"]), (&4088.into(), &0.into()));

    let (code, out, err) = predicted(at, &["--checkpoint", "A"], b"abandon\nfreccia\n");
    assert_eq!((code, err.as_str(), out.lines().count()), (Some(0), "", 2), "{out}");
    let languages = ["czech", "english", "french", "italian", "portuguese", "spanish"];
    for line in out.lines() {
        let (label, probability) = line.split_once('\t').unwrap();
        assert!(languages.contains(&label), "{line}");
        let probability: f64 = probability.parse().unwrap();
        assert!((1.0 / 6.0..=1.0).contains(&probability), "{line}");
    }
    let (_, out, _) =
        predicted(at, &["--json", "--checkpoint", "A"], "abandon\r\nмир\n".as_bytes());
    let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&objects[0]["line"], &objects[0]["text"]), (&1.into(), &"abandon".into()));
    assert_eq!(
        (&objects[0]["unknown_tokens"], &objects[1]["unknown_tokens"]),
        (&0.into(), &3.into())
    );
    assert!(objects[1]["class"].is_string() && objects[1]["probability"].is_f64());

    // A file, of more lines than are labelled together.
    fs::write(at.join("lines"), "freccia\n".repeat(300)).unwrap();
    let out = succeed(at, &["predict", "--checkpoint", "A", "lines"]);
    assert_eq!(out.lines().count(), 300);
    assert!(out.lines().all(|line| Some(line) == out.lines().next()));
}

#[test]
fn a_killed_run_on_texts_of_several_lengths_ends_with_the_same_weights() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_texts(&at.join("texts"), 120);
    let args =
        ["train", "--net", "rnn", "--data", "text:texts", "--cell", "gru", "--bidirectional"];
    let more = ["--hidden", "8", "--embedding", "8", "--batch", "4", "--quiet", "--epochs", "4"];
    let args = [&args[..], &more, &["--out"]].concat();
    succeed(at, &[&args[..], &["whole"]].concat());
    let mut command = [&args[..], &["killed"]].concat();
    let so_far = || match at.join("killed/metrics.jsonl").is_file() {
        true => epochs(at, "killed").len(),
        false => 0,
    };
    for kill in 0..3 {
        let mut child = kiln(at).args(&command).stdout(Stdio::null()).spawn().unwrap();
        let checkpoint = at.join("killed/training.safetensors");
        let deadline = Instant::now() + Duration::from_secs(120);
        while !(checkpoint.is_file() && so_far() >= kill) && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no checkpoint within two minutes");
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(20 * kill as u64));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        command = vec!["train", "--quiet", "--resume", "killed"];
    }
    succeed(at, &command);
    assert_eq!(model(at, "whole"), model(at, "killed"));
    let training = |run: &str| fs::read(at.join(run).join("training.safetensors")).unwrap();
    assert_eq!(training("whole"), training("killed"));
    assert_eq!(epochs(at, "killed"), [1, 2, 3, 4]);
}

/// A signal within an epoch, so that batches of like lengths go on in the middle.
#[cfg(unix)]
#[test]
fn a_run_that_was_stopped_within_an_epoch_goes_on_with_the_same_batches() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_texts(&at.join("texts"), 400);
    let args = ["train", "--net", "rnn", "--data", "text:texts", "--hidden", "8", "--quiet"];
    let args = [&args[..], &["--batch", "2", "--epochs", "2", "--out"]].concat();
    succeed(at, &[&args[..], &["whole"]].concat());
    let command = [&args[..], &["stopped"]].concat();
    let mut child = kiln(at).args(&command).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !at.join("stopped/metrics.jsonl").is_file() && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "no metrics within two minutes");
        sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    succeed(at, &["train", "--quiet", "--resume", "stopped"]);
    assert_eq!(model(at, "whole"), model(at, "stopped"));
}

#[test]
fn lines_that_cannot_be_read_are_named() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args = ["train", "--net", "rnn", "--data", "text:texts", "--out", "A"];
    for (bytes, expected) in [
        (&b"a\tone\nb\ttw\xf0o\n"[..], "at byte 10: expected UTF-8 in line 2, got the byte 0xf0"),
        (b"a\tone\n\nb\ttwo\n", "in line 2, got an empty line"),
        (b"a\tone\nb\n", "in line 2, got no tab in \"b\""),
        (b"a\tone\nb\t\n", "in line 2, got the label \"b\" without text"),
        (b"a\tone\nb\t?!\n", "expected a text of words in line 2, got \"?!\""),
        (b"a\tone\na\ttwo\n", "data: expected texts of two labels or more, got 1"),
    ] {
        fs::write(at.join("texts"), bytes).unwrap();
        let text = fail(at, &args);
        assert!(text.contains(expected), "no {expected} in {text}");
        assert!(!at.join("A").exists(), "{expected}");
    }
}

#[test]
fn what_does_not_fit_a_run_of_texts_is_one_line() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_texts(&at.join("texts"), 40);
    let args = ["train", "--net", "rnn", "--data", "text:texts", "--hidden", "8", "--quiet"];
    succeed(at, &[&args[..], &["--epochs", "1", "--out", "A"]].concat());

    // Words that only the test holds are unknown, and counted.
    let evaluated = json(at, &["eval", "--checkpoint", "A", "--json"]);
    assert!(evaluated["unknown_tokens"].as_u64().unwrap() >= 8, "{evaluated}");

    // Labels that the network does not know.
    fs::write(at.join("others"), "question\twhy\nbanter\tha\n".repeat(4)).unwrap();
    let text = fail(at, &["eval", "--checkpoint", "A", "--data", "text:others"]);
    assert!(text.contains("expected one of the labels answer, question in line"), "{text}");

    // A checkpoint of another vocabulary.
    let lines = fs::read_to_string(at.join("texts")).unwrap();
    fs::write(at.join("texts"), lines.replace("because", "since")).unwrap();
    let text = fail(at, &["train", "--resume", "A", "--epochs", "2"]);
    assert!(text.contains("vocabulary: expected that of the data, "), "{text}");
    let text = fail(at, &["eval", "--net", "rnn", "--checkpoint", "A/model.safetensors"]);
    assert!(text.contains("embedding.weight"), "{text}");

    for (args, expected) in [
        (
            &["train", "--net", "rnn", "--data", "digits"][..],
            "data: expected words, text:FILE or vowels:DIR",
        ),
        (&["train", "--data", "words"], "net: expected rnn, which takes texts"),
        (&["train", "--cell", "gru"], "cell: expected --net rnn with it, got gru"),
        (&["train", "--bidirectional"], "bidirectional: expected --net rnn with it, got true"),
        (&["train", "--tokens", "words"], "tokens: expected texts in --data with it, got words"),
        (&["train", "--resume", "A", "--cell", "gru"], "cell: expected lstm, with which the run"),
        (&["train", "--net", "rnn", "--p", "2"], "expected a probability in [0, 1], got 2"),
        (&["predict", "--checkpoint", "A/model.safetensors"], "expected the directory of a run"),
    ] {
        let text = fail(at, args);
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    let checkpoint = ["--checkpoint", "A"];
    for (bytes, expected) in [
        (
            &b"why\n\nwhy\n"[..],
            "standard input: at byte 4: expected a text in line 2, got an empty line",
        ),
        (b"why\n!\n", "expected a text of words in line 2, got \"!\""),
        (b"why\n\xff\n", "expected UTF-8 in line 2, got the byte 0xff"),
    ] {
        let (code, out, err) = predicted(at, &checkpoint, bytes);
        assert_eq!((code, out.lines().count(), err.lines().count()), (Some(1), 1, 1), "{err}");
        assert!(err.contains(expected), "no {expected} in {err}");
    }
    succeed(
        at,
        &[
            "train",
            "--quiet",
            "--hidden",
            "8",
            "--train-samples",
            "50",
            "--epochs",
            "1",
            "--out",
            "B",
        ],
    );
    let text = fail(at, &["predict", "--checkpoint", "B"]);
    assert!(text.contains("expected a network that takes texts"), "{text}");
}

#[test]
fn networks_of_texts_have_plans_without_masks() {
    let dir = TempDir::new().unwrap();
    for device in [&["--threads", "2"][..], &["--device", "cuda", "--arch", "sm_90"]] {
        for more in
            [&[][..], &["--cell", "gru", "--bidirectional", "--layers", "1", "--mode", "eval"]]
        {
            let args = ["plan", "--net", "rnn", "--batch", "8", "--hidden", "16", "--json"];
            let plan = json(dir.path(), &[&args[..], device, more].concat());
            assert_eq!(plan["mask_bytes"], 0, "{device:?} {more:?}");
        }
    }
}

/// A step of training takes few launches where all of a layer's steps are one, and the plan says why they are not.
#[test]
fn plans_say_how_recurrent_layers_make_their_steps() {
    let dir = TempDir::new().unwrap();
    let args = ["plan", "--net", "rnn", "--batch", "64", "--device", "cuda", "--arch", "sm_90"];
    let plan = json(dir.path(), &[&args[..], &["--json"]].concat());
    assert!(plan["launches"].as_u64().unwrap() <= 14, "{}", plan["launches"]);
    assert_eq!(plan["mask_bytes"], 0);
    assert_eq!(plan["launch_for_each_step"], serde_json::json!([]));
    let text = succeed(dir.path(), &args);
    assert!(text.contains("all steps in one launch, as on a GPU whose self-test has passed"));
    let odd = [&args[..], &["--hidden", "100"]].concat();
    let plan = json(dir.path(), &[&odd[..], &["--json"]].concat());
    assert!(plan["launches"].as_u64().unwrap() <= 270, "{}", plan["launches"]);
    let why = "100 units are not whole blocks of 8";
    assert_eq!(plan["launch_for_each_step"], serde_json::json!([{ "layer": "lstm", "why": why }]));
    let text = succeed(dir.path(), &odd);
    assert!(text.contains(&format!("lstm makes a launch for each step: {why}")), "{text}");
    assert!(!text.contains("in one launch"), "{text}");
}

#[test]
fn dropout_is_compared_on_words() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args =
        ["compare", "--net", "rnn", "--hidden", "8", "--layers", "1", "--train-samples", "100"];
    let few = ["--epochs", "1", "--seeds", "1", "--out", "C", "--json"];
    let result = json(at, &[&args[..], &few].concat());
    assert_eq!((&result["net"], &result["data"]), (&"rnn".into(), &"words".into()));
    assert!(at.join("C/p0.5/seed0/model.safetensors").is_file() && result["gain"].is_f64());
}
