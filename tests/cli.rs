// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program as its users meet it: results, files, exit codes, and what survives `kill -9`.

#[path = "cli/compare.rs"]
mod compare;
#[path = "cli/dropout_schedule.rs"]
mod dropout_schedule;
#[cfg(target_os = "linux")]
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/images.rs"]
mod images;
#[path = "cli/lint.rs"]
mod lint;
#[path = "cli/loss_scale.rs"]
mod loss_scale;
#[path = "cli/mask.rs"]
mod mask;
#[path = "cli/monte_carlo.rs"]
mod monte_carlo;
#[path = "cli/non_finite.rs"]
mod non_finite;
#[path = "cli/pictures.rs"]
mod pictures;
#[path = "cli/records.rs"]
mod records;
#[path = "cli/resume.rs"]
mod resume;
#[cfg(unix)]
#[path = "cli/signals.rs"]
mod signals;
#[cfg(unix)]
#[path = "cli/streams.rs"]
mod streams;
#[path = "cli/texts.rs"]
mod texts;
#[cfg(target_os = "linux")]
#[path = "cli/verify.rs"]
mod verify;
#[path = "cli/vowels.rs"]
mod vowels;
#[path = "cli/watch.rs"]
mod watch;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

/// Quick settings of a training on the digits.
const QUICK: [&str; 6] = ["train", "--hidden", "32", "--train-samples", "200", "--quiet"];

fn kiln(directory: &Path) -> Command {
    let mut command = Command::new(cargo_bin("kiln"));
    command.current_dir(directory);
    command
}

fn run(directory: &Path, args: &[&str]) -> Output {
    kiln(directory).args(args).output().unwrap()
}

