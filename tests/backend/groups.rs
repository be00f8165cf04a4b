// SPDX-License-Identifier: MIT OR Apache-2.0
//! Laws of training parameters in groups, of freezing them, and of their moving averages.

use kiln::checkpoint::{self, Progress};
use kiln::loss::Mse;
use kiln::nn::{BatchNorm, Dropout, Linear, Module, Scope};
use kiln::optim::{Adam, AdamW, Average, Group, Nesterov, Optimizer, Sgd};
use kiln::{DType, Device, Net, Seed, Tensor, Trainer, Var};

use crate::common::close::{assert_close, doubles, Tolerance};
use crate::common::targets::{targets, Target};
use crate::common::zoo::SEED;
use crate::common::{bits, Numbers};

/// Layers that are fused in different ways: behind normalisation, behind dropout, and the last.
struct Tuned {
    norm: BatchNorm,
    body: Linear,
    dropout: Dropout,
    neck: Linear,
    head: Linear,
}

impl Tuned {
    fn new(p: &Scope) -> Self {
        Tuned {
            norm: BatchNorm::new(&p.at("norm"), 6),
            body: Linear::new(&p.at("body"), 6, 33),
            dropout: Dropout::new(&p.at("dropout"), 0.25),
            neck: Linear::new(&p.at("neck"), 33, 17),
            head: Linear::new(&p.at("head"), 17, 3),
        }
    }
}

impl Module for Tuned {
    fn forward(&self, x: &Var) -> Var {
        let x = self.dropout.forward(&self.body.forward(&self.norm.forward(x)).relu());
        self.head.forward(&self.neck.forward(&x).tanh())
    }
}

type Fit = Trainer<Tuned>;

fn optimizers() -> [Optimizer; 4] {
    let nesterov =
        Sgd { nesterov: Nesterov::On, weight_decay: 0.01, ..Sgd::new(0.1).momentum(0.9) };
    let adam = Adam { weight_decay: 0.01, ..Adam::new(0.01) };
    [Sgd::new(0.1).into(), nesterov.into(), adam.into(), AdamW::new(0.01).into()]
}

fn scaled(optimizer: Optimizer, factor: f64) -> Optimizer {
    Optimizer { rate: factor * optimizer.rate, ..optimizer }
}

fn decayed(optimizer: Optimizer, weight_decay: f64) -> Optimizer {
    Optimizer { rule: optimizer.rule.with_weight_decay(weight_decay), ..optimizer }
}

fn net(device: Device) -> Net<Tuned> {
    Net::new(device, Seed(SEED), Tuned::new).expect("a network")
}

fn trainer(target: &Target, optimizer: Optimizer) -> Fit {
    Trainer::new(net(target.device()), Mse::default(), optimizer).expect("a trainer")
}

fn batch(step: u64) -> [Tensor; 2] {
    let mut numbers = Numbers::new(step);
    [numbers.tensor(&[9, 6]), numbers.tensor(&[9, 3])]
}

/// Makes steps on batches of these numbers.
fn steps(fit: &mut Fit, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let [x, target] = batch(number);
        fit.step(&x, &target).expect("a step");
    }
}

/// Parameters and running statistics.
fn values(net: &mut Net<Tuned>) -> Vec<(String, Tensor)> {
    let names: Vec<String> = net.parameter_names().into_iter().map(String::from).collect();
    let floats = names.into_iter().filter(|name| !name.ends_with("num_batches_tracked"));
    let value = |name: String| {
        let value = net.parameter(&name).expect("its own name");
        (name, value)
    };
    floats.map(value).collect()
}

fn bits_of(net: &mut Net<Tuned>) -> Vec<(String, Vec<u32>)> {
    values(net).into_iter().map(|(name, value)| (name, bits(&value))).collect()
}

fn of(all: &[(String, Vec<u32>)], name: &str) -> Vec<u32> {
    let found = all.iter().find(|(own, _)| own == name);
    found.unwrap_or_else(|| panic!("no {name}")).1.clone()
}

/// With and without clipping and micro-batches, which the optimiser meets on other ways.
fn settings(fit: Fit, setting: usize) -> Fit {
    match setting {
        0 => fit,
        1 => fit.with_clipping(0.05).expect("a norm"),
        _ => fit.with_micro_batches(2).expect("two parts"),
    }
}

