// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program `kiln` on a GPU: it finds the simulated driver where it looks for a driver.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::*;

/// A folder to run in, with a driver under the name by which programs ask for one.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn with_driver(library: &Path) -> Self {
        let machine = Machine { folder: TempDir::new().expect("a folder") };
        fs::create_dir(machine.drivers()).expect("a folder");
        symlink(library, machine.drivers().join("libcuda.so")).expect("a link");
        machine
    }

    fn drivers(&self) -> std::path::PathBuf {
        self.folder.path().join("drivers")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("kiln"));
        command.current_dir(self.folder.path()).args(args);
        command.env("LD_LIBRARY_PATH", self.drivers());
        command.env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{args:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.succeed(args)).expect("one object")
    }

    /// Fails with one line, which is returned, and leaves nothing behind.
    fn fail(&self, args: &[&str]) -> String {
        let entries = || fs::read_dir(self.folder.path()).expect("a folder").count();
        let before = entries();
        let output = self.run(args);
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert_eq!(entries(), before, "{args:?} left something behind");
        stderr
    }
}

#[test]
fn doctor_tells_of_the_device_and_remembers_its_self_test() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    let text = machine.succeed(&["doctor"]);
    let words =
        ["cuda    cuda:0: ", "sm_90", "(simulated)", "image: simulated", "self-test not run"];
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(text.contains("device  cuda:0\n"), "{text}");

    let text = machine.succeed(&["doctor", "--self-test", "--quiet", "--precision", "bf16"]);
    let (checks, verdict) = text.trim_end().rsplit_once('\n').expect("a line per check");
    assert!(checks.lines().count() > 60, "{text}");
    assert!(
        checks.lines().all(|line| line.starts_with("bf16  ") && line.ends_with("ok")),
        "{text}"
    );
    for network in ["SimpleNet", "VariableDropoutNet"] {
        assert!(checks.contains(&format!("a training step of {network} ")), "{text}");
    }
    assert_eq!(verdict, format!("{} checks passed", checks.lines().count()));

    let object = machine.json(&["doctor", "--json", "--precision", "bf16"]);
    let device = &object["cuda"]["devices"][0];
    assert_eq!((&device["image"], &device["self_test"]), (&"simulated".into(), &true.into()));
    assert_eq!(device["capability"], serde_json::json!([9, 0]));
    let object = machine.json(&["doctor", "--json", "--precision", "tf32"]);
    assert_eq!(object["cuda"]["devices"][0]["self_test"], Value::Null, "another precision");
}

#[test]
fn networks_train_on_one_device_and_are_evaluated_on_any() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    let quick = ["--hidden", "16", "--train-samples", "1500", "--epochs", "1", "--json"];
    let train = |device: &str| {
        let out = ["train", "--device", device, "--out", device];
        machine.json(&[&out[..], &quick[..]].concat())
    };
    let (gpu, cpu) = (train("auto"), train("cpu"));
    let eager = ["train", "--cuda-capture", "off", "--out", "eager"];
    machine.json(&[&eager[..], &quick[..]].concat());
    let model = |run: &str| {
        fs::read(machine.folder.path().join(run).join("model.safetensors")).expect("a file")
    };
    assert_eq!(model("auto"), model("eager"), "captured steps differ from issued ones");
    let accuracy = |object: &Value, key: &str| object[key].as_f64().expect("a number");
    let (got, reference) = (accuracy(&gpu, "test_accuracy"), accuracy(&cpu, "test_accuracy"));
    assert!((got - reference).abs() <= 0.01, "{got}, reference {reference}");
    let evaluated: Vec<f64> = ["cuda:0", "cpu"]
        .iter()
        .map(|device| {
            let args = ["eval", "--checkpoint", "auto", "--device", device, "--json"];
            accuracy(&machine.json(&args), "accuracy")
        })
        .collect();
    assert_eq!(evaluated[0], got);
    assert!((evaluated[1] - got).abs() <= 0.01, "{evaluated:?}");
}

#[test]
fn a_device_that_cannot_be_used_is_one_line() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    assert!(machine.fail(&["train", "--device", "cuda:3"]).contains("no such device"));
    assert!(machine.fail(&["doctor", "--self-test", "--device", "cpu"]).contains("--device cpu"));
}

