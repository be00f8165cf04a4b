// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole training steps: against the CPU, captured against issued, in every order.

use kiln::checkpoint::{self, Progress};
use kiln::data::Digits;
use kiln::loss::CrossEntropy;
use kiln::models::{SimpleNet, VariableDropoutNet};
use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::optim::{Adam, AdamW, Average, Group, Optimizer, Sgd};
use kiln::{Device, Error, Net, Origin, Precision, Seed, Tensor, Trainer, Var};

use crate::common::*;

#[derive(Debug, PartialEq)]
struct Trained {
    losses: Vec<f32>,
    parameters: Vec<(String, Tensor)>,
}

/// `steps` steps of a network on a few batches.
fn train<M: Module>(
    device: Device,
    make: impl FnOnce(&Scope) -> M,
    inputs: usize,
    optimizer: Optimizer,
    steps: u64,
) -> Trained {
    let (classes, batch) = (10, 17);
    let net = Net::new(device, Seed(7), make).expect("a network");
    let fit = Trainer::new(net, CrossEntropy::default(), optimizer).expect("a trainer");
    let mut fit = fit.with_clipping(1.0).expect("a norm");
    let mut losses = Vec::new();
    for step in 0..steps {
        let (x, y) = (numbers(step % 3, [batch, inputs]), labels(step % 3, batch, classes));
        losses.push(fit.step(&x, &y).expect("a step").value().expect("a loss"));
    }
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let parameters = names.into_iter().map(|name| {
        let value = net.parameter(&name).expect("known by name");
        (name, value)
    });
    Trained { losses, parameters: parameters.collect() }
}

fn simple(device: Device, steps: u64) -> Trained {
    train(device, |p| SimpleNet::new(p, 31, 33, 10, 0.5), 31, Adam::new(1e-2).into(), steps)
}

/// Two branches, so that several lanes have work at once.
pub(crate) struct Branches {
    trunk: Linear,
    left: Linear,
    right: Linear,
    dropout: Dropout,
    head: Linear,
}

impl Branches {
    pub(crate) fn new(p: &Scope) -> Self {
        Branches {
            trunk: Linear::new(&p.at("trunk"), 12, 24),
            left: Linear::new(&p.at("left"), 24, 24),
            right: Linear::new(&p.at("right"), 24, 24),
            dropout: Dropout::new(&p.at("dropout"), 0.4),
            head: Linear::new(&p.at("head"), 24, 10),
        }
    }
}

impl Module for Branches {
    fn forward(&self, x: &Var) -> Var {
        let x = self.trunk.forward(x).relu();
        let left = self.dropout.forward(&self.left.forward(&x).tanh());
        let right = self.dropout.forward(&self.right.forward(&x).sigmoid());
        self.head.forward(&(&left.gelu() + &right))
    }
}

fn branches(device: Device, steps: u64) -> Trained {
    train(device, Branches::new, 12, Sgd::new(0.1).momentum(0.9).into(), steps)
}

/// Groups, averages, and a branch that is frozen at first: what it leaves is in the parameters and,
/// after them, in the averages.
fn tuned(device: Device, steps: u64) -> Trained {
    let net = Net::new(device, Seed(7), Branches::new).expect("a network");
    let fit = Trainer::new(net, CrossEntropy::default(), AdamW::new(1e-2)).expect("a trainer");
    let group = Group::of("head.*").rate_factor(3.0).weight_decay(0.1);
    let fit = fit.with_groups([group]).expect("a group").without_decay_for_biases_and_norms();
    let fit = fit.with_average(Average::new(0.8)).expect("a decay");
    let mut fit = fit.with_clipping(0.5).expect("a norm");
    fit.freeze("left.*").expect("names");
    let mut losses = Vec::new();
    for step in 0..steps {
        if step == steps / 2 {
            fit.unfreeze("left.weight").expect("a name");
        }
        let (x, y) = (numbers(step % 3, [17, 12]), labels(step % 3, 17, 10));
        losses.push(fit.step(&x, &y).expect("a step").value().expect("a loss"));
    }
    let read = |net: &mut Net<Branches>| {
        let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
        let value = |name: String| {
            let value = net.parameter(&name).expect("known by name");
            (name, value)
        };
        names.into_iter().map(value).collect::<Vec<_>>()
    };
    let mut parameters = read(fit.net());
    parameters.extend(read(&mut fit.into_averaged().expect("averages")));
    Trained { losses, parameters }
}

#[test]
fn steps_follow_the_cpu() {
    let driver = driver();
    for run in [simple, branches, tuned] {
        let (got, reference) = (run(gpu(), 5), run(cpu(), 5));
        for (got, reference) in got.losses.iter().zip(&reference.losses) {
            assert!((got - reference).abs() < 1e-4 * reference.abs(), "{got}, {reference}");
        }
        for ((name, got), (_, reference)) in got.parameters.iter().zip(&reference.parameters) {
            assert_close(name, got, reference, 1e-3);
        }
    }
    driver.assert_clean();
}

