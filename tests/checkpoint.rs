// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checkpoints: nothing is lost, nothing is mixed, nothing is believed.

#[path = "checkpoint/damage.rs"]
mod damage;
#[path = "checkpoint/directory.rs"]
mod directory;
#[path = "checkpoint/dropout_rates.rs"]
mod dropout_rates;
#[path = "checkpoint/foreign.rs"]
mod foreign;
#[path = "checkpoint/groups.rs"]
mod groups;
#[path = "checkpoint/lists.rs"]
mod lists;
#[path = "checkpoint/lstm.rs"]
mod lstm;
#[path = "checkpoint/program.rs"]
mod program;
#[path = "checkpoint/recipe.rs"]
mod recipe;
#[path = "checkpoint/resnet18.rs"]
mod resnet18;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln::checkpoint::{self, Progress, MODEL_FILE, TRAINING_FILE};
use kiln::data::Position;
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::{Adam, Optimizer, Schedule, Sgd};
use kiln::{Device, Error, Net, Precision, Result, Seed, Tensor, Trainer};
use safetensors::SafeTensors;
use tempfile::TempDir;

type Simple = Trainer<SimpleNet>;

fn net(seed: u64) -> Net<SimpleNet> {
    Net::new(Device::cpu(), Seed(seed), |p| SimpleNet::new(p, 6, 5, 3, 0.5)).unwrap()
}

fn trainer(seed: u64, optimizer: impl Into<Optimizer>) -> Simple {
    Trainer::new(net(seed), CrossEntropy::default(), optimizer).unwrap()
}

fn batch(number: u64) -> (Tensor, Tensor) {
    let value = |i: u64| ((i * 37 + number * 11) % 23) as f32 / 11.0 - 1.0;
    let x = Tensor::new([8, 6], (0..48).map(value).collect()).unwrap();
    let labels = (0..8).map(|i| ((i + number) % 3) as i32).collect();
    (x, Tensor::labels([8], labels).unwrap())
}

fn steps(trainer: &mut Simple, numbers: std::ops::Range<u64>) -> Vec<u32> {
    let step = |number| {
        let (x, labels) = batch(number);
        trainer.step(&x, &labels).unwrap().value().unwrap().to_bits()
    };
    numbers.map(step).collect()
}

fn parameters<M: kiln::nn::Module>(net: &mut Net<M>) -> Vec<Vec<u32>> {
    let names: Vec<String> = net.parameter_names().into_iter().map(String::from).collect();
    let bits = |name: &String| {
        let tensor = net.parameter(name).unwrap();
        tensor.values().unwrap().iter().map(|value| value.to_bits()).collect()
    };
    names.iter().map(bits).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoint").join(name)
}

fn saved(dir: &TempDir, optimizer: impl Into<Optimizer>) -> (Simple, Progress) {
    let mut trainer = trainer(7, optimizer);
    steps(&mut trainer, 0..5);
    let position = Position { epoch: 1, batch: 2 };
    let notes = serde_json::json!({ "note": [1, "two"] });
    let progress = Progress { position, notes, ..Progress::default() };
    checkpoint::save(&mut trainer, &progress, dir.path()).unwrap();
    (trainer, progress)
}

#[test]
fn weights_make_the_round_trip() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("w.safetensors");
    let (mut from, mut to) = (net(1), net(2));
    checkpoint::save_weights(&mut from, &path).unwrap();
    assert_ne!(parameters(&mut from), parameters(&mut to));
    checkpoint::load_weights(&mut to, &path).unwrap();
    assert_eq!(parameters(&mut from), parameters(&mut to));
}

