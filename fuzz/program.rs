// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program: its arguments, and the settings that a checkpoint holds.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use kiln::checkpoint::{self, TRAINING_FILE};
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::Sgd;
use kiln::{Device, Net, Seed, Trainer};

use super::harness::{judge_text, run, Numbers};
use super::mutate::mutated_text;

/// KiB of memory that the program may address.
const MEMORY: usize = 3 << 20;

/// Longer than any of the cases takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the program and judges how it ends.
fn judged(directory: &Path, args: &[String]) {
    let limited = format!("ulimit -v {MEMORY} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.current_dir(directory).args(["-c", &limited]).arg(cargo_bin("kiln")).args(args);
    let output = patiently(command.stdin(Stdio::null()), args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        // What it logs, it logs in lines that begin with the time.
        Some(0) => {
            let logged = |line: &str| line.starts_with("20") && !line.contains(char::is_control);
            assert!(stderr.lines().all(logged), "{args:?}: {stderr}");
        }
        Some(1 | 2) => {
            let line = stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{args:?}: {stderr}"));
            assert!(line.starts_with("error: "), "{args:?}: {stderr}");
            judge_text(line);
        }
        _ => panic!("{args:?}: {:?}\n{stderr}", output.status),
    }
}

fn patiently(command: &mut Command, args: &[String]) -> Output {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program");
    let begun = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().expect("a child");
            panic!("{args:?} does not end");
        }
        sleep(Duration::from_millis(1));
    }
    child.wait_with_output().expect("a child")
}

/// What an option takes.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// A number of things.
    Count,
    /// Anything else.
    Other,
}

fn value(numbers: &mut Numbers, takes: Takes) -> String {
    let words = [
        "",
        "-1",
        "0",
        "1",
        "7",
        "NaN",
        "inf",
        "-inf",
        "1e400",
        "1e-320",
        "-0",
        "0x10",
        "7 ",
        "digits",
        "mnist:",
        "mnist:/dev",
        "fashion:.",
        "kmnist:\u{1b}[2J",
        "/dev/zero",
        "/dev/null",
        ".",
        "auto",
        "cuda:0",
        "cuda:4294967296",
        "simple",
        "adam",
        "sm_90",
        "dot",
        "\u{202e}\u{7}\r\n",
        "f16",
        "on",
    ];
    let kinds = if takes == Takes::Count { 8 } else { 3 };
    match numbers.below(kinds) {
        0 => (*numbers.pick(&words)).into(),
        1 => format!("{}.5", numbers.edge() as i64),
        2 if takes == Takes::Other => (*numbers.pick(&words)).into(),
        _ => numbers.edge().to_string(),
    }
}

/// Options whose values are numbers of things.
const COUNTS: [&str; 6] =
    ["--threads", "--hidden", "--train-samples", "--batch", "--micro-batches", "--seed"];

/// Other options. None makes a training last.
const OPTIONS: [&str; 15] = [
    "--device",
    "--precision",
    "--cuda-image",
    "--cuda-capture",
    "--log",
    "--net",
    "--p",
    "--data",
    "--optimizer",
    "--lr",
    "--momentum",
    "--weight-decay",
    "--clip",
    "--schedule",
    "--label-noise",
];

#[test]
fn program_and_its_arguments() {
    run("program_and_its_arguments", 10, |case| {
        let numbers = &mut case.numbers;
        let short = ["--epochs", "1", "--hidden", "4", "--train-samples", "9", "--threads", "1"];
        let commands: [&[&str]; 5] = [
            &[&["train"], &short[..], &["--out", "out"]].concat(),
            &["plan", "--hidden", "4"],
            &["plan", "--arch", "sm_90"],
            &["eval", "--checkpoint", "/dev/zero"],
            &["doctor", "--threads", "1"],
        ];
        let mut args: Vec<String> = numbers.pick(&commands).iter().map(|&arg| arg.into()).collect();
        // One alone half of the time, since one mistake hides the others.
        for _ in 0..1 + numbers.below(2) * numbers.below(3) {
            let takes = *numbers.pick(&[Takes::Count, Takes::Other]);
            let option = match takes {
                Takes::Count => *numbers.pick(&COUNTS),
                Takes::Other => *numbers.pick(&OPTIONS),
            };
            // The last of equal options would win, were they not refused.
            if let Some(at) = args.iter().position(|arg| arg == option) {
                args.drain(at..at + 2);
            }
            args.extend([option.into(), value(numbers, takes)]);
        }
        args.retain(|arg| !arg.contains('\0'));
        let _ = fs::remove_dir_all(case.folder.join("out"));
        judged(&case.folder, &args);
    });
}

/// Settings that no arguments would make, in a file that is sound.
#[test]
fn program_and_its_notes() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let short = ["train", "--epochs", "1", "--hidden", "4", "--train-samples", "9", "--out", "out"];
    let args: Vec<String> = short.iter().map(|&arg| arg.into()).collect();
    judged(folder.path(), &args);
    let run_folder = folder.path().join("out");
    let known = checkpoint::progress(&run_folder).expect("saved");
    let notes = known.notes.to_string();
    run("program_and_its_notes", 10, |case| {
        let mutated = mutated_text(&mut case.numbers, &notes);
        let Ok(notes) = serde_json::from_str(&mutated) else { return };
        let net = Net::new(Device::cpu(), Seed(0), |p| SimpleNet::new(p, 784, 4, 10, 0.5));
        let mut trainer =
            Trainer::new(net.expect("a network"), CrossEntropy::default(), Sgd::new(0.05))
                .expect("a trainer");
        let progress = checkpoint::Progress { notes, ..known.clone() };
        let target = case.folder.join("run");
        fs::create_dir_all(&target).expect("a folder");
        checkpoint::save(&mut trainer, &progress, &target).expect("saved");
        let saved = fs::read(target.join(TRAINING_FILE)).expect("saved");
        case.write("notes.json", mutated.as_bytes());
        let eval = ["eval", "--checkpoint", "run", "--threads", "1"];
        judged(&case.folder, &eval.map(String::from));
        fs::write(target.join(TRAINING_FILE), saved).expect("written again");
        let resume = ["train", "--resume", "run", "--epochs", "1", "--threads", "1"];
        judged(&case.folder, &resume.map(String::from));
    });
}
