// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run directories as the program keeps them.

use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;

use super::*;

const QUICK: [&str; 8] =
    ["train", "--hidden", "16", "--train-samples", "100", "--quiet", "--threads", "1"];

fn kiln(directory: &Path) -> Command {
    let mut command = Command::new(cargo_bin("kiln"));
    command.current_dir(directory);
    command
}

fn succeed(directory: &Path, args: &[&str]) -> String {
    let output = kiln(directory).args(args).output().unwrap();
    assert_eq!((output.status.code(), error(&output)), (Some(0), String::new()), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line that a failing call prints.
fn fail(directory: &Path, args: &[&str]) -> String {
    let output = kiln(directory).args(args).output().unwrap();
    let error = error(&output);
    assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{args:?}: {error}");
    error
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn train(directory: &Path, args: &[&str]) -> String {
    succeed(directory, &[&QUICK[..], args].concat())
}

#[test]
fn equal_runs_write_equal_files() {
    let dir = TempDir::new().unwrap();
    for run in ["A", "B"] {
        train(dir.path(), &["--epochs", "2", "--out", run]);
    }
    for file in [TRAINING_FILE, MODEL_FILE] {
        let read = |run: &str| fs::read(dir.path().join(run).join(file)).unwrap();
        assert!(read("A") == read("B"), "{file}");
    }
}

/// Times are measured, so they are in the metrics, from where a resumed run takes them again.
#[test]
fn a_resumed_run_knows_its_times() {
    let dir = TempDir::new().unwrap();
    train(dir.path(), &["--epochs", "2", "--out", "A"]);
    let metrics =
        |run: &str| fs::read_to_string(dir.path().join(run).join("metrics.jsonl")).unwrap();
    let before = metrics("A");
    assert!(before.contains("seconds"));
    succeed(dir.path(), &["train", "--quiet", "--resume", "A", "--epochs", "3"]);
    assert!(metrics("A").starts_with(&before));
    succeed(dir.path(), &["train", "--quiet", "--resume", "A", "--out", "B"]);
    assert_eq!(metrics("A"), metrics("B"));
}

#[test]
fn a_run_goes_on_in_its_precision_alone() {
    let dir = TempDir::new().unwrap();
    train(dir.path(), &["--epochs", "1", "--out", "A"]);
    let resume = ["train", "--resume", "A", "--epochs", "2", "--quiet"];
    let error = fail(dir.path(), &[&resume[..], &["--precision", "bf16"]].concat());
    assert!(error.contains("precision: expected f32"), "{error}");
    train(dir.path(), &["--epochs", "1", "--out", "B", "--precision", "bf16"]);
    let resume = ["train", "--resume", "B", "--epochs", "2", "--quiet"];
    let error = fail(dir.path(), &[&resume[..], &["--precision", "f32"]].concat());
    assert!(error.contains("expected bf16") || error.contains("got bf16"), "{error}");
    succeed(dir.path(), &resume);
    train(dir.path(), &["--epochs", "2", "--out", "C", "--precision", "bf16"]);
    let model = |run: &str| fs::read(dir.path().join(run).join(MODEL_FILE)).unwrap();
    assert!(model("B") == model("C"), "it went on in bf16");
}

#[test]
fn a_run_killed_in_its_first_save_may_begin_again() {
    let dir = TempDir::new().unwrap();
    let run = dir.path().join("A");
    fs::create_dir(&run).unwrap();
    for name in [".training.safetensors.a1B2c3D4.tmp", ".training.safetensors.tmp", ".kiln.lock"] {
        fs::write(run.join(name), "x").unwrap();
    }
    let error = fail(dir.path(), &["train", "--resume", "A"]);
    assert!(error.contains("first checkpoint") && error.contains("without --resume"), "{error}");
    train(dir.path(), &["--epochs", "1", "--out", "A"]);
    let mut left: Vec<_> = fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    let files =
        [".kiln.lock", "curves.svg", "metrics.jsonl", MODEL_FILE, "run.json", TRAINING_FILE];
    assert_eq!(left, files);
    fs::remove_file(run.join(TRAINING_FILE)).unwrap();
    let refused = fail(dir.path(), &[&QUICK[..], &["--out", "A"]].concat());
    assert!(refused.contains("new or empty"), "{refused}");
}

/// The lock of a killed process is nobody's.
#[test]
fn a_run_directory_has_one_writer() {
    let dir = TempDir::new().unwrap();
    let args = [&QUICK[..], &["--epochs", "100000", "--out", "A"]].concat();
    let mut child = kiln(dir.path()).args(args).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !dir.path().join("A").join(MODEL_FILE).is_file() {
        assert!(Instant::now() < deadline, "no checkpoint within a minute");
        sleep(Duration::from_millis(2));
    }
    let resume = ["train", "--quiet", "--resume", "A", "--epochs", "1"];
    let error = fail(dir.path(), &resume);
    assert!(error.contains("cannot lock A: another run writes to it"), "{error}");
    succeed(dir.path(), &["eval", "--checkpoint", "A"]);
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    succeed(dir.path(), &resume);
}

/// Its model file is of an epoch before, as a kill between the two renames leaves it.
#[test]
fn eval_says_which_epoch_it_measures() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    train(at, &["--epochs", "1", "--out", "A"]);
    let model = at.join("A").join(MODEL_FILE);
    let older = fs::read(&model).unwrap();
    succeed(at, &["train", "--quiet", "--resume", "A", "--epochs", "2"]);
    let whole = succeed(at, &["eval", "--checkpoint", "A"]);
    assert!(whole.contains(", after 2 epochs; on "), "{whole}");
    fs::write(&model, older).unwrap();
    assert_eq!(succeed(at, &["eval", "--checkpoint", "A"]), whole);
    let sizes = ["--hidden", "16", "--train-samples", "100"];
    let file = [&["eval", "--checkpoint", "A/model.safetensors"], &sizes[..]].concat();
    let old = succeed(at, &file);
    assert!(old.contains(", after 1 epoch; on "), "{old}");
    let json = succeed(at, &["eval", "--checkpoint", "A", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["epoch"].as_u64(), json["batch"].as_u64()), (Some(2), Some(0)));
}

/// 40 square images of 28 x 28 and as many labels for training, 20 for the test.
fn write_idx(directory: &Path, value: u8) {
    fs::create_dir_all(directory).unwrap();
    for (part, count) in [("train", 40_u32), ("t10k", 20)] {
        let mut images: Vec<u8> =
            [0x803, count, 28, 28].iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        images.extend((0..count * 28 * 28).map(|index| (index % 251) as u8 ^ value));
        let mut labels = [0x801_u32.to_be_bytes(), count.to_be_bytes()].concat();
        labels.extend((0..count).map(|index| (index % 10) as u8));
        fs::write(directory.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(directory.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

#[test]
fn a_run_finds_its_data_from_elsewhere_and_knows_it_again() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    write_idx(&at.join("data"), 0);
    fs::create_dir(at.join("elsewhere")).unwrap();
    let args = ["train", "--hidden", "16", "--quiet", "--threads", "1", "--epochs", "1"];
    succeed(at, &[&args[..], &["--data", "mnist:data", "--out", "A"]].concat());
    let resume = ["train", "--quiet", "--resume", "../A", "--epochs", "2"];
    succeed(&at.join("elsewhere"), &resume);
    succeed(&at.join("elsewhere"), &["eval", "--checkpoint", "../A"]);
    write_idx(&at.join("data"), 1);
    let error = fail(at, &["train", "--quiet", "--resume", "A", "--epochs", "3"]);
    assert!(error.contains("data: expected") && error.contains("test data: expected"), "{error}");
}

/// A limit on the size of files stands for a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    let dir = TempDir::new().unwrap();
    train(dir.path(), &["--epochs", "1", "--out", "A"]);
    let read = |file: &str| fs::read(dir.path().join("A").join(file)).unwrap();
    let before = [read(MODEL_FILE), read(TRAINING_FILE)];
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" train --quiet --resume A --epochs 2";
    let program = cargo_bin("kiln");
    let mut shell = Command::new("sh");
    let output = shell.arg("-c").arg(script).arg(program).current_dir(dir.path()).output().unwrap();
    let error = error(&output);
    assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
    assert!(error.contains("cannot write A/training.safetensors"), "{error}");
    assert!([read(MODEL_FILE), read(TRAINING_FILE)] == before);
    succeed(dir.path(), &["train", "--quiet", "--resume", "A", "--epochs", "2"]);
}