#[test]
fn weights_written_by_pytorch_load() {
    let mut net = net(1);
    checkpoint::load_weights(&mut net, fixture("torch_simple_net.safetensors")).unwrap();
    let bytes = fs::read(fixture("torch_output.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name| -> Vec<f32> {
        let view = file.tensor(name).unwrap();
        view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let output = net.eval().forward(&Tensor::new([4, 6], read("input")).unwrap()).unwrap();
    for (ours, theirs) in output.values().unwrap().iter().zip(read("output")) {
        assert!((ours - theirs).abs() <= 1e-6, "{ours} against {theirs}");
    }
}

#[test]
fn pytorch_loads_what_kiln_writes() {
    let Some(python) = python("pytorch_loads_what_kiln_writes") else { return };
    let dir = TempDir::new().unwrap();
    let (ours, theirs) = (dir.path().join("kiln.st"), dir.path().join("torch.st"));
    let mut from = net(3);
    checkpoint::save_weights(&mut from, &ours).unwrap();
    let script = fixture("interchange.py");
    let output = Command::new(python).arg(script).args([&ours, &theirs]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let scores: Vec<f32> =
        String::from_utf8(output.stdout).unwrap().lines().map(|l| l.parse().unwrap()).collect();
    let x = Tensor::new([2, 6], (0..12).map(|i| i as f32).collect()).unwrap();
    let answer = from.eval().forward(&x).unwrap();
    assert_eq!(scores.len(), 6);
    for (ours, theirs) in answer.values().unwrap().iter().zip(scores) {
        assert!((ours - theirs).abs() <= 1e-5, "{ours} against {theirs}");
    }
    let mut back = net(4);
    checkpoint::load_weights(&mut back, &theirs).unwrap();
    assert_eq!(parameters(&mut from), parameters(&mut back));
}

#[test]
fn every_mismatch_is_listed_and_nothing_is_changed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("w.safetensors");
    checkpoint::save_weights(&mut net(1), &path).unwrap();
    let make = |p: &kiln::nn::Scope| SimpleNet::new(&p.at("body"), 6, 4, 3, 0.5);
    let mut renamed = Net::new(Device::cpu(), Seed(0), make).unwrap();
    let make = |p: &kiln::nn::Scope| SimpleNet::new(p, 6, 4, 3, 0.5);
    let mut narrower = Net::new(Device::cpu(), Seed(0), make).unwrap();

    let before = parameters(&mut narrower);
    let error = checkpoint::load_weights(&mut narrower, &path).unwrap_err();
    assert_eq!(
        mismatches(&error),
        [
            "fc1.weight: expected f32[4, 6], got f32[5, 6]",
            "fc1.bias: expected f32[4], got f32[5]",
            "fc2.weight: expected f32[4, 4], got f32[5, 5]",
            "fc2.bias: expected f32[4], got f32[5]",
            "fc3.weight: expected f32[3, 4], got f32[3, 5]",
        ]
    );
    assert_eq!(parameters(&mut narrower), before);

    let error = checkpoint::load_weights(&mut renamed, &path).unwrap_err();
    assert_eq!(mismatches(&error).len(), 12, "six are missing and six are unexpected: {error}");
    assert_eq!(mismatches(&error)[0], "body.fc1.weight: expected f32[4, 6], got none");
    assert!(error.to_string().starts_with(&path.display().to_string()));
}

/// The Python with PyTorch, or none and a word why a test is left out.
fn python(test: &str) -> Option<std::ffi::OsString> {
    let python = std::env::var_os("TORCH_PYTHON");
    if python.is_none() {
        // Straight to the stream: what a passing test prints is not shown.
        let why = "skipped: TORCH_PYTHON does not name a Python with torch and safetensors";
        let mut stream = std::io::stderr();
        writeln!(stream, "{test}: {why}").unwrap();
    }
    python
}

fn mismatches(error: &Error) -> &[String] {
    match error {
        Error::Checkpoint { mismatches, .. } => mismatches,
        other => panic!("not about mismatches: {other}"),
    }
}

#[test]
fn a_resumed_training_gives_the_same_bits() {
    let variants: [(&str, Make); 5] = [
        ("sgd", |seed| trainer(seed, Sgd::new(0.1).momentum(0.9))),
        ("adam", |seed| trainer(seed, Adam::new(0.01))),
        ("everything", elaborate),
        ("bf16", |seed| rounded(seed, Precision::Bf16)),
        ("f16", |seed| rounded(seed, Precision::F16)),
    ];
    for (name, make) in variants {
        let dir = TempDir::new().unwrap();
        let mut whole = make(7);
        steps(&mut whole, 0..5);
        let progress = Progress::default();
        checkpoint::save(&mut whole, &progress, dir.path()).unwrap();
        let mut resumed = make(0);
        assert_eq!(checkpoint::load(&mut resumed, dir.path()).unwrap(), progress);
        assert_eq!(resumed.net().seed(), Seed(7));
        assert_eq!(resumed.updates(), 5);
        assert_eq!(steps(&mut whole, 5..10), steps(&mut resumed, 5..10), "{name}: losses");
        assert_eq!(parameters(whole.net()), parameters(resumed.net()), "{name}: parameters");
    }
}

/// Makes a trainer from a seed.
type Make = fn(u64) -> Simple;

/// A trainer with everything that a step can depend on.
fn elaborate(seed: u64) -> Simple {
    trainer(seed, Adam::new(0.01))
        .with_schedule(Schedule::Cosine { period: 10, minimum: 0.0 })
        .and_then(|trainer| trainer.with_clipping(0.5))
        .and_then(|trainer| trainer.with_micro_batches(3))
        .unwrap()
}

/// A trainer whose activations are narrower than its parameters, which a checkpoint must hold in full.
fn rounded(seed: u64, precision: Precision) -> Simple {
    let device = Device::cpu().with_precision(precision);
    let net = Net::new(device, Seed(seed), |p| SimpleNet::new(p, 6, 5, 3, 0.5)).unwrap();
    Trainer::new(net, CrossEntropy::default(), Adam::new(0.01)).unwrap()
}

#[test]
fn monte_carlo_and_bare_train_passes_go_on_too() {
    let dir = TempDir::new().unwrap();
    let (x, _) = batch(0);
    let mut whole = trainer(7, Adam::new(0.01));
    whole.net().train().forward(&x).unwrap();
    whole.net().monte_carlo(3).forward(&x).unwrap();
    checkpoint::save(&mut whole, &Progress::default(), dir.path()).unwrap();
    let mut resumed = trainer(0, Adam::new(0.01));
    checkpoint::load(&mut resumed, dir.path()).unwrap();
    assert_eq!(
        whole.net().train().forward(&x).unwrap(),
        resumed.net().train().forward(&x).unwrap()
    );
    let draw = |trainer: &mut Simple| trainer.net().monte_carlo(3).forward(&x).unwrap();
    assert_eq!(draw(&mut whole), draw(&mut resumed));
}

#[test]
fn equal_states_give_equal_bytes() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    saved(&a, Adam::new(0.01));
    let (mut trainer, progress) = saved(&b, Adam::new(0.01));
    for file in [MODEL_FILE, TRAINING_FILE] {
        let read = |dir: &TempDir| fs::read(dir.path().join(file)).unwrap();
        assert_eq!(read(&a), read(&b), "{file}");
        let before = read(&b);
        checkpoint::save(&mut trainer, &progress, b.path()).unwrap();
        assert_eq!(read(&b), before, "{file}, written again");
    }
    let names: Vec<_> = fs::read_dir(a.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing else is left behind: {names:?}");
}

#[test]
fn progress_is_read_without_a_trainer() {
    let dir = TempDir::new().unwrap();
    let (_, progress) = saved(&dir, Adam::new(0.01));
    assert_eq!(checkpoint::progress(dir.path()).unwrap(), progress);
}

#[test]
fn another_recipe_is_refused_item_by_item() {
    let dir = TempDir::new().unwrap();
    saved(&dir, Sgd::new(0.1).momentum(0.9));
    let mut other = trainer(0, Sgd::new(0.2).momentum(0.9)).with_clipping(1.0).unwrap();
    let before = parameters(other.net());
    let error = checkpoint::load(&mut other, dir.path()).unwrap_err();
    assert_eq!(
        mismatches(&error),
        ["clipping: expected Some(1.0), got None", "learning rate: expected 0.2, got 0.1"]
    );
    let error = checkpoint::load(&mut trainer(0, Adam::new(0.1)), dir.path()).unwrap_err();
    assert!(
        mismatches(&error).iter().any(|m| m.starts_with("optimizer: expected Adam")),
        "{error}"
    );
    assert!(mismatches(&error).iter().any(|m| m.starts_with("moment.1.fc1.weight")), "{error}");
    assert_eq!(parameters(other.net()), before);
}

#[test]
fn a_missing_file_is_named() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let error = checkpoint::load(&mut trainer(1, Adam::new(0.01)), dir.path()).unwrap_err();
    let path = dir.path().join(TRAINING_FILE);
    assert!(error.to_string().starts_with(&format!("cannot read {}: ", path.display())));
    Ok(())
}