/// A driver without the functions that kiln calls, and one that has no device.
#[test]
fn other_drivers_are_told_from_usable_ones() {
    let Some(simulator) = simulator() else { return };
    let folder = TempDir::new().expect("a folder");
    let library = folder.path().join("old.so");
    compile(&library, "int cuInit(unsigned flags) { return 0; }\n");
    let machine = Machine::with_driver(&library);
    let text = machine.fail(&["train", "--device", "cuda:0"]);
    assert!(text.contains("cuda:0: the CUDA driver has no cu"), "{text}");
    assert!(text.contains("CUDA 12 or later is needed"), "{text}");
    let text = machine.succeed(&["doctor"]);
    assert!(text.contains("the CUDA driver has no cu") && text.contains("device  cpu"), "{text}");

    let machine = Machine::with_driver(simulator.path());
    let mut command = Command::new(cargo_bin("kiln"));
    command.args(["doctor", "--device", "cuda:0"]).env("LD_LIBRARY_PATH", machine.drivers());
    let output = command.env("KILN_SIM_MODE", "nonsense").output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("starting the driver: CUDA_ERROR_INVALID_VALUE"), "{stderr}");
}

/// A driver that opens the device and refuses every launch.
#[test]
fn a_training_that_fails_on_its_device_is_not_in_the_way_of_the_next() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    let refuse = format!(
        "#include <dlfcn.h>\n\
         __attribute__((constructor)) static void refuse(void) {{\n\
             void *driver = dlopen(\"{}\", RTLD_NOW | RTLD_GLOBAL);\n\
             ((int (*)(int))dlsym(driver, \"kiln_sim_refuse_launches\"))(701);\n\
         }}\n",
        simulator.path().display()
    );
    let library = machine.folder.path().join("refuse.so");
    compile(&library, &refuse);
    let train = ["train", "--hidden", "16", "--train-samples", "100", "--epochs", "1", "--quiet"];
    let args = [&train[..], &["--device", "cuda:0", "--out", "A"]].concat();
    let output = machine.command(&args).env("LD_PRELOAD", &library).output().expect("it runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("cuda:0: ") && stderr.contains("OUT_OF_RESOURCES"), "{stderr}");
    assert!(!machine.folder.path().join("A/model.safetensors").exists());
    machine.succeed(&args);
}

/// A library from C.
fn compile(library: &Path, source: &str) {
    let file = library.with_extension("c");
    fs::write(&file, source).expect("written");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(library).arg(&file).arg("-ldl");
    assert!(compiler.status().expect("a C compiler").success());
}

/// Where the loader finds none, that of the toolkit named by `CUDA_HOME` is used.
#[test]
fn nvrtc_is_found_in_a_toolkit() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    let toolkit = machine.folder.path().join("toolkit");
    fs::create_dir_all(toolkit.join("lib64")).expect("a folder");
    let functions = ["CreateProgram", "CompileProgram", "GetPTXSize", "GetPTX"];
    let functions =
        functions.iter().chain(&["GetProgramLogSize", "GetProgramLog", "DestroyProgram"]);
    let stubs: String =
        functions.map(|name| format!("int nvrtc{name}(void) {{ return 1; }}\n")).collect();
    let version =
        "int nvrtcVersion(int *major, int *minor) { *major = 77; *minor = 7; return 0; }\n";
    compile(&toolkit.join("lib64/libnvrtc.so.77"), &format!("{stubs}{version}"));

    let nvrtc = |variables: &[(&str, &Path)]| {
        let mut command = Command::new(cargo_bin("kiln"));
        command.args(["doctor", "--json"]).env("LD_LIBRARY_PATH", machine.drivers());
        command.env_remove("CUDA_HOME").env_remove("CUDA_PATH").envs(variables.iter().copied());
        let output = command.output().expect("the program runs");
        let object: Value = serde_json::from_slice(&output.stdout).expect("one object");
        object["cuda"]["nvrtc"].clone()
    };
    let usual = nvrtc(&[]);
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        let found = nvrtc(&[(variable, &toolkit)]);
        // The loader's own comes first where there is one.
        assert!(found == "77.7" || (!usual.is_null() && found == usual), "{variable}: {found}");
    }
}

/// A driver that is there and does not start is told of before the CPU takes over.
#[test]
fn a_driver_that_fails_is_told_of() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    let cases = [
        (34, "CUDA_ERROR_STUB_LIBRARY (34)", "the stub that a toolkit links with"),
        (100, "CUDA_ERROR_NO_DEVICE (100)", ""),
        (802, "CUDA_ERROR_SYSTEM_NOT_READY (802)", "a service of the driver's"),
        (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "different versions"),
        (999, "CUDA_ERROR_UNKNOWN (999)", ""),
    ];
    for (code, name, advice) in cases {
        let run = |args: &[&str]| {
            let mut command = machine.command(args);
            command.env("KILN_SIM_REFUSED_START", code.to_string()).output().expect("it runs")
        };
        let out = format!("run-{code}");
        let quick = ["--hidden", "8", "--train-samples", "50", "--epochs", "1", "--out", &out];
        let output = run(&[&["train", "--json"], &quick[..]].concat());
        let told = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), told.lines().count()), (Some(0), 1), "{told}");
        for part in ["WARN", "the CPU is used instead of a GPU", name, advice] {
            assert!(told.contains(part), "{told}");
        }
        let result: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert!(result["device"].as_str().expect("a text").starts_with("cpu, "), "{result}");

        let output = run(&["train", "--device", "cuda:0"]);
        let told = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
        assert!(told.contains(name), "{told}");
    }
}

