// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask peers` beside programs that do what they should, die, talk nonsense, fall silent or compute
//! something else.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// kiln itself, which agrees with kiln.
const HONEST: &str = "exec XTASK peer $1";
/// It hears the first two questions: the check, and a first turn.
const MORTAL: &str = r#"for turn in 1 2; do read question; echo "$question"; done | XTASK peer $1"#;
const BABBLING: &str =
    r#"echo '{"ready": true, "version": "1"}'; while read question; do echo forty-two; done"#;
const OTHERWISE: &str = r#"XTASK peer $1 | sed -u 's/"loss":[0-9.]*/"loss":99.0/'"#;
/// It hears a question and never answers; what it started meanwhile tells that it lives.
const SILENT: &str = r#"echo '{"ready": true, "version": "1"}'; read question
while sleep 0.1; do echo alive >> "$(dirname "$0")/signs"; done & wait"#;
/// kiln, if it took no masks.
const WITHOUT_MASKS: &str = r#"cd "$(dirname "$0")" && mkfifo questions answers
XTASK peer $1 < questions > answers & exec 3> questions 4< answers
read -r greeting <&4; echo "$greeting"
while read -r what case more; do
    if [ $what = check ] && grep -q mask.dropout "$more/batch.safetensors"; then
        echo '{"masks": "none"}'
    else
        echo "$what $case $more" >&3; read -r answer <&4; echo "$answer"
    fi
done"#;
/// It claims to have made a step and shows nothing.
const EMPTY_HANDED: &str = r#"echo '{"ready": true, "version": "1"}'; while read question; do
echo '{"loss": 1, "step_median_ms": 1, "step_p99_ms": 1}'; done"#;
const WITHOUT_TORCH: &str = "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1";

/// A program of a few lines.
fn program(folder: &Path, name: &str, lines: &str) {
    let path = folder.join(name);
    let lines = lines.replace("XTASK", XTASK);
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a file");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("a program");
}

/// All cases that are asked for with the programs of a folder, whose `python` is PyTorch's if there is one.
fn peers(folder: &Path, cases: &str, more: &[&str]) -> Output {
    let mut command = Command::new(XTASK);
    command.args(["peers", "--with", "torch,burn,candle", "--threads", "1", "--quick"]);
    command.args(["--cases", cases, "--programs"]).arg(folder).args(more);
    match folder.join("python") {
        python if python.exists() => command.env("TORCH_PYTHON", python),
        _ => command.env_remove("TORCH_PYTHON"),
    };
    command.output().expect("xtask")
}

fn rows(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["rows"].as_array().expect("rows").clone()
}

/// The rows of a peer, one for each case.
fn of<'a>(rows: &'a [Value], peer: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["peer"] == peer).collect()
}

fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_peer_that_dies_leaves_a_row_and_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    program(folder.path(), "peer-burn", MORTAL);
    program(folder.path(), "peer-candle", HONEST);
    program(folder.path(), "python", WITHOUT_TORCH);
    let output = peers(folder.path(), "a64sgd,a1eval", &["--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", complaints(&output));
    let rows = rows(&output);
    for row in of(&rows, "burn") {
        let why = row["broken"].as_str().expect("a reason");
        assert!(why.starts_with("the peer ") && row["ratio"].is_null(), "{row}");
    }
    for row in of(&rows, "torch-eager") {
        let why = row["broken"].as_str().expect("a reason");
        assert!(why.contains("exit status: 1, ModuleNotFoundError: No module named"), "{why}");
    }
    assert_eq!([of(&rows, "burn").len(), of(&rows, "torch-eager").len()], [2, 2]);
    for row in of(&rows, "candle").into_iter().chain(of(&rows, "kiln")) {
        assert!(row["ms"].as_f64().expect("a time") > 0.0, "{row}");
        assert_eq!(row["rounds_ms"].as_array().expect("rounds").len(), 3, "{row}");
    }
    let ratios = of(&rows, "candle").into_iter().filter(|row| row["ratio"].is_number()).count();
    assert_eq!((ratios, of(&rows, "kiln").len()), (2, 2));
}

#[test]
fn nonsense_is_shown_and_other_results_have_no_ratio() {
    let folder = tempfile::tempdir().expect("a folder");
    program(folder.path(), "peer-burn", BABBLING);
    program(folder.path(), "peer-candle", OTHERWISE);
    let output = peers(folder.path(), "a64adam", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", complaints(&output));
    assert!(complaints(&output).contains("left out: torch, because TORCH_PYTHON"));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |peer: &str| {
        let row = table.lines().find(|line| line.split_whitespace().nth(2) == Some(peer));
        row.unwrap_or_else(|| panic!("no row of {peer} in {table}"))
    };
    assert!(line("burn").contains("no figures: the peer: expected JSON, got forty-two"), "{table}");
    let candle = line("candle");
    assert!(candle.contains("computes something else: loss differs by"), "{table}");
    let figures: Vec<&str> = candle.split_whitespace().collect();
    assert!(figures[3].parse::<f64>().is_ok() && figures[7] == "-", "{candle}");
}

#[test]
fn a_peer_that_never_answers_is_ended_with_what_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    program(folder.path(), "peer-burn", SILENT);
    program(folder.path(), "peer-candle", HONEST);
    let output = peers(folder.path(), "a1eval", &["--json", "--patience", "4"]);
    assert_eq!(output.status.code(), Some(2), "{}", complaints(&output));
    let rows = rows(&output);
    assert_eq!(of(&rows, "burn")[0]["broken"], "no answer in 4 s");
    assert!(of(&rows, "candle")[0]["ratio"].is_number());
    let signs = || std::fs::metadata(folder.path().join("signs")).expect("signs of life").len();
    let last = signs();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(signs(), last, "something that the peer started lives on");
}

#[test]
fn what_takes_no_masks_is_compared_without_dropout() {
    let folder = tempfile::tempdir().expect("a folder");
    program(folder.path(), "peer-burn", WITHOUT_MASKS);
    program(folder.path(), "peer-candle", EMPTY_HANDED);
    let output = peers(folder.path(), "a64sgd", &["--json"]);
    assert!(output.status.success(), "{}", complaints(&output));
    let rows = rows(&output);
    let burn = of(&rows, "burn")[0];
    assert!(burn["compared"] == "with p = 0" && burn["ratio"].is_number(), "{burn}");
    let candle = of(&rows, "candle")[0];
    let why = candle["differs"].as_str().expect("a difference");
    assert!(
        why.starts_with("it left no after.safetensors: ") && candle["ratio"].is_null(),
        "{why}"
    );
}

#[test]
fn what_is_missing_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = peers(folder.path(), "a1eval", &["--json"]);
    assert!(output.status.success(), "{}", complaints(&output));
    for library in ["torch", "burn", "candle"] {
        let said = format!("left out: {library}, because ");
        assert!(complaints(&output).contains(&said), "{}", complaints(&output));
    }
    let rows = rows(&output);
    assert_eq!((rows.len(), &rows[0]["peer"]), (1, &Value::from("kiln")));
}
