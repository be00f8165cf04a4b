// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups of parameters, freezing and averages as a user meets them: what is refused, and how.

use std::collections::BTreeMap;

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::loss::Mse;
use kiln::nn::{BatchNorm, Linear, Module, Scope};
use kiln::optim::{Adam, AdamW, Average, Group, Schedule, Sgd};
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer, Var};

use crate::common::{bits, Numbers};

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

fn net() -> Net<Pair> {
    let make = |p: &Scope| Pair {
        norm: BatchNorm::new(&p.at("norm"), 4),
        body: Linear::new(&p.at("body"), 3, 4),
        head: Linear::new(&p.at("head"), 4, 2),
    };
    Net::new(Device::cpu(), Seed(7), make).expect("a network")
}

fn trainer() -> Trainer<Pair> {
    Trainer::new(net(), Mse::default(), Adam::new(0.01)).expect("a trainer")
}

fn batch() -> [Tensor; 2] {
    let mut numbers = Numbers::new(3);
    [numbers.tensor(&[8, 3]), numbers.tensor(&[8, 2])]
}

fn steps(fit: &mut Trainer<Pair>, count: usize) {
    let [x, target] = batch();
    for _ in 0..count {
        fit.step(&x, &target).expect("a step");
    }
}

fn refusal(groups: Vec<Group>) -> String {
    trainer().with_groups(groups).map(|_| ()).expect_err("a mistake").to_string()
}

#[test]
fn a_pattern_that_matches_nothing_is_named() {
    let error = refusal(vec![Group::of("head.*"), Group::of("haed.*").rate_factor(2.0)]);
    assert_eq!(
        error,
        "group \"haed.*\": expected one or more of norm.weight, norm.bias, body.weight, body.bias, \
         head.weight, head.bias, got none"
    );
    // Running statistics are not trained.
    assert!(refusal(vec![Group::of("*running_mean")]).contains("got none"));
    let error = refusal(vec![Group::of("head.*"), Group::by(|_, shape| shape.rank() == 3)]);
    assert!(error.starts_with("group 2 of the list: expected one or more of "), "{error}");
    let error = refusal(vec![Group::of("body.[")]);
    assert!(error.starts_with("group \"body.[\": expected a pattern of names, got"), "{error}");
}

#[test]
fn a_parameter_in_two_groups_is_named() {
    let error = refusal(vec![Group::of("*.bias"), Group::of("head.*")]);
    assert_eq!(
        error,
        "groups of head.bias: expected one, got group \"*.bias\" and group \"head.*\""
    );
}

