// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that fail, and terminals.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::fs::{open, Mode, OFlags};
use rustix::io::{fcntl_setfd, FdFlags};
use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use rustix::termios::{tcsetwinsize, Winsize};
use tempfile::TempDir;

use crate::{epochs, kiln, model, run, succeed, QUICK};

#[cfg(target_os = "linux")]
fn full() -> Stdio {
    Stdio::from(File::options().write(true).open("/dev/full").unwrap())
}

fn noisy(out: &str) -> Vec<&str> {
    let args = ["train", "--hidden", "32", "--train-samples", "200", "--epochs", "6", "--out", out];
    args.to_vec()
}

#[test]
fn training_goes_on_when_nobody_listens() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    succeed(at, &noisy("whole"));
    let mut command = kiln(at);
    command.args(noisy("left")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("SimpleNet"), "{line}");
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    assert_eq!(epochs(at, "left"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(model(at, "whole"), model(at, "left"));
    assert!(at.join("left/curves.svg").is_file());
}

#[test]
fn listings_end_when_nobody_listens() {
    let dir = TempDir::new().unwrap();
    for args in [&["plan"][..], &["plan", "--graph", "dot"], &["doctor"], &["--help"]] {
        let mut command = kiln(dir.path());
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_the_output_is_told_and_costs_no_work() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    for args in [noisy("A"), [&QUICK[..], &["--epochs", "6", "--out", "B"]].concat()] {
        let output = kiln(at).args(&args).stdout(full()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains("cannot write standard output"), "{stderr}");
    }
    assert_eq!(epochs(at, "A"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(model(at, "A"), model(at, "B"));
    for args in [&["plan"][..], &["doctor", "--json"], &["--help"], &["--version"]] {
        let output = kiln(at).args(args).stdout(full()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    }
}

/// What cannot be told on the standard error is told by the exit code.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_the_errors_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let traced = [&noisy("A")[..], &["--log", "trace"]].concat();
    let nan = ["train", "--lr", "1e8", "--quiet", "--out", "N"];
    let warned = [&nan[..5], &["W", "--non-finite", "continue", "--epochs", "1"]].concat();
    let cases: [(&[&str], i32); 7] = [
        (&traced, 0),
        (&["train", "--lr", "-1"], 1),
        (&nan, 1),
        (&warned, 0),
        (&["fly"], 2),
        (&["train", "--epochs", "0"], 2),
        (&["eval", "--checkpoint", "none"], 1),
    ];
    for (args, code) in cases {
        let output = kiln(at).args(args).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let both = kiln(at).args(["plan"]).stdout(full()).stderr(full()).output().unwrap();
        assert_eq!(both.status.code(), Some(1));
    }
    assert_eq!(epochs(at, "A"), [1, 2, 3, 4, 5, 6]);
}

/// A program on a terminal of its own, 100 columns wide.
struct Terminal {
    child: Child,
    /// What the program writes, collected by a thread.
    screen: JoinHandle<String>,
}

impl Terminal {
    fn start(at: &Path, args: &[&str]) -> Self {
        let (master, command) = on_terminal(at, args);
        let child = spawn(command);
        let screen = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // When the program's end is closed, reading ends, with an error on some systems.
            match File::from(master).read_to_end(&mut bytes) {
                Ok(_) => {}
                Err(error) => assert_ne!(error.kind(), ErrorKind::InvalidInput, "{error}"),
            }
            String::from_utf8(bytes).unwrap()
        });
        Terminal { child, screen }
    }

    /// Exit code and screen.
    fn finish(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        (status.code(), self.screen.join().unwrap())
    }
}

/// A terminal, and the program to be started on it.
fn on_terminal(at: &Path, args: &[&str]) -> (rustix::fd::OwnedFd, Command) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let master = openpt(flags).unwrap();
    // The program must not hold the other end of its own terminal.
    fcntl_setfd(&master, FdFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let end = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    tcsetwinsize(&end, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let stdio = || Stdio::from(end.try_clone().unwrap());
    let mut command = kiln(at);
    command.args(args).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    command.stdin(stdio()).stdout(stdio()).stderr(stdio());
    (master, command)
}

/// The command holds ends of the terminal too; they close with it.
fn spawn(mut command: Command) -> Child {
    command.spawn().unwrap()
}

#[test]
fn a_terminal_shows_the_result_and_not_a_line_more() {
    let dir = TempDir::new().unwrap();
    let quiet = [&QUICK[..], &["--epochs", "2", "--out", "A"]].concat();
    let (code, screen) = Terminal::start(dir.path(), &quiet).finish();
    assert_eq!((code, screen.lines().count()), (Some(0), 1), "{screen}");
    assert!(screen.starts_with("test accuracy "), "{screen}");

    let (code, screen) = Terminal::start(dir.path(), &["plan", "--hidden", "16"]).finish();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.starts_with("step  kernel") && !screen.contains('\u{1b}'), "{screen}");

    let (code, screen) = Terminal::start(dir.path(), &["fly"]).finish();
    assert_eq!((code, screen.lines().count()), (Some(2), 1), "{screen}");
}

/// The screen of a training of six epochs of four batches shows each of them.
fn assert_shows_progress(at: &Path, args: &[&str]) {
    let (code, screen) = Terminal::start(at, args).finish();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("epoch 6/6 ") && screen.contains(" 4/4 "), "{screen}");
    assert!(!screen.contains("panicked") && !screen.contains("tracing"), "{screen}");
}

/// Epochs of some milliseconds, sooner over than a bar is drawn anew: an optimised program has them
/// with larger networks too.
#[test]
fn a_terminal_shows_progress_that_hurries() {
    let dir = TempDir::new().unwrap();
    let texts: String = (0..60).map(|text| format!("{}\t{text}\n", text % 2)).collect();
    fs::write(dir.path().join("texts"), texts).unwrap();
    let data = ["train", "--net", "rnn", "--data", "text:texts", "--train-samples", "40"];
    let small = ["--hidden", "2", "--embedding", "2", "--batch", "10", "--epochs", "6"];
    let hurried = [&data[..], &small].concat();
    assert_shows_progress(dir.path(), &[&hurried[..], &["--out", "A"]].concat());

    let quiet = [&hurried[..], &["--quiet", "--out", "B"]].concat();
    let (code, screen) = Terminal::start(dir.path(), &quiet).finish();
    assert_eq!((code, screen.lines().count()), (Some(0), 1), "{screen}");

    let logged = [&hurried[..], &["--log", "info", "--out", "C"]].concat();
    let (code, screen) = Terminal::start(dir.path(), &logged).finish();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("\u{1b}[32m INFO\u{1b}[0m") && !screen.contains(" 4/4 "), "{screen}");
}

