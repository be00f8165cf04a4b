// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--precision f16` trains with a loss scale, which metrics and checkpoints tell of.

use std::fs;

use serde_json::{json, Value};
use tempfile::TempDir;

use crate::{model, run, succeed, QUICK};

#[test]
fn the_scale_is_told_after_each_epoch_and_resumed() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let f16 = ["--precision", "f16"];
    let output = run(at, &[&QUICK[..5], &f16, &["--epochs", "3", "--out", "whole"]].concat());
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(text.matches("  loss scale 65536  ").count(), 3, "{text}");
    let metrics = |run: &str| -> Vec<Value> {
        let text = fs::read_to_string(at.join(run).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // Four updates in an epoch.
    for (epoch, line) in metrics("whole").iter().enumerate() {
        let good_steps = 4 * (epoch + 1);
        let expected = json!({"scale": 65536.0, "good_steps": good_steps, "skipped": 0});
        assert_eq!(line["loss_scale"], expected);
    }
    succeed(at, &[&QUICK[..], &f16, &["--epochs", "2", "--out", "half"]].concat());
    succeed(at, &["train", "--quiet", "--resume", "half", "--epochs", "3"]);
    assert_eq!(metrics("half")[2]["loss_scale"], metrics("whole")[2]["loss_scale"]);
    assert!(model(at, "half") == model(at, "whole"));

    succeed(at, &[&QUICK[..], &["--epochs", "1", "--out", "f32"]].concat());
    assert_eq!(metrics("f32")[0].get("loss_scale"), None);
}
