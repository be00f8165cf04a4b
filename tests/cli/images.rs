// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks with convolutions in the program.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::pictures::write_cifar10;
use crate::{epochs, fail, json, kiln, model, succeed};

const NETS: [&str; 4] = ["cnn", "spatial-cnn", "residual", "resnet-small"];

#[test]
fn a_killed_run_with_batch_norm_ends_with_the_same_weights_and_statistics() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_cifar10(&at.join("few"));
    let args = ["train", "--net", "residual", "--data", "cifar10:few", "--batch", "2", "--quiet"];
    let changes = ["--augment", "crop,flip,cutout"];
    let args = [&args[..], &changes, &["--threads", "1", "--epochs", "2", "--out"]].concat();
    succeed(at, &[&args[..], &["whole"]].concat());
    // In the middle of the second epoch, as far as one can tell: it may also be at its end.
    let mut child = kiln(at).args(&args).arg("killed").stdout(Stdio::null()).spawn().unwrap();
    let metrics = at.join("killed/metrics.jsonl");
    let deadline = Instant::now() + Duration::from_secs(600);
    let begun = || metrics.is_file() && !epochs(at, "killed").is_empty();
    while !begun() && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "no epoch within ten minutes");
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_millis(40));
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    succeed(at, &["train", "--quiet", "--resume", "killed", "--threads", "1"]);
    assert_eq!(model(at, "whole"), model(at, "killed"));
    assert_eq!(epochs(at, "killed"), [1, 2]);
    // What is compared holds the running statistics: 20 batches of each layer.
    let file = model(at, "whole");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    for norm in ["features.0.1", "features.1.bn1", "features.1.bn2"] {
        let count = tensors.tensor(&format!("{norm}.num_batches_tracked")).unwrap();
        assert_eq!(count.data(), 20_i64.to_le_bytes(), "{norm}");
        let mean = tensors.tensor(&format!("{norm}.running_mean")).unwrap();
        assert!(mean.data().iter().any(|byte| *byte != 0), "{norm}");
    }
}

#[test]
fn each_network_has_a_plan_on_both_devices() {
    let dir = TempDir::new().unwrap();
    for net in NETS {
        for device in [&["--threads", "2"][..], &["--device", "cuda", "--arch", "sm_90"]] {
            for mode in ["train", "eval"] {
                let args = ["plan", "--net", net, "--batch", "8", "--mode", mode, "--json"];
                let plan = json(dir.path(), &[&args[..], device].concat());
                assert_eq!(plan["mask_bytes"].as_u64(), Some(0), "{net}");
                assert!(!plan["plan"].as_array().unwrap().is_empty(), "{net}");
            }
        }
    }
}

#[test]
fn networks_of_images_are_compared_and_evaluated() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_cifar10(&at.join("few"));
    let compare = ["compare", "--net", "residual", "--data", "cifar10:few", "--out", "C"];
    let few = ["--batch", "8", "--epochs", "1", "--seeds", "1", "--threads", "1"];
    let text = succeed(at, &[&compare[..], &few].concat());
    for word in ["dropout 0 against 0.1", "train accuracy", "cifar10"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    let evaluated = json(at, &["eval", "--checkpoint", "C/p0.1/seed0", "--json", "--threads", "1"]);
    let result = fs::read_to_string(at.join("C/result.json")).unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(evaluated["accuracy"], result["runs"][1]["test_accuracy"]);
    assert_eq!(result["runs"][1]["dropout"], "0.1");
}

#[test]
fn images_that_do_not_fit_are_one_line_with_the_layer() {
    let dir = TempDir::new().unwrap();
    let text = fail(dir.path(), &["train", "--net", "cnn", "--data", "digits"]);
    for word in ["conv1", "[samples, 3, height, width]", "28, 28"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    let text = fail(dir.path(), &["train", "--net", "simple", "--data", "digits32"]);
    assert!(text.contains("fc1") && text.contains("3072"), "{text}");
    let text = fail(dir.path(), &["train", "--net", "residual", "--p", "1.5"]);
    assert!(text.contains("dropout: p:"), "{text}");
    let text = fail(dir.path(), &["train", "--net", "cnn", "--hidden", "5"]);
    assert!(text.contains("hidden"), "{text}");
}
