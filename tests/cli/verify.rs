// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln verify`: with scripts in the place of Python, and with PyTorch where there is one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use safetensors::tensor::TensorView;
use safetensors::Dtype;
use tempfile::TempDir;

use super::{json, kiln, run, succeed, vowels};

const SMALL: [&str; 5] = ["verify", "--hidden", "8", "--batch", "2"];

/// A shell script that stands where Python is expected: `$3` is the folder of the task.
fn fake(at: &Path, script: &str) {
    let path = at.join("fake");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Ends with exit code 2 and one line on the standard error, which is returned, and nothing else.
fn refuse(at: &Path, args: &[&str]) -> String {
    let output = run(at, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && output.stdout.is_empty(), "{args:?}: {stderr}");
    stderr
}

#[test]
fn what_is_no_python_with_pytorch_is_said_in_one_line() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args = [&SMALL[..], &["--python", "./fake"]].concat();
    let expected = "expected a Python with PyTorch 2.0 or later";
    let line = refuse(at, &args);
    assert!(line.contains(expected) && line.contains("./fake, which cannot be run"), "{line}");

    let answered = "echo '{\"torch\": \"2.15.0\"}' > \"$3/report.json\"";
    let old =
        "echo '{\"error\": \"has PyTorch 1.4.0, which is too old\"}' > \"$3/report.json\"; exit 3";
    let results = |bytes: &str| format!("printf '{bytes}' > \"$3/found.safetensors\"; {answered}");
    for (script, expected) in [
        ("echo >&2 First; echo >&2 'Boom: it broke'; exit 7", "(exit status: 7): Boom: it broke"),
        ("kill -9 $$", "which failed (signal: 9"),
        ("exit 0", "which ended without an answer"),
        ("echo nonsense > \"$3/report.json\"", "which ended without an answer"),
        (old, "which has PyTorch 1.4.0, which is too old"),
        (answered, "which ended without results"),
        (&results("nonsense"), "which left results that cannot be read"),
        (&results("\\2\\0\\0\\0\\0\\0\\0\\0{}"), "which left out forward.loss"),
        ("yes complaint >&2", "which complains without an end"),
    ] {
        fake(at, script);
        let line = refuse(at, &args);
        assert!(line.contains(expected), "{script}: {line}");
    }
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let dir = TempDir::new().unwrap();
    for (args, expected) in [
        (&["--precision", "bf16"][..], "precision: expected f32"),
        (&["--data", "words"], "net: expected rnn"),
        (&["--net", "variable", "--p", "0.5"], "p: expected --net simple with it"),
        (&["--steps", "0"], "--steps"),
        (&["--timeout", "0"], "--timeout"),
        (&["--torch-seed", "1", "--device", "cuda"], "torch-seed: expected the CPU"),
    ] {
        let line = refuse(dir.path(), &[&["verify"], args].concat());
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}

/// Starts a process of its own, tells its number, and waits for it.
const HANGING: &str = "sleep 600 & echo $! > pid.new; mv pid.new pid; wait";

/// The number of the process that the script started.
fn started(at: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Ok(pid) = fs::read_to_string(at.join("pid")) {
            return pid.trim().into();
        }
        assert!(Instant::now() < deadline, "the script did not start");
        sleep(Duration::from_millis(5));
    }
}

/// Whether a process has ended; what nobody has asked about counts too.
fn has_ended(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat"));
    status
        .map_or(true, |status| status.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

fn assert_ends(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !has_ended(pid) {
        assert!(Instant::now() < deadline, "process {pid} lives on");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_python_that_hangs_is_stopped_with_all_that_it_started() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    fake(at, HANGING);
    let line = refuse(at, &[&SMALL[..], &["--python", "./fake", "--timeout", "1"]].concat());
    assert!(line.contains("results within 1 second (--timeout)"), "{line}");
    assert_ends(&started(at));
}

#[test]
fn no_process_outlives_a_signal() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let dir = TempDir::new().unwrap();
        let at = dir.path();
        let folders = at.join("folders");
        fs::create_dir(&folders).unwrap();
        fake(at, HANGING);
        let mut command = kiln(at);
        command.args(SMALL).args(["--python", "./fake"]).env("TMPDIR", &folders);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = started(at);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.lines().count()), (Some(code), 1), "{line}");
        assert_ends(&pid);
        assert_eq!(fs::read_dir(&folders).unwrap().count(), 0, "nothing is left behind");
    }
}

/// What PyTorch would answer for a network of two units and a batch of two, if all of it were one number, and
/// by how much it could be another, if something is said of that.
fn answer(at: &Path, number: f32, undecided: Option<f32>) {
    let mut shapes =
        vec![("forward.loss".to_string(), vec![]), ("forward.scores".into(), vec![2, 10])];
    for stage in ["gradient", "step1"] {
        for (layer, outputs, inputs) in [("fc1", 2, 784), ("fc2", 2, 2), ("fc3", 10, 2)] {
            shapes.push((format!("{stage}.{layer}.weight"), vec![outputs, inputs]));
            shapes.push((format!("{stage}.{layer}.bias"), vec![outputs]));
        }
    }
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    let mut bytes: Vec<Vec<u8>> =
        shapes.iter().map(|(_, shape)| number.to_le_bytes().repeat(elements(shape))).collect();
    for (name, _) in undecided.map_or(vec![], |_| shapes.clone()) {
        shapes.push((format!("undecided.{name}"), vec![]));
        bytes.extend(undecided.map(|most| most.to_le_bytes().to_vec()));
    }
    let views = shapes.iter().zip(&bytes).map(|((name, shape), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    fs::write(at.join("answer"), safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_wrong_answer_fails_with_a_table() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let copy =
        "cp answer \"$3/found.safetensors\"; echo '{\"torch\": \"9.9\"}' > \"$3/report.json\"";
    fake(at, copy);
    let args = ["verify", "--hidden", "2", "--batch", "2", "--python", "./fake"];
    for number in [0.25, f32::NAN] {
        answer(at, number, None);
        let output = run(at, &args);
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stdout.contains("against PyTorch 9.9"), "{stdout}");
        assert_eq!(stdout.lines().filter(|line| line.ends_with("BEYOND")).count(), 14, "{stdout}");
        let expected =
            "error: tensors: expected each within its limit of PyTorch's, got 14 of 14 beyond it";
        assert!(stderr.starts_with(expected) && stderr.lines().count() == 1, "{stderr}");
    }
    let output = run(at, &[&args[..], &["--json"]].concat());
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&object["passed"], &object["torch"]), (&false.into(), &"9.9".into()));
    assert_eq!(object["tensors"].as_array().map(Vec::len), Some(14));
}

