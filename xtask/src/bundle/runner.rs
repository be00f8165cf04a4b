// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runner of a bundle, on programs that pass, fail and hang as told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Answers as `kiln` does, and leaves a model where it is told to.
const KILN: &str = r#"#!/bin/sh
case "$1" in doctor)
    case "$*" in
        *f16*) echo "error: 1 of 2 checks failed"; exit 1 ;;
        *--self-test*) echo '{"checks": [{"what": "a product", "worst": 5e-6, "tolerance": 1e-5}], "passed": true}' ;;
        *) echo '{"cuda": {"devices": [{"usable": true, "model": "a GPU", "capability": [9, 0], "driver": [13, 0], "image": "cubin"}]}}' ;;
    esac
    exit ;;
esac
case "$*" in *"--cuda-image ptx"*) echo "error: loading copy (ptx): CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)"; exit 1 ;; esac
while [ "$1" != --out ]; do shift; done
mkdir "$2" && echo weights > "$2/model.safetensors"
"#;
/// Three tests, one of each kind; what hangs does so in a process of its own too.
const TESTS: &str = r#"#!/bin/sh
case "$*" in
    --list) printf 'one::passes: test\none::fails: test\none::hangs: test\n' ;;
    *one::passes*) echo "one::passes: skipped: no counters"; echo "  gemm: worst 12.5 % of the tolerance"
        echo "test result: ok. 1 passed" ;;
    *one::fails*) echo "thread panicked at tests/one.rs"; exit 101 ;;
    *) sleep 77 & sleep 77 ;;
esac
"#;
const BENCH: &str = r#"#!/bin/sh
echo '{"group": "ceiling", "name": "copy", "peer": "kiln", "us": [1, 2, 3], "gbs": 99.0}' > "$2"
step='"group": "step", "name": "simple:64:adam", "dtype": "f32", "cache": "warm", "feed": "resident"'
echo "{$step, \"peer\": \"kiln\", \"us\": [10, 20, 30]}" >> "$2"
case "$*" in *"--burn "*"/peer-burn-cuda"*) echo "{$step, \"peer\": \"burn\", \"us\": [80, 90, 99], \"ratio\": 4.5}" >> "$2" ;; esac
"#;

/// Runs the parts `only` of a bundle of these programs; what it printed, and where its results are.
fn run(folder: &TempDir, only: &str) -> Output {
    let bundle = folder.path().join("bundle");
    fs::create_dir_all(&bundle).expect("a folder");
    let programs = [
        ("kiln", KILN),
        ("cuda_test", TESTS),
        ("kernels_test", TESTS),
        ("bench", BENCH),
        ("peer-burn-cuda", "#!/bin/sh"),
    ];
    for (name, text) in programs {
        let path = bundle.join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a script");
    }
    // As a bundle has them; what is not packed is taken as it is.
    let packed = Command::new("gzip").args(["-f"]).arg(bundle.join("kiln")).status();
    assert!(packed.expect("gzip").success());
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/gpu/first_contact.py");
    let mut python = Command::new("python3");
    python.arg(runner).arg(&bundle).arg(folder.path().join("out"));
    python.args(["--budget", "60", "--most", "2", "--only", only]).env_remove("KILN_SIM_LIBRARY");
    python.output().expect("python3")
}

fn records(folder: &TempDir) -> Vec<Value> {
    let text = fs::read_to_string(folder.path().join("out/steps.jsonl")).expect("records");
    text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

#[test]
fn no_step_stops_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(&folder, "doctor,images,capture,tests,self-test");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let records = records(&folder);
    let of = |name: &str| {
        let record = records.iter().find(|record| record["step"] == name);
        record.unwrap_or_else(|| panic!("no step {name}: {printed}"))["result"].clone()
    };
    for (step, result) in [
        ("doctor/report", "ok"),
        ("images/cubin", "ok"),
        ("images/ptx", "left out"),
        ("images/nvrtc", "ok"),
        ("capture/same bits", "ok"),
        ("tests/cuda_test/one::passes", "ok"),
        ("tests/cuda_test/one::fails", "failed"),
        ("tests/cuda_test/one::hangs", "timed out"),
        ("tests/kernels_test/one::passes", "ok"),
        ("self-test/f32", "ok"),
        ("self-test/f16", "failed"),
    ] {
        assert_eq!(of(step), result, "{step}: {printed}");
    }
    let page = fs::read_to_string(folder.path().join("out/summary.txt")).expect("a page");
    for words in ["a GPU", "FAILED", "one::hangs (timed out)", "50.0 %", "12.5 %"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(printed.ends_with(&format!("{page}\n")), "{printed}");
}

#[test]
fn what_passes_ends_with_0() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(&folder, "doctor,capture,bench,after");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains("99 GB/s") && printed.contains("nothing failed"), "{printed}");
    assert!(printed.contains("20.0 us  burn 4.50"), "{printed}");
    let output = run(&folder, "nonsense");
    assert_eq!(output.status.code(), Some(2));
}