/// Runs with success and nothing on the standard error; the standard output.
fn succeed(directory: &Path, args: &[&str]) -> String {
    let output = run(directory, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with one line on the standard error, which is returned, and nothing else.
fn fail(directory: &Path, args: &[&str]) -> String {
    let output = run(directory, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && output.stdout.is_empty(), "{args:?}: {stderr}");
    stderr
}

fn json(directory: &Path, args: &[&str]) -> Value {
    let text = succeed(directory, args);
    assert_eq!(text.lines().count(), 1, "one object: {text}");
    serde_json::from_str(&text).unwrap()
}

fn model(directory: &Path, run: &str) -> Vec<u8> {
    fs::read(directory.join(run).join("model.safetensors")).unwrap()
}

fn epochs(directory: &Path, run: &str) -> Vec<u64> {
    let metrics = fs::read_to_string(directory.join(run).join("metrics.jsonl")).unwrap();
    let number =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["epoch"].as_u64().unwrap();
    metrics.lines().map(number).collect()
}

#[test]
fn six_epochs_are_three_and_three() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    for extra in [&["--optimizer", "adam", "--clip", "1", "--micro-batches", "3"][..], &[]] {
        let _ = (fs::remove_dir_all(at.join("A")), fs::remove_dir_all(at.join("B")));
        succeed(at, &[&QUICK[..], extra, &["--epochs", "6", "--out", "A"]].concat());
        succeed(at, &[&QUICK[..], extra, &["--epochs", "3", "--out", "B"]].concat());
        assert_ne!(model(at, "A"), model(at, "B"));
        succeed(at, &["train", "--quiet", "--resume", "B", "--epochs", "6"]);
        assert_eq!(model(at, "A"), model(at, "B"), "{extra:?}");
        assert_eq!(epochs(at, "B"), [1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn a_killed_run_ends_with_the_same_weights() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    // Batches of 4, so that most of the time is spent in the middle of an epoch.
    let args = [&QUICK[..], &["--epochs", "6", "--batch", "4", "--out"]].concat();
    succeed(at, &[&args[..], &["whole"]].concat());
    let mut command = [&args[..], &["killed"]].concat();
    for kill in 0..4 {
        let mut child = kiln(at).args(&command).stdout(Stdio::null()).spawn().unwrap();
        let checkpoint = at.join("killed/training.safetensors");
        let deadline = Instant::now() + Duration::from_secs(60);
        let begun = || checkpoint.is_file() && epochs_so_far(at) >= kill;
        while !begun() && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no checkpoint within a minute");
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(3 * kill as u64));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        command = vec!["train", "--quiet", "--resume", "killed"];
    }
    succeed(at, &command);
    assert_eq!(model(at, "whole"), model(at, "killed"));
    assert_eq!(epochs(at, "killed"), [1, 2, 3, 4, 5, 6]);
}

fn epochs_so_far(at: &Path) -> usize {
    let metrics = fs::read_to_string(at.join("killed/metrics.jsonl")).unwrap_or_default();
    metrics.lines().count()
}

#[test]
fn threads_do_not_change_the_result() {
    let dir = TempDir::new().unwrap();
    for threads in ["1", "2", "3"] {
        let args = ["--epochs", "2", "--threads", threads, "--out", threads];
        succeed(dir.path(), &[&QUICK[..], &args].concat());
    }
    assert_eq!(model(dir.path(), "1"), model(dir.path(), "2"));
    assert_eq!(model(dir.path(), "1"), model(dir.path(), "3"));
}

#[test]
fn a_run_leaves_everything_that_eval_needs() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let trained = json(at, &[&QUICK[..], &["--epochs", "2", "--out", "A", "--json"]].concat());
    let evaluated = json(at, &["eval", "--checkpoint", "A", "--json"]);
    assert_eq!(evaluated["accuracy"], trained["test_accuracy"]);
    assert_eq!(evaluated["loss"], trained["test_loss"]);
    assert_eq!(evaluated["samples"], 1597);
    let file = ["--checkpoint", "A/model.safetensors", "--hidden", "32", "--train-samples", "200"];
    assert_eq!(json(at, &[&["eval", "--json"], &file[..]].concat())["loss"], trained["test_loss"]);
    let metrics = fs::read_to_string(at.join("A/metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    let keys: Vec<&str> = last.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = ["epoch", "p", "train_loss", "train_accuracy", "test_loss"].to_vec();
    expected.extend(["test_accuracy", "seconds", "learning_rate"]);
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let svg = fs::read_to_string(at.join("A/curves.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(["epoch", "accuracy", "loss", "train", "test"].iter().all(|word| svg.contains(word)));
}

#[test]
fn runs_without_a_directory_get_numbers() {
    let dir = TempDir::new().unwrap();
    for _ in 0..2 {
        succeed(dir.path(), &[&QUICK[..], &["--epochs", "1"]].concat());
    }
    assert!(dir.path().join("runs/simple-digits-1/model.safetensors").is_file());
    assert!(dir.path().join("runs/simple-digits-2/model.safetensors").is_file());
}

/// The claim of the program: with a fifth of the labels wrong, dropout gains 5 points and more.
/// What the program does without arguments, but from one seed: three would take minutes in a debug build.
#[test]
fn a_comparison_shows_that_dropout_helps() {
    let dir = TempDir::new().unwrap();
    let text = succeed(dir.path(), &["compare", "--seeds", "1"]);
    assert!(text.contains("verdict: dropout helps, by +"), "{text}");
    assert!(!text.contains('\u{1b}'), "plain text where there is no terminal");
    let result = fs::read(dir.path().join("runs/compare-digits-1/result.json")).unwrap();
    let result: Value = serde_json::from_slice(&result).unwrap();
    assert!(result["gain"].as_f64().unwrap() >= 0.05, "{result}");
}

#[test]
fn plan_counts() {
    let dir = TempDir::new().unwrap();
    let plan = json(dir.path(), &["plan", "--net", "simple", "--batch", "256", "--json"]);
    let number = |key: &str| plan[key].as_u64().unwrap_or_else(|| panic!("{key}"));
    assert_eq!(plan["plan"].as_array().unwrap().len() as u64, number("steps"));
    assert_eq!(number("steps"), number("launches"));
    assert_eq!(number("mask_bytes"), 0);
    assert_eq!(number("random_steps"), 2);
    assert!(number("arena_bytes") < number("unshared_bytes"));
    let sum = |key: &str| -> u64 {
        plan["plan"].as_array().unwrap().iter().map(|step| step[key].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("bytes"), sum("flops")), (number("bytes"), number("flops")));

    let eval = json(dir.path(), &["plan", "--mode", "eval", "--json"]);
    assert_eq!(eval["random_steps"], 0);
    let random = |step: &Value| step["ops"].as_array().unwrap().contains(&"dropout".into());
    assert!(plan["plan"].as_array().unwrap().iter().any(random));
    assert!(!eval["plan"].as_array().unwrap().iter().any(random));

    let text = succeed(dir.path(), &["plan"]);
    assert!(text.contains("matmul+broadcast+add+relu+dropout") && text.contains("masks 0 bytes"));
    let text = succeed(dir.path(), &["plan", "--threads", "2"]);
    assert!(text.lines().next().is_some_and(|line| line.ends_with("  path")), "{text}");
    // Both layers; the last one has too few outputs to skip zeros.
    let [first, last] = [1, 3].map(|line| text.lines().nth(line).unwrap_or(""));
    assert!(first.contains("  dense") && first.contains(", outputs divided"), "{text}");
    assert!(last.contains("  dense, rows divided"), "{text}");
    let path = |step: &Value| step["path"].as_str().is_some_and(|path| !path.is_empty());
    assert!(plan["plan"].as_array().unwrap().iter().all(path), "{plan}");
    assert!(succeed(dir.path(), &["plan", "--graph", "dot"]).starts_with("digraph"));
    assert!(succeed(dir.path(), &["plan", "--graph", "text"]).contains("dropout[p=16384/32768]"));
}

#[test]
fn doctor_reports() {
    let dir = TempDir::new().unwrap();
    let object = json(dir.path(), &["doctor", "--json", "--threads", "1"]);
    assert_eq!(object["device"], "cpu, 1 thread");
    assert!(object["instruction_set"].is_string() && object["threads"].as_u64() >= Some(1));
    let cuda = &object["cuda"];
    assert!(cuda["devices"].is_array() && cuda["kernels"].as_u64() > Some(50), "{cuda}");
    let text = succeed(dir.path(), &["doctor"]);
    assert!(["images ", "nvrtc ", "device "].iter().all(|word| text.contains(word)), "{text}");
    match kiln::backend::cuda::devices() {
        Ok(found) => assert_eq!(text.matches("self-test").count(), found.len(), "{text}"),
        Err(error) => {
            let reason = error.to_string();
            assert_eq!(cuda["error"], reason.as_str());
            assert!(text.contains(reason.trim_start_matches("cuda: ")), "{text}");
            assert!(text.contains("device  cpu"), "{text}");
            let output = run(dir.path(), &["doctor", "--self-test"]);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
            assert!(stderr.contains(&reason), "{stderr}");
        }
    }
}

/// Plans for GPUs need none: at most as many launches, and about as many bytes, as the networks'
/// forward, backward and update take at the least.
#[test]
fn gpus_are_planned_for_on_paper() {
    let dir = TempDir::new().unwrap();
    let step_args = ["--batch", "256", "--optimizer", "adam", "--json"];
    for (net, megabytes) in [("simple", 33.6), ("variable", 61.7)] {
        for arch in ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"] {
            for (precision, most) in [("f32", 7), ("tf32", 8), ("bf16", 9), ("f16", 10)] {
                let args = ["plan", "--net", net, "--arch", arch, "--precision", precision];
                let plan = json(dir.path(), &[&args[..], &step_args].concat());
                let number = |key: &str| plan[key].as_u64().unwrap_or_else(|| panic!("{key}"));
                assert_eq!(plan["arch"], arch);
                // On tensor cores the last layer's weight gradient, of ten rows, has a launch of its own. In 16
                // bits, inputs are cast first; in f16 the gradients are looked at before the update. The scores
                // stay on the chip.
                assert_eq!((number("launches"), number("mask_bytes")), (most, 0), "{net} {arch}");
                assert!(number("bytes") as f64 <= 1.1 * megabytes * 1e6, "{net}: {plan}");
                assert!(number("arena_bytes") > 0);
                let steps = plan["plan"].as_array().unwrap();
                assert_eq!(steps.len() as u64, number("steps"));
                let works = steps.iter().map(|step| &step["work"]);
                let items = std::iter::once(&plan["before"]).chain(works);
                let items = items.flat_map(|items| items.as_array().unwrap());
                let kernels: Vec<&Value> = items.filter_map(|item| item.get("kernel")).collect();
                assert_eq!(kernels.len() as u64, most);
                let names = || kernels.iter().filter_map(|kernel| kernel.as_str());
                let products: Vec<&str> =
                    names().filter(|name| name.starts_with("gemm_")).collect();
                assert!(products.iter().all(|name| name.contains(precision)), "{products:?}");
                // What has elements to guard shares no launch with what fills tiles.
                let guarded: Vec<&str> =
                    products.iter().copied().filter(|name| name.ends_with("_any")).collect();
                match precision {
                    "f32" => assert_eq!((products.len(), guarded.len()), (5, 0)),
                    _ => assert!(products.len() == 6 && guarded.len() == 2, "{products:?}"),
                }
                assert_eq!(kernels.last(), Some(&&Value::from("adam")));
                // One batch and what the host gives go up together; the loss comes down.
                let images = 256 * 784 * 4;
                let counted = |way: &str| {
                    let moved = &plan["copies"][way];
                    (moved["count"].as_u64().unwrap(), moved["bytes"].as_u64().unwrap())
                };
                let given = 1024 + 256 * 4 + images;
                assert_eq!((counted("up"), counted("within")), ((1, given), (1, given)));
                // Of a scaled loss also whether the update is skipped, 256 bytes further on.
                let between = if precision == "f16" { 256 } else { 0 };
                assert_eq!(counted("down"), (1, between + 4));
                assert_eq!(
                    (&plan["fills"]["count"], &plan["host"]["count"]),
                    (&0.into(), &0.into())
                );
                let casts = if precision.ends_with("16") { 1 } else { 0 };
                assert_eq!(plan["casts"]["count"], casts);
                // The update writes the parameters in 16 bits too.
                let along = number("cast_bytes") - plan["casts"]["bytes"].as_u64().unwrap();
                assert_eq!((number("cast_bytes") > 0, along > 0), (casts > 0, casts > 0));
                // The large layers have kernels of whole tiles.
                let large = |step: &&Value| step["layer"] == "fc1" || step["layer"] == "fc2";
                for step in steps.iter().filter(large) {
                    assert!(!step["work"].to_string().contains("_any"), "{net} {arch}: {step}");
                }
                let fed = [&args[..], &["--on-device", "always"], &step_args].concat();
                let fed = json(dir.path(), &fed);
                assert_eq!(
                    (&fed["samples_on"], &plan["samples_on"]),
                    (&"device".into(), &"host".into())
                );
                assert_eq!(fed["launches"], most + 1);
                assert_eq!(fed["copies"]["up"]["bytes"], 1024 + 256 * 4 + 256 * 4);
                assert_eq!(fed["copies"]["within"]["bytes"], 1024 + 256 * 4);
            }
        }
    }
    let default = json(dir.path(), &[&["plan", "--device", "cuda"], &step_args[..]].concat());
    assert_eq!(default["arch"], "sm_90");
    let eval = json(dir.path(), &["plan", "--device", "cuda:0", "--mode", "eval", "--json"]);
    assert_eq!(eval["launches"], 3);
    let text = succeed(dir.path(), &["plan", "--arch", "sm_90"]);
    assert!(text.contains("gemm_nt_f32_64x64") && !text.contains("  path"), "{text}");
}

/// Each mistake is one line that says what is wrong, an exit code, and no trace on the disk.
#[test]
fn mistakes_are_one_line() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_idx(&at.join("small"), 10, 0);
    write_idx(&at.join("cut"), 28, 5);
    write_idx(&at.join("html"), 28, 0);
    let page = at.join("html/train-images-idx3-ubyte");
    fs::remove_file(&page).unwrap();
    fs::write(page.with_extension("gz"), "\n<!DOCTYPE html><title>moved</title>").unwrap();
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["train", "--p", "1.5"], 1, &["dropout1", "p", "[0, 1]", "1.5"]),
        (&["train", "--p", "NaN"], 1, &["dropout1", "p", "NaN"]),
        (&["train", "--p", "-0.1"], 1, &["dropout1", "-0.1"]),
        (&["compare", "--p", "1.5"], 1, &["dropout1", "p", "1.5"]),
        (&["compare", "--p", "0"], 1, &["p", "more than 0"]),
        (&["train", "--lr", "-1"], 1, &["learning rate", "-1"]),
        (&["train", "--momentum", "NaN"], 1, &["momentum", "NaN"]),
        (&["train", "--optimizer", "adam", "--momentum", "0.5"], 1, &["momentum", "sgd"]),
        (&["train", "--clip", "0"], 1, &["max_norm", "more than 0"]),
        (&["train", "--label-noise", "2"], 1, &["fraction", "2"]),
        (&["train", "--train-samples", "1797"], 1, &["train-samples", "1796"]),
        (&["train", "--net", "variable", "--p", "0.5"], 1, &["p", "--net simple"]),
        (&["train", "--data", "mnist:small"], 1, &["fc1", "784", "100"]),
        (&["train", "--data", "mnist:cut"], 1, &["train-images-idx3-ubyte", "at byte"]),
        (&["train", "--data", "mnist:none"], 1, &["none/train-images-idx3-ubyte"]),
        (&["train", "--data", "mnist:html"], 1, &["images-idx3-ubyte.gz", "an HTML page"]),
        (&["train", "--data", "emnist-digits:small"], 1, &["emnist-digits-test-labels-idx1"]),
        (&["train", "--data", "mnist:cut", "--train-samples", "41"], 1, &["at byte"]),
        (&["train", "--data", "mnist:small", "--train-samples", "41"], 1, &["at most 40", "41"]),
        (&["train", "--hidden", "9223372036854775807"], 1, &["fc1", "weight", "at most"]),
        (&["train", "--hidden", "18446744073709551615"], 1, &["fc1", "weight", "at most"]),
        (&["train", "--hidden", "33554432"], 1, &["cannot reserve", "bytes"]),
        (&["plan", "--hidden", "33554432", "--arch", "sm_90"], 1, &["2147483647 elements"]),
        (&["plan", "--batch", "18446744073709551615"], 1, &["input", "at most", "784]"]),
        (&["plan", "--batch", "4000000", "--arch", "sm_90"], 1, &["at most 2147483647 elements"]),
        (&["doctor", "--threads", "18446744073709551615"], 2, &["--threads", "at most 4096"]),
        (&["train", "--threads", "4294967296"], 2, &["--threads", "at most 4096"]),
        (&["train", "--out", "small/t10k-labels-idx1-ubyte/x"], 1, &["cannot create small/t10k"]),
        (&["train", "--out", "."], 1, &["out", "new or empty", "--resume"]),
        (&["train", "--resume", "none"], 1, &["none/training.safetensors"]),
        (&["train", "--resume"], 1, &["resume", "--out"]),
        (&["eval", "--checkpoint", "none"], 1, &["cannot read none"]),
        (&["eval", "--checkpoint", "small/t10k-labels-idx1-ubyte"], 1, &["safetensors file"]),
        (&["doctor", "--device", "cuda:1000"], 1, &["cuda:1000"]),
        (&["train", "--device", "cuda:1000"], 1, &["cuda:1000"]),
        (&["compare", "--device", "cuda:1000"], 1, &["cuda:1000"]),
        (&["eval", "--checkpoint", "none", "--device", "cuda:1000"], 1, &["cuda:1000"]),
        (&["train", "--device", "cpu", "--cuda-image", "ptx"], 1, &["cuda-image", "GPU"]),
        (&["plan", "--device", "cpu", "--arch", "sm_90"], 1, &["arch", "GPU"]),
        (&["plan", "--arch", "sm_75"], 2, &["sm_75", "sm_80, sm_86"]),
        (&["train", "--cuda-image", "elf"], 2, &["--cuda-image", "cubin"]),
        (&["doctor", "--device", "tpu"], 2, &["--device", "cuda:N"]),
        (&["doctor", "--threads", "0"], 2, &["--threads"]),
        (&["train", "--net", "huge"], 2, &["--net", "simple, variable"]),
        (&["train", "--data", "cifar"], 2, &["--data", "mnist:DIR"]),
        (&["train", "--epochs", "0"], 2, &["--epochs"]),
        (&["train", "--batch", "0"], 2, &["--batch"]),
        (&["eval"], 2, &["--checkpoint"]),
        (&["fly"], 2, &["fly"]),
    ];
    let before = listing(at);
    for (args, code, words) in table {
        let output = run(at, args);
        let stderr = String::from_utf8(output.stderr).unwrap().replace('\\', "/");
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{args:?}: {stderr}");
        for word in *words {
            assert!(stderr.contains(word), "{args:?}: no {word} in {stderr}");
        }
        assert!(output.stdout.is_empty(), "{args:?}");
        assert_eq!(listing(at), before, "{args:?} left something behind");
    }
}

#[test]
fn a_checkpoint_of_another_network_is_refused() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    succeed(at, &[&QUICK[..], &["--epochs", "1", "--out", "A"]].concat());
    let before = model(at, "A");
    let refused = |args: &[&str], words: &[&str]| {
        let output = run(at, args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{args:?}: {stderr}");
    };
    let shapes = ["fc1.weight: expected f32[1024, 784], got f32[32, 784]", "fc3.weight"];
    refused(&["eval", "--checkpoint", "A", "--net", "variable"], &shapes);
    refused(&["train", "--resume", "A", "--seed", "3"], &["seed", "expected 0", "got 3"]);
    refused(&["train", "--resume", "A", "--p", "0.1", "--lr", "1"], &["p: expected 0.5", "lr"]);
    refused(&[&QUICK[..], &["--out", "A"]].concat(), &["new or empty"]);
    assert_eq!(model(at, "A"), before);
}

fn listing(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Four IDX files of square images; the last bytes of the training images may be missing.
fn write_idx(directory: &Path, side: u32, missing: usize) {
    fs::create_dir(directory).unwrap();
    for (part, count, missing) in [("train", 40_u32, missing), ("t10k", 20, 0)] {
        let mut images = Vec::new();
        for word in [0x803, count, side, side] {
            images.extend(word.to_be_bytes());
        }
        images.resize(16 + (count * side * side) as usize - missing, 7);
        let mut labels = [0x801_u32.to_be_bytes(), count.to_be_bytes()].concat();
        labels.extend((0..count).map(|index| (index % 10) as u8));
        fs::write(directory.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(directory.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}
