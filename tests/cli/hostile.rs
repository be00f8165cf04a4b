// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files and surroundings that mean no good: names that act on a terminal, files without an end,
//! archives that unpack to more than there is, memory that is refused.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use flate2::{write::GzEncoder, Compression};
use tempfile::TempDir;

use super::{fail, run, write_idx};

/// A name that clears the screen, sets the title and forges a line.
const NAME: &str = "fc1\u{1b}[2J\u{1b}]0;title\u{7}\r\nerror: forged\u{9b}31m\u{202e}";

#[test]
fn names_do_not_act_on_the_terminal() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let header =
        serde_json::json!({ NAME: { "dtype": "F32", "shape": [], "data_offsets": [0, 4] } });
    let header = header.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
    fs::write(at.join("weights.safetensors"), bytes).unwrap();
    fs::write(at.join(format!("{}x", NAME.replace('\u{9b}', ""))), "no weights").unwrap();
    let argument = format!("{NAME}x");
    let cases: [&[&str]; 6] = [
        &["eval", "--checkpoint", "weights.safetensors"],
        &["eval", "--checkpoint", &NAME.replace('\u{9b}', "").replace("\u{202e}", "")],
        &["eval", "--checkpoint", &argument],
        &["train", "--data", &format!("mnist:{NAME}")],
        &["train", "--net", NAME],
        &[NAME],
    ];
    for args in cases {
        let output = run(at, args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {stderr}");
        let line = stderr.strip_suffix('\n').unwrap();
        let acts = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!line.contains(acts), "{args:?}: {line:?}");
    }
}

/// Neither waits for ever nor takes all memory.
#[test]
fn files_without_an_end_are_refused() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let pipe = at.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (name, target) in [("pipes", pipe.as_path()), ("zeros", Path::new("/dev/zero"))] {
        write_idx(&at.join(name), 28, 0);
        let labels = at.join(name).join("train-labels-idx1-ubyte");
        fs::remove_file(&labels).unwrap();
        std::os::unix::fs::symlink(target, labels).unwrap();
    }
    let cases: [(&[&str], &str); 5] = [
        (&["train", "--data", "mnist:pipes"], "labels-idx1-ubyte: it is a pipe"),
        (&["train", "--data", "kmnist:zeros"], "labels-idx1-ubyte: it is a device"),
        (&["eval", "--checkpoint", "pipe"], "cannot read pipe: it is a pipe"),
        (&["eval", "--checkpoint", "/dev/zero"], "cannot read /dev/zero: it is a device"),
        (&["eval", "--checkpoint", "/dev/stdin"], "cannot read /dev/stdin: it is a device"),
    ];
    for (args, reason) in cases {
        let stderr = fail(at, args);
        assert!(stderr.contains(reason), "{args:?}: {stderr}");
    }
}

/// Runs with at most so many KiB of memory to address.
fn run_within(kib: usize, directory: &Path, args: &[&str]) -> Output {
    let limited = format!("ulimit -v {kib} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.current_dir(directory).args(["-c", &limited]).arg(cargo_bin("kiln")).args(args);
    command.output().unwrap()
}

/// 3 MB that unpack to 3 GB: ten images of them take little memory, and stay bytes.
#[test]
fn few_images_of_many_take_little_memory() {
    let dir = TempDir::new().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let megabyte = gzip(&vec![0; 784 << 10]);
    for (part, thousands) in [("train", 4000_u32), ("t10k", 1)] {
        let count = thousands << 10;
        let mut images = gzip(&[0x803, count, 28, 28].map(u32::to_be_bytes).concat());
        (0..thousands).for_each(|_| images.extend_from_slice(&megabyte));
        fs::write(dir.path().join(format!("{part}-images-idx3-ubyte.gz")), images).unwrap();
        let mut labels = [0x801, count].map(u32::to_be_bytes).concat();
        labels.resize(8 + count as usize, 0);
        fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte.gz")), gzip(&labels)).unwrap();
    }
    let data = format!("mnist:{}", dir.path().display());
    let args =
        ["train", "--data", &data, "--train-samples", "10", "--epochs", "1", "--hidden", "8"];
    let output = run_within(1 << 20, dir.path(), &[&args[..], &["--threads", "1"]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
}

/// Whatever is refused, from the first reservation to a copy: it is an error that names the size.
#[test]
fn refused_memory_is_an_error_with_the_size() {
    let dir = TempDir::new().unwrap();
    let args =
        ["train", "--epochs", "1", "--train-samples", "9", "--threads", "1", "--hidden", "6000"];
    let mut refused = 0;
    for megabytes in [200, 300, 400, 500, 600] {
        let out = format!("run-{megabytes}");
        let args = [&args[..], &["--out", &out]].concat();
        let output = run_within(megabytes << 10, dir.path(), &args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => continue,
            Some(1) => refused += 1,
            code => panic!("{megabytes} MB: {code:?} {stderr}"),
        }
        assert!(stderr.contains("cannot reserve ") && stderr.contains(" bytes"), "{stderr}");
    }
    assert!(refused >= 3, "{refused}");
}