#[test]
fn groups_that_change_nothing_change_no_bit() {
    for target in targets() {
        for optimizer in optimizers() {
            for setting in 0..3 {
                let mut plain = settings(trainer(&target, optimizer), setting);
                let mut grouped = settings(trainer(&target, optimizer), setting);
                let same = optimizer.rule.weight_decay();
                let groups = [
                    Group::of("head.*").rate_factor(1.0),
                    Group::by(|name, _| name.starts_with("body")).weight_decay(same),
                ];
                grouped = grouped.with_groups(groups).expect("groups");
                steps(&mut plain, 0..3);
                steps(&mut grouped, 0..3);
                let (plain, grouped) = (bits_of(plain.net()), bits_of(grouped.net()));
                assert_eq!(plain, grouped, "{optimizer:?} {setting} on {}", target.name);
            }
        }
    }
}

#[test]
fn a_factor_for_all_is_another_rate() {
    for target in targets() {
        for optimizer in optimizers() {
            for setting in 0..3 {
                let fit = settings(trainer(&target, optimizer), setting);
                let mut halved =
                    fit.with_groups([Group::of("*").rate_factor(0.5)]).expect("a group");
                let mut slow = settings(trainer(&target, scaled(optimizer, 0.5)), setting);
                assert_eq!(halved.rate_of("neck.bias").expect("a name"), slow.rate());
                steps(&mut halved, 0..3);
                steps(&mut slow, 0..3);
                let (halved, slow) = (bits_of(halved.net()), bits_of(slow.net()));
                assert_eq!(halved, slow, "{optimizer:?} {setting} on {}", target.name);
            }
        }
    }
}

/// Of one step, whose gradients are the same however parameters are grouped.
#[test]
fn each_parameter_follows_its_own_group() {
    for target in targets() {
        for optimizer in optimizers() {
            for setting in [0, 2] {
                let one_step = |fit: Fit| {
                    let mut fit = settings(fit, setting);
                    steps(&mut fit, 0..1);
                    bits_of(fit.net())
                };
                let fit = trainer(&target, optimizer);
                let groups = [
                    Group::of("head.*").rate_factor(4.0).weight_decay(0.5),
                    Group::of("body.weight").rate_factor(0.25),
                    Group::of("neck.bias").frozen(),
                ];
                let fit = fit.with_groups(groups).expect("groups");
                let got = one_step(fit.without_decay_for_biases_and_norms());
                let uniform = |factor, decay: f64| {
                    one_step(trainer(&target, decayed(scaled(optimizer, factor), decay)))
                };
                let usual = optimizer.rule.weight_decay();
                let what = format!("{optimizer:?} {setting} on {}", target.name);
                let agree = |expected: &[(String, Vec<u32>)], names: &[&str]| {
                    for name in names {
                        assert_eq!(of(&got, name), of(expected, name), "{name}, {what}");
                    }
                };
                agree(&uniform(4.0, 0.5), &["head.weight"]);
                agree(&uniform(4.0, 0.0), &["head.bias"]);
                agree(&uniform(0.25, usual), &["body.weight"]);
                agree(&uniform(1.0, usual), &["neck.weight"]);
                agree(&uniform(1.0, 0.0), &["body.bias", "norm.weight", "norm.bias"]);
                agree(&bits_of(&mut net(target.device())), &["neck.bias"]);
            }
        }
    }
}

/// The norm is that of what is trained, also where it lies in several pieces, and running statistics
/// of a frozen layer move as they do without.
#[test]
fn frozen_parameters_have_no_part_in_the_norm() {
    for target in targets() {
        let whole = || trainer(&target, Sgd::new(0.1).into()).with_clipping(0.05).expect("a norm");
        let [x, y] = batch(0);
        let (mut frozen, mut plain) = (whole(), whole());
        for pattern in ["norm.*", "neck.*"] {
            frozen.freeze(pattern).expect("names");
        }
        let before = bits_of(frozen.net());
        let norm = frozen.step(&x, &y).expect("a step").gradient_norm().expect("a norm");
        let norm = norm.expect("clipping yields the norm");

        let gradients = plain.net().train().loss_gradients(&Mse::default(), &x, &y);
        let gradients = gradients.expect("a pass").parameters;
        let trained = gradients
            .iter()
            .filter(|(name, _)| !["norm.", "neck."].iter().any(|frozen| name.starts_with(frozen)));
        let square: f64 = trained.flat_map(|(_, g)| doubles(g)).map(|g| g * g).sum();
        let got = Tensor::new([], vec![norm]).expect("a scalar");
        assert_close(&target.name, &got, &[square.sqrt()], Tolerance::balanced(DType::F32));

        let after = bits_of(frozen.net());
        for (name, value) in &before {
            let is_frozen =
                name.starts_with("neck.") || name == "norm.weight" || name == "norm.bias";
            let same = *value == of(&after, name);
            assert_eq!(same, is_frozen, "{name} on {}", target.name);
        }
    }
}