#[test]
fn captured_steps_are_the_issued_ones_bit_for_bit() {
    let driver = driver();
    for (run, least) in [(simple as fn(Device, u64) -> Trained, 5), (branches, 5), (tuned, 4)] {
        let captured = run(gpu(), 6);
        let replays = driver.take_graph_launches();
        assert!(replays.is_none_or(|count| count >= least), "nothing was replayed");
        assert_eq!(captured, run(eager_gpu(), 6));
        assert_eq!(driver.take_graph_launches().unwrap_or(0), 0);
        assert_eq!(captured, run(gpu(), 6), "two runs differ");
    }
}

#[test]
fn no_order_of_streams_changes_a_bit() {
    let Some(simulator) = simulator() else { return };
    let expected = branches(gpu(), 4);
    for order in [StreamOrder::Eager, StreamOrder::Random] {
        for seed in 0..12 {
            simulator.set_stream_order(order);
            simulator.set_seed(seed);
            assert_eq!(branches(gpu(), 4), expected, "{order:?} {seed}");
            assert_eq!(branches(eager_gpu(), 4), expected, "{order:?} {seed}");
        }
    }
}

#[test]
fn checked_steps_are_clean_in_any_order() {
    let Some(simulator) = simulator() else { return };
    simulator.set_mode(Mode::Checked);
    simulator.set_stream_order(StreamOrder::Random);
    for run in [simple, branches, tuned] {
        for seed in 0..6 {
            simulator.set_seed(seed);
            run(gpu(), 4);
            run(eager_gpu(), 3);
            assert_eq!(simulator.take_reports(), Vec::<String>::new(), "{seed}");
        }
    }
}

/// The gradients of a large batch are added up in parts, those of all layers in one launch: the last
/// part of each adds up its own.
#[test]
fn weight_gradients_in_parts_are_those_of_the_cpu() {
    let driver = driver();
    let gradients = |device: Device| {
        let make = |p: &Scope| SimpleNet::new(p, 30, 40, 10, 0.5);
        let mut net = Net::new(device, Seed(7), make).expect("a network");
        let (x, y) = (numbers(1, [300, 30]), labels(1, 300, 10));
        let found = net.train().loss_gradients(&CrossEntropy::default(), &x, &y);
        found.expect("a pass").parameters
    };
    for ((name, got), (_, reference)) in gradients(gpu()).iter().zip(&gradients(cpu())) {
        assert_close(name, got, reference, 1e-5);
    }
    driver.assert_clean();
}

/// A captured step has its network's seed in its launches, and a resumed training brings another.
#[test]
fn a_captured_step_is_made_anew_for_another_seed() {
    let driver = driver();
    let trainer = |seed| {
        let make = |p: &Scope| SimpleNet::new(p, 31, 33, 10, 0.5);
        let net = Net::new(gpu(), Seed(seed), make).expect("a network");
        Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer")
    };
    let steps = |fit: &mut Trainer<SimpleNet>, numbers_of: std::ops::Range<u64>| -> Vec<f32> {
        let step = |step| {
            let (x, y) = (numbers(step, [17, 31]), labels(step, 17, 10));
            fit.step(&x, &y).expect("a step").value().expect("a loss")
        };
        numbers_of.map(step).collect()
    };
    let folder = tempfile::TempDir::new().expect("a folder");
    let mut first = trainer(7);
    steps(&mut first, 0..4);
    checkpoint::save(&mut first, &Progress::default(), folder.path()).expect("saved");
    let mut second = trainer(8);
    steps(&mut second, 0..4);
    assert!(driver.take_graph_launches().is_none_or(|count| count >= 4), "nothing was replayed");
    checkpoint::load(&mut second, folder.path()).expect("loaded");
    assert_eq!(steps(&mut second, 4..8), steps(&mut first, 4..8));
}

/// A replayed graph draws the masks of its own pass, those that the CPU draws.
#[test]
fn every_replay_draws_fresh_masks() {
    let driver = driver();
    let zeros = |device: Device| -> Vec<Vec<bool>> {
        let make = |p: &Scope| Dropout::new(&p.at("dropout"), 0.5);
        let mut net = Net::new(device, Seed(5), make).expect("a network");
        let x = Tensor::new([9, 37], vec![1.0; 333]).expect("as many numbers as the shape has");
        let pass = |_| {
            let y = net.train().forward(&x).expect("a pass");
            y.values().expect("f32").iter().map(|y| *y == 0.0).collect()
        };
        (0..6).map(pass).collect()
    };
    let got = zeros(gpu());
    assert!(driver.take_graph_launches().is_none_or(|count| count >= 5), "nothing was replayed");
    assert_eq!(got, zeros(cpu()));
    for (index, mask) in got.iter().enumerate() {
        assert!(!got[..index].contains(mask), "pass {index} draws an earlier mask");
    }
}