#[test]
fn a_terminal_shows_progress_and_coloured_logs() {
    let dir = TempDir::new().unwrap();
    assert_shows_progress(dir.path(), &noisy("bar"));

    let logged = [&noisy("A")[..], &["--log", "info"]].concat();
    let (code, screen) = Terminal::start(dir.path(), &logged).finish();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("test accuracy ") && !screen.contains(" 4/4 "), "{screen}");
    assert!(screen.contains("\u{1b}[32m INFO\u{1b}[0m"), "{screen}");
    assert!(!screen.contains("panicked") && !screen.contains("tracing"), "{screen}");

    let plain = [&noisy("B")[..], &["--log", "info"]].concat();
    let (master, mut command) = on_terminal(dir.path(), &plain);
    command.env("NO_COLOR", "1");
    let mut child = spawn(command);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = File::from(master).read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    });
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let screen = reader.join().unwrap();
    assert!(screen.contains(" INFO ") && !screen.contains("[32m INFO"), "{screen}");
}

/// The window is closed while the program works; nobody sends it a signal.
#[test]
fn a_terminal_that_goes_away_costs_no_work() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let small = ["--epochs", "6", "--batch", "2", "--out"];
    succeed(at, &[&QUICK[..], &small, &["whole"]].concat());
    // It tells more than a terminal holds that nobody reads from, so it cannot be done before.
    let args = [&noisy("left")[..], &["--batch", "2", "--log", "trace"]].concat();
    let (master, command) = on_terminal(at, &args);
    let mut child = spawn(command);
    let mut first = [0; 64];
    assert_ne!(rustix::io::read(&master, &mut first).unwrap(), 0);
    drop(master);
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(1), "the result could not be shown");
    assert_eq!(epochs(at, "left"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(model(at, "whole"), model(at, "left"));
    assert_eq!(run(at, &["eval", "--checkpoint", "left"]).status.code(), Some(0));
}