/// Python's word that rounding decides somewhere excuses nothing: it names where it decided as kiln did.
#[test]
fn what_rounding_decides_is_named_and_excuses_nothing() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    answer(at, 0.25, Some(1e9));
    let tie = r#"{"kind": "ReLU", "share": 1e-7, "step": 1, "call": 2, "element": 77}"#;
    let report =
        format!(r#"{{"torch": "9.9", "ties": {{"found": 5, "tried": 1, "otherwise": [{tie}]}}}}"#);
    fs::write(at.join("report"), report).unwrap();
    fake(at, "cp answer \"$3/found.safetensors\"; cp report \"$3/report.json\"");
    let args = ["verify", "--hidden", "2", "--batch", "2", "--python", "./fake"];
    let output = run(at, &args);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.ends_with("BEYOND")).count(), 14, "{stdout}");
    let named = "step 1, call 2 of ReLUs and pools, a ReLU: element 77, 1.0e-7 of the largest";
    assert!(stdout.contains("rounding decides at 5 elements; 1 of them is"), "{stdout}");
    assert!(stdout.contains(named), "{stdout}");
    let output = run(at, &[&args[..], &["--json"]].concat());
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["ties"]["otherwise"][0]["element"], 77, "{object}");
}

/// The tests with PyTorch itself run where there is one.
fn is_there_pytorch(test: &str) -> bool {
    let is_named = std::env::var_os("TORCH_PYTHON").is_some();
    if !is_named {
        // Straight to the stream: what a passing test prints is not shown.
        let why = "skipped: TORCH_PYTHON does not name a Python with PyTorch";
        let mut stderr = std::io::stderr();
        writeln!(stderr, "{test}: {why}").unwrap();
    }
    is_named
}

fn agree(at: &Path, args: &[&str]) {
    let found = json(at, &[&["verify", "--device", "cpu", "--json"], args].concat());
    assert_eq!(found["passed"], true, "{args:?}: {found}");
    for tensor in found["tensors"].as_array().unwrap() {
        let (difference, limit) = (tensor["difference"].as_f64(), tensor["limit"].as_f64());
        assert!(difference.unwrap() <= limit.unwrap(), "{args:?}: {tensor}");
    }
    let decided = found["ties"]["otherwise"].as_array().map_or(0, Vec::len);
    assert!(decided <= 64, "{args:?}: {}", found["ties"]);
}

#[test]
fn a_step_of_every_network_is_pytorchs() {
    if !is_there_pytorch("a_step_of_every_network_is_pytorchs") {
        return;
    }
    let dir = TempDir::new().unwrap();
    vowels::write(&dir.path().join("speech"));
    for args in [
        &["--net", "simple", "--hidden", "64", "--clip", "0.5"][..],
        &["--net", "variable", "--batch", "4"],
        &["--net", "cnn", "--batch", "2"],
        &["--net", "spatial-cnn", "--batch", "2", "--data", "emoji"],
        &["--net", "residual", "--batch", "2"],
        &["--net", "resnet-small"],
        // Rounding decides some of its ReLUs.
        &["--net", "resnet-small", "--batch", "8"],
        &["--net", "rnn", "--hidden", "24"],
        &["--net", "rnn", "--hidden", "16", "--cell", "gru", "--bidirectional", "--layers", "3"],
        &["--net", "rnn", "--hidden", "16", "--layers", "1", "--optimizer", "adam"],
        &["--net", "rnn", "--hidden", "16", "--data", "vowels:speech"],
        &["--net", "simple", "--hidden", "64", "--steps", "20", "--optimizer", "adamw"],
    ] {
        agree(dir.path(), args);
    }
}

#[test]
fn twenty_steps_are_those_of_a_script_that_draws_from_its_own_seed() {
    if !is_there_pytorch("twenty_steps_are_those_of_a_script_that_draws_from_its_own_seed") {
        return;
    }
    let dir = TempDir::new().unwrap();
    for args in [
        &["--net", "simple", "--steps", "20"][..],
        &["--net", "variable", "--steps", "20"],
        &["--net", "cnn", "--batch", "2", "--steps", "2"],
        &["--net", "resnet-small"],
        &["--net", "residual"],
        &["--net", "rnn", "--hidden", "24", "--steps", "20"],
        &["--net", "rnn", "--hidden", "16", "--cell", "gru", "--bidirectional"],
    ] {
        agree(dir.path(), &[&["--torch-seed", "1"], args].concat());
    }
    let text = succeed(dir.path(), &["verify", "--torch-seed", "1", "--hidden", "32", "--quiet"]);
    assert!(text.contains("initial") && text.contains("fc1.weight"), "{text}");
}