#[test]
fn options_out_of_range_are_named_all_at_once() {
    let error = refusal(vec![
        Group::of("head.*").rate_factor(f64::NAN),
        Group::of("body.*").rate_factor(-1.0).weight_decay(f64::INFINITY),
    ]);
    for expected in [
        "rate factor of group \"head.*\": expected 0 or more, got NaN",
        "rate factor of group \"body.*\": expected 0 or more, got -1",
        "weight decay of group \"body.*\": expected 0 or more, got inf",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    for decay in [-0.1, 1.1, f64::NAN] {
        let error = trainer().with_average(Average::new(decay)).map(|_| ()).expect_err("a decay");
        let expected = format!("decay of the average: expected in [0, 1], got {decay}");
        assert_eq!(error.to_string(), expected);
    }
}

/// What fails leaves the trainer as it was.
#[test]
fn patterns_of_freezing_must_match() {
    let mut fit = trainer();
    for result in [fit.freeze("haed.*"), fit.unfreeze("haed.*"), fit.freeze("a**")] {
        let error = result.expect_err("no such parameter").to_string();
        assert!(error.contains("freeze \""), "{error}");
    }
    assert_eq!(fit.rate_of("head.bias").expect("a name"), 0.01);
    let error = fit.rate_of("haed.bias").expect_err("no such parameter").to_string();
    assert!(error.contains("haed.bias"), "{error}");
}

#[test]
fn a_step_that_would_train_nothing_is_refused() {
    let [x, target] = batch();
    let mut fit = trainer();
    fit.freeze("*").expect("all");
    let error = fit.step(&x, &target).expect_err("nothing to train").to_string();
    assert_eq!(error, "step: expected a parameter that is not frozen, got none");
    assert_eq!(fit.updates(), 0);
    fit.unfreeze("head.weight").expect("a name");
    fit.step(&x, &target).expect("a step");
}

#[test]
fn rates_are_the_schedules_times_the_factor() {
    let fit = trainer().with_groups([Group::of("head.*").rate_factor(10.0)]).expect("a group");
    let mut fit = fit.with_schedule(Schedule::Step { size: 1, gamma: 0.5 }).expect("a schedule");
    let rates = |fit: &Trainer<Pair>| {
        ["body.weight", "head.weight", "norm.running_mean"]
            .map(|name| fit.rate_of(name).expect("a name"))
    };
    assert_eq!(rates(&fit), [0.01, 0.1, 0.0]);
    steps(&mut fit, 1);
    assert_eq!(rates(&fit), [0.005, 0.05, 0.0]);
    fit.freeze("body.*").expect("names");
    assert_eq!(rates(&fit), [0.0, 0.05, 0.0]);
}

/// Groups given later take the place of the earlier ones; what is frozen stays frozen.
#[test]
fn the_last_groups_count() {
    let fit = trainer().with_groups([Group::of("head.*").rate_factor(10.0)]).expect("a group");
    let mut fit =
        fit.with_groups([Group::of("norm.*").rate_factor(2.0).frozen()]).expect("a group");
    assert_eq!(fit.rate_of("head.bias").expect("a name"), 0.01);
    assert_eq!(fit.rate_of("norm.bias").expect("a name"), 0.0);
    fit.unfreeze("norm.*").expect("names");
    assert_eq!(fit.rate_of("norm.bias").expect("a name"), 0.02);
}

/// Running statistics of a frozen layer move, as `requires_grad=False` leaves them in PyTorch.
#[test]
fn a_frozen_layer_still_gathers_statistics() {
    let mut fit = trainer();
    fit.freeze("norm.*").expect("names");
    let names =
        ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "norm.weight"];
    let read =
        |fit: &mut Trainer<Pair>| names.map(|name| fit.net().parameter(name).expect("a name"));
    let before = read(&mut fit);
    steps(&mut fit, 2);
    let after = read(&mut fit);
    for index in 0..3 {
        assert_ne!(before[index], after[index], "{}", names[index]);
    }
    assert_eq!(before[3], after[3]);
    assert_eq!(after[2].counters().expect("a counter"), [2]);
}

#[test]
fn averages_are_there_only_where_they_are_kept() {
    let error = trainer().averaged().map(|_| ()).expect_err("no averages").to_string();
    assert_eq!(error, "averaged: expected a trainer with `with_average`, got none");
    trainer().into_averaged().map(|_| ()).expect_err("no averages");
    // Before the first step, the averages are the parameters.
    let mut fit = trainer().with_average(Average::new(0.9)).expect("a decay");
    let [x, _] = batch();
    let expected = bits(&fit.net().eval().forward(&x).expect("a pass"));
    assert_eq!(bits(&fit.averaged().expect("averages").forward(&x).expect("a pass")), expected);
    assert_eq!(
        bits(&fit.into_averaged().expect("averages").eval().forward(&x).expect("a pass")),
        expected
    );
}

/// An average that begins anew holds nothing of what it was, and what a predictor took stays.
#[test]
fn averages_begin_anew_when_they_are_asked_for_again() {
    let [x, _] = batch();
    let mut fit = trainer().with_average(Average::new(0.9)).expect("a decay");
    steps(&mut fit, 3);
    let mut taken = fit.averaged().expect("averages");
    let mut fit = fit.with_average(Average::new(0.9)).expect("a decay");
    steps(&mut fit, 1);
    let latest = bits(&fit.net().eval().forward(&x).expect("a pass"));
    assert_eq!(bits(&fit.averaged().expect("averages").forward(&x).expect("a pass")), latest);
    assert_ne!(bits(&taken.forward(&x).expect("a pass")), latest);
}