#[test]
fn a_step_of_the_articles_networks_is_seven_launches_without_masks() {
    let Some(simulator) = simulator() else { return };
    let net = |p: &Scope| SimpleNet::new(p, 784, 512, 10, 0.5);
    check_plan(net, 7, 33.6);
    check_plan(VariableDropoutNet::new, 7, 61.7);
    // In 16 bits inputs are cast first. The scores leave no kernel.
    for (precision, launches) in [(Precision::F32, 7), (Precision::Bf16, 8)] {
        let device = gpu().with_precision(precision);
        let make = |p: &Scope| SimpleNet::new(p, 31, 33, 10, 0.5);
        let net = Net::new(device, Seed(1), make).expect("a network");
        let mut fit =
            Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3)).expect("a trainer");
        let (x, y) = (numbers(1, [16, 31]), labels(1, 16, 10));
        for _ in 0..3 {
            fit.step(&x, &y).expect("a step").value().expect("a loss");
        }
        simulator.clear_counters();
        fit.step(&x, &y).expect("a step").value().expect("a loss");
        let counters = simulator.counters();
        assert_eq!((counters.launches, counters.graph_launches), (launches, 1), "{precision}");
        assert_eq!(counters.copies, 3, "one up, one to the arena, one down");
        assert_eq!(counters.allocations, 0);
    }
}

fn check_plan<M: Module>(make: impl FnOnce(&Scope) -> M, launches: usize, megabytes: f64) {
    let net = Net::new(gpu(), Seed(1), make).expect("a network");
    let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3)).expect("a trainer");
    let (x, y) = (Tensor::zeros([256, 784]).ty(), labels(1, 256, 10).ty());
    let totals = fit.plan(&x, &y).expect("a plan").totals();
    assert_eq!((totals.steps, totals.mask_bytes), (launches, 0));
    // Each value read and written once per launch that needs it: the least that these launches move.
    assert!(totals.bytes as f64 <= 1.1 * megabytes * 1e6, "{} bytes", totals.bytes);
}

/// Trains on the scanned digits and counts correct answers on unseen ones.
pub(crate) fn accuracy(device: Device) -> f64 {
    let (train, test) = Digits::load().split(600, 1).expect("there are 1797 digits");
    let make = |p: &Scope| SimpleNet::new(p, 784, 32, 10, 0.2);
    let net = Net::new(device, Seed(3), make).expect("a network");
    let adam = Adam::new(3e-3);
    let mut fit = Trainer::new(net, CrossEntropy::default(), adam).expect("a trainer");
    let batch = 40;
    for step in 0..75 {
        let first = step * batch % 600;
        let x = train.inputs()[first * 784..(first + batch) * 784].to_vec();
        let y = train.labels()[first..first + batch].to_vec();
        let x = Tensor::new([batch, 784], x).expect("whole images");
        fit.step(&x, &Tensor::labels([batch], y).expect("labels")).expect("a step");
    }
    let count = 500;
    let x = Tensor::new([count, 784], test.inputs()[..count * 784].to_vec()).expect("images");
    let scores = fit.net().eval().forward(&x).expect("scores");
    let best =
        |row: &[f32]| (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("ten") as i32;
    let rows = scores.values().expect("f32").chunks(10).zip(test.labels());
    rows.filter(|(row, label)| best(row) == **label).count() as f64 / count as f64
}

#[test]
fn the_gpu_learns_digits_as_the_cpu_does() {
    let _driver = driver();
    let (got, reference) = (accuracy(gpu()), accuracy(cpu()));
    assert!(reference > 0.85, "the reference learned nothing: {reference}");
    assert!((got - reference).abs() <= 0.01, "{got}, reference {reference}");
}

/// Numbers that are not finite are noticed a little later than on the CPU, and under the number of the
/// step that they come from.
#[test]
fn a_training_stops_where_the_cpu_stops() {
    let driver = driver();
    let fit = |device| {
        let net = Net::new(device, Seed(7), |p| SimpleNet::new(p, 6, 5, 3, 0.5));
        Trainer::new(net.expect("a network"), CrossEntropy::default(), Sgd::new(1e25))
            .expect("a trainer")
    };
    let (x, y) = (numbers(1, [8, 6]), labels(1, 8, 3));
    let mut on_cpu = fit(cpu());
    let stopped = (0..9).find_map(|_| on_cpu.step(&x, &y).err()).expect("an overflow");
    let Error::NonFinite { update, .. } = stopped else { panic!("{stopped}") };
    let mut kept = fit(gpu());
    let stopped = (0..9).find_map(|_| kept.step(&x, &y).err()).expect("an overflow");
    let Error::NonFinite { update: found, .. } = stopped else { panic!("{stopped}") };
    assert_eq!(found, update);
    assert!((update..=update + 4).contains(&kept.updates()), "{} updates", kept.updates());

    let mut last = fit(gpu());
    for _ in 1..update {
        last.step(&x, &y).expect("a finite step");
    }
    let first = last.first_non_finite(&x, &y).expect("a pass").expect("an overflow");
    assert!(
        matches!(&first.origin, Origin::Layer { path, .. } if path.starts_with("fc")),
        "{first}"
    );
    last.step(&x, &y).expect("issued");
    let stopped = last.check_finite().expect_err("waited for");
    assert!(matches!(stopped, Error::NonFinite { update: found, .. } if found == update));
    driver.assert_clean();
}