/// The others go on with the moments that they had, and in other places on the device.
#[test]
fn moments_stay_where_others_are_frozen_and_thawed() {
    for target in targets() {
        for optimizer in optimizers() {
            let mut frozen = trainer(&target, optimizer);
            steps(&mut frozen, 0..2);
            frozen.freeze("body.*").expect("names");
            steps(&mut frozen, 2..4);

            let mut still = trainer(&target, optimizer);
            steps(&mut still, 0..2);
            let group = Group::of("body.*").rate_factor(0.0).weight_decay(0.0);
            let mut still = still.with_groups([group]).expect("a group");
            steps(&mut still, 2..4);
            let what = format!("{optimizer:?} on {}", target.name);
            assert_eq!(bits_of(frozen.net()), bits_of(still.net()), "{what}");

            frozen.unfreeze("body.*").expect("names");
            frozen.freeze("norm.*").expect("names");
            steps(&mut frozen, 4..5);
            let group = Group::by(|name, _| name.starts_with("norm.")).rate_factor(0.0);
            let mut still = still.with_groups([group.weight_decay(0.0)]).expect("a group");
            steps(&mut still, 4..5);
            let (frozen, still) = (bits_of(frozen.net()), bits_of(still.net()));
            for name in ["neck.weight", "neck.bias", "head.weight", "head.bias", "norm.weight"] {
                assert_eq!(of(&frozen, name), of(&still, name), "{name}, {what}");
            }
        }
    }
}

/// Thawed parameters are updated as by a new optimiser, whatever was before they were frozen.
#[test]
fn thawed_parameters_begin_anew() {
    for target in targets() {
        for optimizer in optimizers() {
            let slept = || {
                let mut fit = trainer(&target, optimizer);
                steps(&mut fit, 0..2);
                fit.freeze("body.*").expect("names");
                steps(&mut fit, 2..5);
                fit
            };
            let mut thawed = slept();
            thawed.unfreeze("body.*").expect("names");
            steps(&mut thawed, 5..7);
            let mut new = slept();
            new.unfreeze("body.*").expect("names");
            let mut new =
                Trainer::new(new.into_net(), Mse::default(), optimizer).expect("a trainer");
            steps(&mut new, 5..6);
            // The first step alone: others than the body differ by then.
            let mut first = slept();
            first.unfreeze("body.*").expect("names");
            steps(&mut first, 5..6);
            for name in ["body.weight", "body.bias"] {
                let what = format!("{name}, {optimizer:?} on {}", target.name);
                let got = first.net().parameter(name).expect("a name");
                let expected = new.net().parameter(name).expect("a name");
                let t = Tolerance::balanced(DType::F32);
                assert_close(&what, &got, &doubles(&expected), t);
                if target.family == "cpu" {
                    assert_eq!(bits(&got), bits(&expected), "{what}");
                }
            }
            assert_ne!(bits_of(thawed.net()), bits_of(first.net()));
        }
    }
}

