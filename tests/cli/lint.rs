// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln lint`, and what it says before a training.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{fail, json, run, succeed, QUICK};

#[test]
fn a_network_without_a_mistake_is_told_so() {
    let dir = TempDir::new().unwrap();
    let text = succeed(dir.path(), &["lint"]);
    assert_eq!(text, "0 denied, 0 warnings, 0 notes\n");
    let report = json(dir.path(), &["lint", "--net", "variable", "--json"]);
    assert_eq!(
        (report["net"].as_str(), &report["findings"]),
        (Some("variable"), &Value::from([0; 0]))
    );
}

#[test]
fn findings_say_where_why_and_what_to_do() {
    let dir = TempDir::new().unwrap();
    let text = succeed(dir.path(), &["lint", "--p", "0.8"]);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("warn[D101] dropout1: drops 0.80 of its input, far above 0.5"));
    assert_eq!(lines.next(), Some("  mend: lower the rate to 0.5 or less"));
    assert_eq!(lines.last(), Some("0 denied, 2 warnings, 0 notes"));
    let report = json(dir.path(), &["lint", "--net", "residual", "--json"]);
    let codes: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["D301", "D302", "D302", "D302"]);
    assert_eq!((report["warnings"].as_u64(), report["notes"].as_u64()), (Some(0), Some(4)));
    for key in ["name", "severity", "layer", "reason", "mend", "source"] {
        assert!(report["findings"][0][key].is_string(), "{key}: {report}");
    }
    let report = json(dir.path(), &["lint", "--net", "rnn", "--json"]);
    assert_eq!(report["notes"].as_u64(), Some(2));
}

#[test]
fn a_code_is_explained() {
    let dir = TempDir::new().unwrap();
    let page = succeed(dir.path(), &["lint", "--explain", "D204"]);
    assert!(page.starts_with("D204 dropout-in-series: "), "{page}");
    assert!(page.contains("\n  warn: ") && page.contains("Mend: ") && page.contains("Source: "));
    assert_eq!(succeed(dir.path(), &["lint", "--explain", "dropout-in-series"]), page);
    let object = json(dir.path(), &["lint", "--explain", "D204", "--json"]);
    assert_eq!(object["grades"][0]["severity"].as_str(), Some("warn"));
    let output = run(dir.path(), &["lint", "--explain", "D999"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("D101 to D604") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn levels_come_from_options_and_from_a_file() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let high = ["lint", "--p", "0.8"];
    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["lint", "--p", "0.8"], more].concat()
    }
    assert_eq!(succeed(at, &with(&["--allow", "D101"])), "0 denied, 0 warnings, 0 notes\n");
    let output = run(at, &with(&["--deny", "rate-high"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("deny[D101] dropout1: "));
    assert!(String::from_utf8(output.stderr).unwrap().contains("D101"));

    fs::write(at.join("kiln.toml"), "[lint.layers.dropout1]\nrate-high = 'allow'\n").unwrap();
    assert!(succeed(at, &high).starts_with("warn[D101] dropout2: "));
    fs::write(at.join("other.toml"), "[lint]\nD101 = 'deny'\n").unwrap();
    let output = run(at, &with(&["--config", "other.toml", "--warn", "D101"]));
    assert_eq!(output.status.code(), Some(0));
    fs::write(at.join("kiln.toml"), "[lint]\nD101 = 'forbid'\n").unwrap();
    let stderr = fail(at, &high);
    assert!(stderr.contains("kiln.toml: at byte 14: expected allow, warn or deny"), "{stderr}");
    // A training finds it before it writes anything.
    let stderr = fail(at, &["train", "--epochs", "1", "--out", "run"]);
    assert!(stderr.contains("kiln.toml"), "{stderr}");
    assert!(!at.join("run").exists());
}

#[test]
fn what_a_network_is_for_is_told() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["lint", "--p", "0", "--monte-carlo"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("deny[D603] (network): "));
    let text = succeed(dir.path(), &["lint", "--net", "residual", "--samples", "65"]);
    assert!(text.starts_with("warn[D303] "), "{text}");
}

#[test]
fn a_training_shows_them_once_before_the_first_epoch() {
    let dir = TempDir::new().unwrap();
    let loud: Vec<&str> = QUICK.into_iter().filter(|option| *option != "--quiet").collect();
    let train = |p: &str, out: &str| {
        succeed(dir.path(), &[&loud[..], &["--epochs", "2", "--p", p, "--out", out]].concat())
    };
    let text = train("0.8", "A");
    let places: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("warn[D101] "))
        .map(|(number, _)| number)
        .collect();
    let first_epoch = text.lines().position(|line| line.contains("epoch")).unwrap();
    assert!(places.len() == 2 && places.iter().all(|place| *place < first_epoch), "{text}");
    assert!(train("0.1", "B").contains("\nnotes on the network: D102 dropout1, D102 dropout2 ("));
    let text = train("0.5", "C");
    assert!(!text.contains("warn") && !text.contains("notes on"), "{text}");
}
