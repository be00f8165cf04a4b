// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln eval --monte-carlo`: draws beside a single pass, without and with temperature scaling.

use serde_json::Value;
use tempfile::TempDir;

use super::{fail, json, run, succeed, QUICK};

fn trained(more: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    let epochs = ["--epochs", "3", "--out", "RUN"];
    succeed(dir.path(), &[&QUICK[..], &epochs, more].concat());
    dir
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value}"))
}

#[test]
fn draws_are_compared_with_single_passes() {
    let dir = trained(&[]);
    let at = dir.path();
    let ask = ["eval", "--checkpoint", "RUN", "--monte-carlo", "8"];
    let text = succeed(at, &ask);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("test accuracy "), "{text}");
    assert_eq!(lines[2], "8 draws of each of 1597 samples, masks per sample", "{text}");
    let heads = ["accuracy", "NLL", "Brier", "ECE", "AURC"];
    assert_eq!(lines[5].split_whitespace().collect::<Vec<_>>(), heads, "{text}");
    for (line, name) in lines[6..9].iter().zip(["single", "with temperature", "Monte Carlo mean"]) {
        assert!(line.starts_with(name) && line.contains(" %"), "{text}");
    }
    assert!(lines[11].starts_with("right") && lines[12].starts_with("wrong"), "{text}");

    let plain = json(at, &["eval", "--checkpoint", "RUN", "--json"]);
    assert_eq!(plain["monte_carlo"], Value::Null);
    let found = json(at, &[&ask[..], &["--json"]].concat());
    let drawn = &found["monte_carlo"];
    assert_eq!((drawn["draws"].as_u64(), drawn["masks"].as_str()), (Some(8), Some("per-sample")));
    let single = number(drawn, "/single_pass/accuracy");
    assert_eq!(single, number(&plain, "/accuracy"));
    assert_eq!(single, number(drawn, "/with_temperature/accuracy"));
    assert!((number(drawn, "/single_pass/nll") - number(&plain, "/loss")).abs() < 1e-4);
    for row in ["single_pass", "with_temperature", "mean"] {
        for figure in ["nll", "brier", "ece", "adaptive_ece", "aurc"] {
            assert!(number(drawn, &format!("/{row}/{figure}")) > 0.0, "{drawn}");
        }
    }
    let answers = number(drawn, "/right/answers") + number(drawn, "/wrong/answers");
    assert_eq!(answers, number(&found, "/samples"));
    assert!(number(drawn, "/wrong/entropy") > number(drawn, "/right/entropy"), "{drawn}");
    assert!(number(drawn, "/wrong/mutual_information") > 0.0, "{drawn}");

    // The same again, and not with other masks or less dropout.
    assert_eq!(json(at, &[&ask[..], &["--json"]].concat()), found);
    for (option, value) in [("--masks", "consistent"), ("--dropout", "last"), ("--p", "0.1")] {
        let other = json(at, &[&ask[..], &[option, value, "--json"]].concat());
        assert_ne!(number(&other, "/monte_carlo/mean/nll"), number(drawn, "/mean/nll"), "{option}");
        assert_eq!(other["monte_carlo"]["single_pass"], drawn["single_pass"], "{option}");
    }
}

#[test]
fn what_has_no_spread_is_refused() {
    let dir = trained(&[]);
    let at = dir.path();
    let ask = |more: &[&'static str]| [&["eval", "--checkpoint", "RUN"][..], more].concat();
    for draws in ["0", "1"] {
        let error = fail(at, &ask(&["--monte-carlo", draws]));
        assert!(error.contains("monte-carlo: expected 2 draws or more"), "{error}");
    }
    let error = fail(at, &ask(&["--monte-carlo", "4", "--p", "0"]));
    assert!(error.contains("monte_carlo: expected a network with dropout"), "{error}");
    for option in [["--masks", "consistent"], ["--dropout", "last"]] {
        let output = run(at, &ask(&option));
        assert_eq!(output.status.code(), Some(2), "{option:?} without --monte-carlo");
    }
}