/// `average + weight * (value - average)` after each step, beginning with the first values; the
/// averages of what is frozen are what is frozen, and no value hears of them.
#[test]
fn averages_follow_the_parameters() {
    for target in targets() {
        for (setting, average) in [
            (0, Average::new(0.75)),
            (1, Average::new(0.25).with_buffers()),
            (2, Average::new(0.999).with_buffers()),
        ] {
            let optimizer = optimizers()[setting + 1];
            let mut plain = settings(trainer(&target, optimizer), setting);
            let averaged = settings(trainer(&target, optimizer), setting);
            let mut averaged = averaged.with_average(average).expect("a decay");
            for fit in [&mut plain, &mut averaged] {
                fit.freeze("neck.weight").expect("a name");
            }
            let mut expected: Vec<(String, Vec<f64>)> = Vec::new();
            for step in 0..4 {
                steps(&mut plain, step..step + 1);
                steps(&mut averaged, step..step + 1);
                let now = values(averaged.net());
                assert_eq!(bits_of(plain.net()), bits_of(averaged.net()), "{}", target.name);
                let moved = |(index, (name, value)): (usize, &(String, Tensor))| {
                    let value = doubles(value);
                    let is_state = name.contains("running");
                    let moved = match expected.get(index) {
                        Some((_, old)) if !is_state || average != Average::new(average.decay) => {
                            let weight = 1.0 - average.decay;
                            old.iter().zip(value).map(|(a, v)| a + weight * (v - a)).collect()
                        }
                        _ => value,
                    };
                    (name.clone(), moved)
                };
                expected = now.iter().enumerate().map(moved).collect();
            }
            let [x, _] = batch(9);
            let output = averaged.averaged().expect("averages").forward(&x).expect("a pass");
            let mut net = averaged.into_averaged().expect("averages");
            let again = net.eval().forward(&x).expect("a pass");
            assert_eq!(bits(&output), bits(&again), "{}", target.name);
            for ((name, got), (_, want)) in values(&mut net).iter().zip(&expected) {
                let what = format!("{name}, {average:?} on {}", target.name);
                assert_close(&what, got, want, Tolerance::strict(DType::F32));
            }
            let frozen = plain.net().parameter("neck.weight").expect("a name");
            assert_eq!(bits(&net.parameter("neck.weight").expect("a name")), bits(&frozen));
        }
    }
}

/// Everything at once: groups, freezing, clipping and averages.
fn everything(target: &Target, setting: usize) -> Fit {
    let fit = settings(trainer(target, AdamW::new(0.01).into()), setting);
    let groups = [Group::of("head.*").rate_factor(10.0), Group::of("body.*").weight_decay(0.2)];
    let fit = fit.with_groups(groups).expect("groups").without_decay_for_biases_and_norms();
    let mut fit = fit.with_average(Average::new(0.9).with_buffers()).expect("a decay");
    fit.freeze("body.*").expect("names");
    fit
}

/// All that a training leaves.
fn ends(mut fit: Fit) -> [Vec<(String, Vec<u32>)>; 2] {
    [bits_of(fit.net()), bits_of(&mut fit.into_averaged().expect("averages"))]
}

#[test]
fn tuned_training_repeats_on_any_number_of_threads() {
    let run = |target: &Target, setting| {
        let mut fit = everything(target, setting);
        steps(&mut fit, 0..3);
        fit.unfreeze("body.weight").expect("a name");
        steps(&mut fit, 3..6);
        ends(fit)
    };
    for setting in 0..3 {
        let first = &targets()[0];
        let expected = run(first, setting);
        for target in targets() {
            let here = run(&target, setting);
            assert_eq!(here, run(&target, setting), "two runs on {}", target.name);
            if target.family == first.family {
                assert_eq!(here, expected, "{} and {}", target.name, first.name);
            }
        }
    }
}

/// Bit for bit, from a moment at which some are frozen, and from one at which some have begun later.
#[test]
fn tuned_training_resumes() {
    for target in targets() {
        for setting in 0..3 {
            let thaw = |fit: &mut Fit| {
                fit.unfreeze("body.weight").expect("a name");
                steps(fit, 3..5);
            };
            let folder = tempfile::TempDir::new().expect("a folder");
            let mut whole = everything(&target, setting);
            steps(&mut whole, 0..3);
            checkpoint::save(&mut whole, &Progress::default(), folder.path()).expect("saved");
            thaw(&mut whole);

            let mut resumed = everything(&target, setting);
            steps(&mut resumed, 7..8);
            checkpoint::load(&mut resumed, folder.path()).expect("loaded");
            thaw(&mut resumed);
            checkpoint::save(&mut resumed, &Progress::default(), folder.path()).expect("saved");
            steps(&mut whole, 5..7);
            steps(&mut resumed, 5..7);

            let mut again = everything(&target, setting);
            again.unfreeze("body.weight").expect("a name");
            checkpoint::load(&mut again, folder.path()).expect("loaded");
            steps(&mut again, 5..7);
            let expected = ends(whole);
            assert_eq!(ends(resumed), expected, "{setting} on {}", target.name);
            assert_eq!(ends(again), expected, "{setting} on {}", target.name);
        }
    }
}
