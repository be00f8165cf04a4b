// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks with convolutions in the program.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{epochs, fail, json, kiln, model, succeed};

const NETS: [&str; 4] = ["cnn", "spatial-cnn", "residual", "resnet-small"];

#[test]
fn a_killed_run_with_batch_norm_ends_with_the_same_weights_and_statistics() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let args = ["train", "--net", "residual", "--train-samples", "48", "--batch", "4", "--quiet"];
    let args = [&args[..], &["--epochs", "3", "--out"]].concat();
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
        sleep(Duration::from_millis(40 * kill as u64));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        command = vec!["train", "--quiet", "--resume", "killed"];
    }
    succeed(at, &command);
    assert_eq!(model(at, "whole"), model(at, "killed"));
    assert_eq!(epochs(at, "killed"), [1, 2, 3]);
    // What is compared holds the running statistics: 36 batches of each layer.
    let file = model(at, "whole");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    for norm in ["features.0.1", "features.1.bn1", "features.1.bn2"] {
        let count = tensors.tensor(&format!("{norm}.num_batches_tracked")).unwrap();
        assert_eq!(count.data(), 36_i64.to_le_bytes(), "{norm}");
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
fn networks_of_images_train_and_are_compared_and_evaluated() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let few = ["--train-samples", "24", "--batch", "8", "--epochs", "1"];
    let table = ["compare", "--net", "cnn", "--data", "digits32", "--out", "C"];
    let text = succeed(at, &[&table[..], &few].concat());
    for word in ["dropout 0 against 0.25+0.5", "train accuracy", "digits32"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    let train = ["train", "--net", "resnet-small", "--p", "0.2", "--out", "R", "--json"];
    let trained = json(at, &[&train[..], &few].concat());
    assert_eq!(trained["data"], "digits32");
    let evaluated = json(at, &["eval", "--checkpoint", "R", "--json"]);
    assert_eq!(evaluated["accuracy"], trained["test_accuracy"]);
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