#[test]
fn what_a_run_worked_on_is_recorded() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    let quick = ["--hidden", "8", "--train-samples", "50", "--epochs", "1", "--json"];
    let train = |device: &str| {
        let run =
            machine.json(&[&["train", "--device", device, "--out", device], &quick[..]].concat());
        let file = fs::read(machine.folder.path().join(device).join("run.json")).expect("a file");
        let record: Value = serde_json::from_slice(&file).expect("an object");
        assert_eq!(run["device"], record["device"]);
        run["device"].as_str().expect("a text").to_owned()
    };
    let described = train("cuda:0");
    for part in ["cuda:0: ", "sm_90", "(simulated)", "driver of CUDA 13.0"] {
        assert!(described.contains(part), "{described}");
    }
    assert!(train("cpu").starts_with("cpu, "));
    let eval = machine.json(&["eval", "--checkpoint", "cpu", "--json"]);
    assert_eq!(eval["device"], described.as_str(), "the GPU, if nothing else is asked for");
}

/// A toolkit's folder of stubs ahead of the driver, as people set it to link programs.
#[test]
fn a_stub_does_not_hide_the_driver() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    let stubs = machine.folder.path().join("toolkit/lib64/stubs");
    fs::create_dir_all(&stubs).expect("a folder");
    compile(&stubs.join("libcuda.so"), "int cuInit(int flags) { return 34; }\n");
    let mut path = stubs.into_os_string();
    path.push(":");
    path.push(machine.drivers());
    let output = machine.command(&["doctor"]).env("LD_LIBRARY_PATH", path).output();
    let output = output.expect("the program runs");
    let told = String::from_utf8(output.stdout).expect("text");
    assert!(told.contains("(simulated)") && told.contains("device  cuda:0"), "{told}");
}

/// Steps are issued one by one between events, and what a simulated device says of time is not shown.
#[test]
fn a_profile_on_a_simulated_device_has_rows_and_no_times() {
    let Some(simulator) = simulator() else { return };
    let machine = Machine::with_driver(simulator.path());
    let quick = ["train", "--hidden", "16", "--train-samples", "200", "--epochs", "1"];
    let profiled = |out: &str, more: &[&str]| {
        machine.succeed(&[&quick[..], &["--profile", "--out", out], more].concat())
    };
    let told: Value = serde_json::from_str(&profiled("A", &["--json"])).expect("one object");
    assert_eq!(told["profile"]["trace"], Value::Null);
    assert!(!machine.folder.path().join("A/trace.json").exists());
    let plans = told["profile"]["plans"].as_array().expect("a list");
    let step = plans.iter().find(|plan| plan["plan"] == "training step" && plan["samples"] == 64);
    let step = step.unwrap_or_else(|| panic!("{told}"));
    assert_eq!((&step["runs"], &step["clock"]), (&2.into(), &"simulated".into()), "{step}");
    let first = &step["steps"][0];
    assert_eq!((&first["kernel"], &first["layer"]), (&"linear".into(), &"fc1".into()));
    assert!(first["path"].as_str().is_some_and(|kernels| kernels.starts_with("gemm_")), "{first}");
    for key in ["bytes", "flops"] {
        assert!(first[key].as_u64().expect("a number") > 0, "{key}: {first}");
    }
    for key in ["ms", "share", "bytes_per_second", "of_copy", "flops_per_second", "of_peak"] {
        assert_eq!(first[key], Value::Null, "{key}: {first}");
    }
    assert_eq!(step["ms"], Value::Null);

    let text = profiled("B", &[]);
    assert!(text.contains("training step of 64 samples: 2 runs, simulated: not timed"), "{text}");
    assert!(text.contains("its times would say nothing"), "{text}");

    // The same training without events around its steps.
    machine.succeed(&[&quick[..], &["--out", "C"]].concat());
    let model = |run: &str| {
        fs::read(machine.folder.path().join(run).join("model.safetensors")).expect("a file")
    };
    assert_eq!(model("A"), model("C"));
}