/// The moments of an earlier training are no part of a new one.
#[test]
fn a_new_trainer_begins_without_moments() {
    for nth in 0..2 {
        let make = |net: Net<Pair>| match nth {
            0 => Trainer::new(net, Mse::default(), Adam::new(0.01)).expect("a trainer"),
            _ => Trainer::new(net, Mse::default(), Sgd::new(0.1).momentum(0.9)).expect("a trainer"),
        };
        let initial = |net: &mut Net<Pair>| {
            let names: Vec<String> = net.parameter_names().into_iter().map(String::from).collect();
            let read = |name: String| {
                let value = net.parameter(&name).expect("a name");
                (name, value)
            };
            names.into_iter().map(read).collect::<Vec<_>>()
        };
        let mut fresh = net();
        let values = initial(&mut fresh);
        let mut used = make(net());
        steps(&mut used, 3);
        used.freeze("body.weight").expect("a name");
        steps(&mut used, 1);
        let mut used = used.into_net();
        for (name, value) in &values {
            used.set_parameter(name, value).expect("a parameter");
        }
        let (mut again, mut first) = (make(used), make(fresh));
        steps(&mut again, 3);
        steps(&mut first, 3);
        let ends = [again, first].map(|mut fit| initial(fit.net()));
        assert_eq!(ends[0], ends[1], "optimiser {nth}");
    }
}

/// What training a network of 24 linear layers and their normalisation launches on a GPU: kernels
/// and how often, of those that update, average or measure; none is left to the host.
fn launched(tune: impl FnOnce(Trainer<Deep>) -> Trainer<Deep>) -> BTreeMap<String, usize> {
    let device = Device::on_paper(Architecture::SM_90);
    let net = Net::new(device, Seed(7), Deep::new).expect("a network");
    let fit = Trainer::new(net, Mse::default(), AdamW::new(0.01)).expect("a trainer");
    let mut fit = tune(fit.with_clipping(1.0).expect("a norm"));
    let types = [Tensor::zeros([8, 16]).ty(), Tensor::zeros([8, 16]).ty()];
    let plan = fit.plan(&types[0], &types[1]).expect("a plan");
    let mut found = BTreeMap::new();
    let work = work(plan, Architecture::SM_90, Precision::F32).expect("the plan's work");
    for (step, items) in plan.steps.iter().zip(work.steps) {
        let name = step.kernel.name();
        if !["clip_norm", "global_norm", "flat_update", "average"].contains(&name) {
            continue;
        }
        for item in items {
            match item {
                WorkItem::Launch(launch) => *found.entry(launch.kernel).or_insert(0) += 1,
                WorkItem::Host { .. } => panic!("{name} is left to the host"),
                WorkItem::Copy { .. } | WorkItem::Fill { .. } => {}
            }
        }
    }
    found
}

struct Deep(Vec<(Linear, BatchNorm)>);

impl Deep {
    fn new(p: &Scope) -> Self {
        let layer = |index: usize| {
            let p = p.at(&format!("layer{index}"));
            (Linear::new(&p.at("fc"), 16, 16), BatchNorm::new(&p.at("norm"), 16))
        };
        Deep((0..24).map(layer).collect())
    }
}

impl Module for Deep {
    fn forward(&self, x: &Var) -> Var {
        self.0.iter().fold(x.clone(), |x, (fc, norm)| norm.forward(&fc.forward(&x)).relu())
    }
}

/// Stretches of neighbours that are trained alike share launches, whatever state lies between them.
#[test]
fn groups_take_few_launches_on_a_gpu() {
    let counts = |found: &BTreeMap<String, usize>| {
        ["square_sum_f32", "adam", "average_f32"].map(|name| found.get(name).copied().unwrap_or(0))
    };
    assert_eq!(counts(&launched(|fit| fit)), [1, 1, 0]);
    // Weights and the three vectors behind each are 48 stretches, 32 in a launch.
    let bare = launched(Trainer::without_decay_for_biases_and_norms);
    assert_eq!(counts(&bare), [1, 2, 0]);
    let averaged = |fit: Trainer<Deep>| {
        let average = Average::new(0.9).with_buffers();
        let group = Group::of("layer23.*").rate_factor(10.0);
        fit.with_groups([group]).expect("a group").with_average(average).expect("a decay")
    };
    // The state's averages are stretches of two, around the counters.
    assert_eq!(counts(&launched(averaged)), [1, 1, 1]);
    let frozen = |mut fit: Trainer<Deep>| {
        fit.freeze("layer?.*").expect("names");
        fit.freeze("layer15.fc.*").expect("names");
        fit.with_average(Average::new(0.9)).expect("a decay")
    };
    assert_eq!(counts(&launched(frozen)), [2, 1, 1]);
}
