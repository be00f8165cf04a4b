// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask peers --device cuda` with benches that write rows and end as told.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Shared by all rows.
const COMMON: &str = r#""shape": "[64, 784]", "dtype": "f32", "cache": "warm", "rounds_us": [], "noisy": false,
    "device": "a GPU", "driver": "CUDA 13.0", "kernel_hash": "1234""#;
const STEP: &str = r#""group": "step", "name": "simple:64:adam", "feed": "resident""#;

/// A bench that notes its arguments beside itself, writes rows where it is told to, and ends with a code.
fn bench(folder: &TempDir, rows: &[String], code: u8) -> String {
    let path = folder.path().join("bench");
    let rows: Vec<String> = rows.iter().map(|row| row.replace('\n', " ")).collect();
    let lines = format!(
        "#!/bin/sh\necho \"$*\" > \"$0.arguments\"\nwhile [ \"$1\" != --json ]; do shift; done\n\
         echo 'progress'\ncat > \"$2\" <<'END'\n{}\nEND\nexit {code}\n",
        rows.join("\n")
    );
    std::fs::write(&path, lines).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
    path.to_string_lossy().into_owned()
}

fn row(timed: &str, about: &str) -> String {
    format!("{{{about}, \"timed\": \"{timed}\", {COMMON}}}")
}

fn peers(programs: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["peers", "--with", "torch,burn,candle", "--programs"]).arg(programs);
    command.args(more).env_remove("TORCH_PYTHON");
    command.output().expect("xtask")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn rows_of_a_simulated_device_are_shown_as_not_timed_and_kept_nowhere() {
    let folder = TempDir::new().expect("a folder");
    let rows = [
        row("simulated: not timed", r#""group": "ceiling", "name": "copy", "peer": "kiln""#),
        row("simulated: not timed", &format!(r#"{STEP}, "peer": "kiln""#)),
    ];
    let program = bench(&folder, &rows, 0);
    let asked = ["--device", "cuda:1", "--quick", "--only", "simple", "--bench", &program];
    let output = peers(folder.path(), &asked);
    let (table, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(table.contains("ceiling: copy (warm) simulated: not timed"), "{table}");
    let step = table.lines().last().expect("a line");
    assert!(step.starts_with("simple:64:adam") && step.ends_with("simulated: not timed"), "{step}");
    for left_out in
        ["torch, because TORCH_PYTHON", "burn, because there", "candle, because it has no"]
    {
        assert!(told.contains(&format!("left out: {left_out}")), "{told}");
    }
    let arguments = std::fs::read_to_string(folder.path().join("bench.arguments")).expect("noted");
    assert!(
        arguments.starts_with("--parts steps --device 1 --only simple --rounds 3"),
        "{arguments}"
    );
    assert!(!table.contains("progress") && told.contains("progress"), "{table}");

    let output = peers(folder.path(), &[&asked[..], &["--record"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("nothing is kept of a device that is not timed"));
}

#[test]
fn a_broken_peer_makes_the_exit_code_2_and_the_others_are_shown() {
    let folder = TempDir::new().expect("a folder");
    let rows = [
        row(
            "by the device",
            &format!(
                r#"{STEP}, "peer": "kiln", "us": [19.0, 20.0, 21.0], "percent_of_ceiling": 40.0"#
            ),
        ),
        row(
            "by the host",
            &format!(
                r#"{STEP}, "peer": "torch-graph", "version": "2.15", "us": [30.0, 31.0, 32.0], "ratio": 1.55, "ratio_range": [1.5, 1.6]"#
            ),
        ),
        row("by the host", &format!(r#"{STEP}, "peer": "burn", "broken": "the peer is gone""#)),
    ];
    std::fs::write(folder.path().join("peer-burn-cuda"), "").expect("a file");
    let program = bench(&folder, &rows, 2);
    let asked = ["--device", "cuda", "--bench", &program];
    let output = peers(folder.path(), &asked);
    let (table, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("some peers gave no figures"), "{told}");
    let figures = |peer: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.split_whitespace().nth(3) == Some(peer));
        line.expect("a row").split_whitespace().skip(4).map(str::to_owned).collect()
    };
    assert_eq!(figures("kiln"), ["20.0", "(19.0-21.0)", "40.0", "-"]);
    assert_eq!(figures("torch-graph"), ["31.0", "(30.0-32.0)", "-", "1.55", "(1.50-1.60)"]);
    assert_eq!(figures("burn").join(" "), "no figures: the peer is gone");
    let arguments = std::fs::read_to_string(folder.path().join("bench.arguments")).expect("noted");
    assert!(arguments.contains("--burn ") && arguments.contains("peer-burn-cuda"), "{arguments}");

    let output = peers(folder.path(), &[&asked[..], &["--json"]].concat());
    let found: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!((&found["device"], &found["versions"]["torch"]), (&"a GPU".into(), &"2.15".into()));
    assert_eq!(found["rows"].as_array().map(Vec::len), Some(3));
}

#[test]
fn without_rows_or_a_device_there_is_a_message() {
    let folder = TempDir::new().expect("a folder");
    let said = |more: &[&str]| {
        let output = peers(folder.path(), more);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        assert!(output.stdout.is_empty());
        text(&output.stderr)
    };
    assert!(said(&["--device", "cuda:99"]).contains("error: cuda:99: "));
    let program = bench(&folder, &[], 1);
    let empty = said(&["--device", "cuda", "--bench", &program]);
    assert!(empty.contains("error: "), "{empty}");
    let program = bench(&folder, &["forty-two".into()], 0);
    let nonsense = said(&["--device", "cuda", "--bench", &program]);
    assert!(nonsense.contains("error: row 1: "), "{nonsense}");
    for wrong in [&["--costs"][..], &["--check-bars"], &["--cases", "a64sgd"]] {
        assert!(said(&[&["--device", "cuda"], wrong].concat()).contains("is for the CPU"));
    }
    assert!(said(&["--only", "simple"]).contains("are for a GPU"));
}
