// SPDX-License-Identifier: MIT OR Apache-2.0
//! A training file says how each parameter is trained, and holds moments of what is trained alone.

use kiln::checkpoint::Resume;
use kiln::loss::Mse;
use kiln::nn::{BatchNorm, Linear, Module, Scope};
use kiln::optim::{Average, Group};
use kiln::Var;

use super::*;

struct Pair {
    norm: BatchNorm,
    body: Linear,
    head: Linear,
}

impl Module for Pair {
    fn forward(&self, x: &Var) -> Var {
        self.head.forward(&self.norm.forward(&self.body.forward(x)).relu())
    }
}

fn trainer() -> Trainer<Pair> {
    let make = |p: &Scope| Pair {
        norm: BatchNorm::new(&p.at("norm"), 4),
        body: Linear::new(&p.at("body"), 3, 4),
        head: Linear::new(&p.at("head"), 4, 2),
    };
    let net = Net::new(Device::cpu(), Seed(7), make).unwrap();
    Trainer::new(net, Mse::default(), Adam::new(0.01)).unwrap()
}

fn grouped() -> Trainer<Pair> {
    let groups = [Group::of("head.*").rate_factor(10.0), Group::of("norm.weight").frozen()];
    let fit = trainer().with_groups(groups).unwrap().with_average(Average::new(0.5).with_buffers());
    let mut fit = fit.unwrap();
    fit.freeze("body.*").unwrap();
    fit
}

fn step(fit: &mut Trainer<Pair>) {
    let x = Tensor::new([4, 3], (0..12).map(|i| (i * 5 % 7) as f32 - 3.0).collect()).unwrap();
    fit.step(&x, &Tensor::zeros([4, 2])).unwrap();
}

fn saved(fit: &mut Trainer<Pair>) -> TempDir {
    let dir = TempDir::new().unwrap();
    step(fit);
    checkpoint::save(fit, &Progress::default(), dir.path()).unwrap();
    dir
}

fn names(dir: &TempDir) -> Vec<String> {
    let bytes = fs::read(dir.path().join(TRAINING_FILE)).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut names: Vec<String> = header.tensors().into_keys().collect();
    names.sort();
    names
}

#[test]
fn moments_of_frozen_parameters_are_absent_and_averages_are_there() {
    let names = names(&saved(&mut grouped()));
    let with = |prefix: &str| -> Vec<&str> {
        names.iter().filter_map(|name| name.strip_prefix(prefix)).collect()
    };
    for moment in ["moment.0.", "moment.1."] {
        assert_eq!(with(moment), ["head.bias", "head.weight", "norm.bias"]);
    }
    let averaged = [
        "body.bias",
        "body.weight",
        "head.bias",
        "head.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.weight",
    ];
    assert_eq!(with("average."), averaged);
    assert_eq!(with("value.").len(), averaged.len() + 1, "the counter too");
}

/// Another group, another frozen set, averages or none: each is named, and nothing is changed.
#[test]
fn a_training_resumes_with_the_same_groups_alone() {
    let dir = saved(&mut grouped());
    let error = |mut fit: Trainer<Pair>| {
        let before = fit.net().parameter("head.weight").unwrap();
        let error = checkpoint::load(&mut fit, dir.path()).unwrap_err().to_string();
        assert_eq!(fit.net().parameter("head.weight").unwrap(), before);
        error
    };
    let plain = error(trainer());
    for expected in [
        "average: expected none, got Average { decay: 0.5, buffers: Averaged }",
        "parameter body.bias: expected none, got frozen",
        "parameter head.weight: expected none, got rate factor 10.0",
    ] {
        assert!(plain.contains(expected), "{plain}");
    }
    let mut thawed = grouped();
    thawed.unfreeze("body.bias").unwrap();
    let thawed = error(thawed);
    assert!(thawed.contains("parameter body.bias: expected none, got frozen"), "{thawed}");
    assert!(thawed.contains("moment.0.body.bias"), "{thawed}");
    let bare = Trainer::with_average(grouped(), Average::new(0.25)).unwrap();
    let bare = error(bare);
    assert!(bare.contains("average: expected Average { decay: 0.25, buffers: Current }"), "{bare}");
    checkpoint::load(&mut grouped(), dir.path()).unwrap();
}

/// What the caller says may differ does: rates of a later phase.
#[test]
fn groups_can_be_allowed_to_differ() {
    let dir = saved(&mut trainer());
    let mut other = trainer().with_groups([Group::of("head.*").rate_factor(10.0)]).unwrap();
    let one = Resume::new(dir.path()).allow("parameter head.weight").load(&mut other);
    let error = one.unwrap_err().to_string();
    assert!(error.contains("head.bias") && !error.contains("head.weight"), "{error}");
    Resume::new(dir.path()).allow("parameter").load(&mut other).unwrap();
    assert_eq!(other.updates(), 1);
}

/// Options that say what holds anyway are no difference.
#[test]
fn groups_that_change_nothing_are_not_written_down() {
    let dir = saved(&mut trainer());
    let group = Group::of("head.*").rate_factor(1.0).weight_decay(0.0);
    let mut same = trainer().with_groups([group]).unwrap().without_decay_for_biases_and_norms();
    checkpoint::load(&mut same, dir.path()).unwrap();
    assert_eq!(names(&dir), names(&saved(&mut same)));
}

/// Whose own updates are fewer is written down.
#[test]
fn updates_without_a_parameter_are_counted() {
    let mut fit = trainer();
    step(&mut fit);
    fit.freeze("body.*").unwrap();
    step(&mut fit);
    fit.unfreeze("body.*").unwrap();
    let dir = saved(&mut fit);
    let path = dir.path().join(TRAINING_FILE);
    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
    assert!(text.contains("\\\"skipped\\\":{\\\"body.bias\\\":2,\\\"body.weight\\\":2}"));
}
