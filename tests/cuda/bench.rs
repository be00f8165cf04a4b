// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bench on the simulated device, which is not timed, beside peers that do what they should and such that break.

#[path = "../../benches/cuda.rs"]
#[expect(dead_code, reason = "its `main` is for who runs it alone")]
mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use kiln::Precision;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::simulator;
use program::measure::Size;
use program::networks::{cases, Rates};
use program::parity::Outcome;
use program::peer::Team;
use program::row::Row;
use program::turns::{self, Opponent, Turn};
use program::Args;

/// Every question is answered by a step that left nothing, as fast as can be.
const EMPTY_HANDED: &str = r#"echo '{"ready": true, "version": "1"}'
while read question; do echo '{"loss": 1.0, "us": 4.0}'; done"#;
const BABBLING: &str =
    r#"echo '{"ready": true, "version": "1"}'; while read question; do echo forty-two; done"#;
const WITHOUT_TORCH: &str = "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1";
const WITHOUT_GPU: &str = r#"echo '{"error": "burn finds 0 CUDA devices"}'; exit 1"#;
const WITHOUT_MASKS: &str = r#"echo '{"ready": true, "version": "1"}'; while read question; do
set -- $question
if grep -q mask. "$5/batch.safetensors"; then echo '{"masks": "none"}'; else echo '{"loss": 1.0, "us": 4.0}'; fi
done"#;
const WITHOUT_NETWORK: &str = r#"echo '{"ready": true, "version": "1"}'
while read question; do echo '{"none": "there is no network"}'; done"#;
/// It hears two questions.
const MORTAL: &str = r#"echo '{"ready": true, "version": "2"}'
for turn in 1 2; do read question; echo '{"us": 4.0}'; done"#;

/// A program of a few lines.
fn sh(folder: &TempDir, name: &str, lines: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    path.to_string_lossy().into_owned()
}

fn args(words: &[&str]) -> Args {
    Args::parse_from([&["bench", "--modes", "eager"], words].concat())
}

/// Runs the smallest training step beside two peers; the exit code, and the rows of the step.
fn run(folder: &TempDir, torch: &str, burn: &str) -> (String, Vec<Value>) {
    let (torch, burn) = (sh(folder, "python", torch), sh(folder, "burn", burn));
    let file = folder.path().join("rows");
    let json = file.to_string_lossy();
    let steps = ["--parts", "steps", "--precisions", "f32", "--only", "mlp16", "--json", &json];
    let code = program::run(&args(&[&steps[..], &["--torch", &torch, "--burn", &burn]].concat()));
    let rows = lines(&file);
    assert!(rows.iter().all(|row| row["timed"] == "simulated: not timed" && row["us"].is_null()));
    assert!(rows.iter().any(|row| row["name"] == "ceiling_f32"));
    let steps = rows.into_iter().filter(|row| row["group"] == "step").collect();
    (format!("{:?}", code.expect("kiln's own steps are made")), steps)
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("rows");
    text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// What rows say of a peer: why it broke, or what it computes instead.
fn said(rows: &[Value], peer: &str, key: &str) -> Vec<String> {
    let of = rows.iter().filter(|row| row["peer"] == peer);
    of.map(|row| row[key].as_str().unwrap_or_else(|| panic!("{row}")).to_owned()).collect()
}

fn code(number: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(number))
}

#[test]
fn broken_peers_leave_rows_that_say_so_and_kiln_its_own() {
    let Some(_simulator) = simulator() else { return };
    let folder = TempDir::new().expect("a folder");
    let (ended, rows) = run(&folder, WITHOUT_TORCH, BABBLING);
    assert_eq!(ended, code(2));
    let feeds: Vec<&Value> =
        rows.iter().filter(|row| row["peer"] == "kiln").map(|row| &row["feed"]).collect();
    assert_eq!(feeds, ["resident", "from host"]);
    for why in said(&rows, "torch-eager", "broken") {
        assert!(why.contains("exit status: 1, ModuleNotFoundError: No module named"), "{why}");
    }
    let babble = said(&rows, "burn", "broken");
    assert_eq!(babble, ["the peer: expected JSON, got forty-two"; 2]);

    let (ended, rows) = run(&folder, EMPTY_HANDED, WITHOUT_GPU);
    assert_eq!(ended, code(2));
    assert_eq!(said(&rows, "burn", "broken"), ["burn finds 0 CUDA devices"; 2]);
    for what in said(&rows, "torch-eager", "differs") {
        assert!(what.starts_with("loss differs by "), "{what}");
    }
}

#[test]
fn what_takes_no_masks_is_asked_without_and_what_has_no_network_is_left_out() {
    let Some(_simulator) = simulator() else { return };
    let folder = TempDir::new().expect("a folder");
    let (ended, rows) = run(&folder, WITHOUT_MASKS, WITHOUT_NETWORK);
    assert_eq!(ended, code(0));
    for what in said(&rows, "torch-eager", "differs") {
        assert!(what.starts_with("loss differs") && what.ends_with(", with p = 0"), "{what}");
    }
    let peers: Vec<&Value> = rows.iter().map(|row| &row["peer"]).collect();
    assert_eq!(peers, ["kiln", "torch-eager", "kiln", "torch-eager"]);
}

/// Beside a kiln whose times are made up.
#[test]
fn a_peer_that_dies_in_the_middle_of_a_round_is_no_figure_and_the_other_is() {
    let folder = TempDir::new().expect("a folder");
    let (torch, burn) = (sh(&folder, "python", MORTAL), sh(&folder, "burn", EMPTY_HANDED));
    let mut team = Team::new(&args(&["--torch", &torch, "--burn", &burn]));
    let same = |rival| Opponent { rival, outcome: Outcome::Same(Rates::Own), us: Vec::new() };
    let opponents = team.rivals().into_iter().map(same).collect();
    let turn = Turn { feed: "resident", rounds: 3, milliseconds: 1 };
    let case = &cases(Size::Small)[0];
    let own = || Ok(Some([1.0, 2.0, 3.0]));
    let turns = turns::take(case, Precision::F32, turn, &mut team, opponents, own);
    let rows = turns.expect("kiln's own are made").rows(&Row::default(), &team);
    let of = |peer: &str| rows.iter().find(|row| row.peer == peer).expect("a row");
    assert_eq!((of("kiln").us, of("kiln").rounds_us.len()), (Some([1.0, 2.0, 3.0]), 3));
    let dead = of("torch-eager");
    let why = dead.broken.as_deref().expect("a reason");
    assert!(why.starts_with("the peer ") && dead.us.is_none() && dead.ratio.is_none(), "{why}");
    let alive = of("burn");
    assert_eq!((alive.ratio, &alive.broken), (Some(2.0), &None));
    assert_eq!((alive.us, alive.version.as_deref()), (Some([4.0; 3]), Some("1")));
}
