// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent networks: the device computes all of them in few launches, and training follows the CPU.

use kiln::backend::cuda::{work, Architecture, CudaOptions, Walks, WorkItem};
use kiln::loss::CrossEntropy;
use kiln::models::RnnClassifier;
use kiln::nn::{
    Directions, Gru, Linear, Lstm, Module, Nonlinearity, RecurrentOptions, Rnn, Scope, Sequences,
};
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer, Var};

use crate::common::*;

/// Every kind of recurrent layer, with lengths: a projected LSTM in both directions, with dropout between
/// its layers; a GRU that begins with its states; a layer of ReLU and one of tanh. Their widths are
/// whole vectors and others, and one has more units than a block.
struct Sequence {
    lstm: Lstm,
    gru: Gru,
    relu: Rnn,
    tanh: Rnn,
    head: Linear,
}

const SAMPLES: usize = 9;
const STEPS: usize = 5;
pub(crate) const FEATURES: usize = 7;

impl Sequence {
    fn new(p: &Scope) -> Self {
        let two = RecurrentOptions { layers: 2, dropout: 0.3, ..RecurrentOptions::default() };
        let both = RecurrentOptions { directions: Directions::Both, ..two };
        let one = RecurrentOptions::default();
        Sequence {
            lstm: Lstm::projected(&p.at("lstm"), FEATURES, 19, 8, both),
            gru: Gru::with_options(&p.at("gru"), 16, 8, two),
            relu: Rnn::with_options(&p.at("relu"), 8, 70, Nonlinearity::Relu, one),
            tanh: Rnn::new(&p.at("tanh"), 70, 33),
            head: Linear::new(&p.at("head"), 33, 6),
        }
    }
}

impl Module<(Var, Var)> for Sequence {
    fn forward(&self, (x, lengths): &(Var, Var)) -> Var {
        let read = self.lstm.run(Sequences::new(x).with_lengths(lengths));
        let begun = Sequences::new(&read.output).with_lengths(lengths);
        let states = [read.hidden[2].clone(), read.hidden[3].clone()];
        let told = self.gru.run(begun.from_states(&states, &[]));
        let kinked = self.relu.run(Sequences::new(&told.output).with_lengths(lengths));
        self.head.forward(self.tanh.run(&kinked.output).last_hidden())
    }
}

type Fit = Trainer<Sequence, (Var, Var)>;

fn trainer(device: Device) -> Fit {
    let net = Net::new(device, Seed(7), Sequence::new).expect("a network");
    Trainer::new(net, CrossEntropy::default(), Sgd::new(0.5)).expect("a trainer")
}

/// Sequences of several lengths, which they have along, and a class for each.
pub(crate) fn batch(step: u64) -> [Tensor; 3] {
    let lengths = [5, 2, 1, 4, 3, 5, 5, 1, 2].map(|length: i32| 1 + (length + step as i32) % 5);
    let lengths = Tensor::labels([SAMPLES], lengths.to_vec()).expect("a length for each");
    [numbers(step, [SAMPLES, STEPS, FEATURES]), lengths, labels(step, SAMPLES, 6)]
}

fn train(device: Device, steps: u64) -> (Vec<f32>, Vec<(String, Tensor)>) {
    trained(trainer(device), steps)
}

/// Losses, and the parameters behind the last step.
pub(crate) fn trained<N: Module<(Var, Var)>>(
    mut fit: Trainer<N, (Var, Var)>,
    steps: u64,
) -> (Vec<f32>, Vec<(String, Tensor)>) {
    let mut losses = Vec::new();
    for step in 0..steps {
        let [x, lengths, y] = batch(step);
        let loss = fit.step((&x, &lengths), &y).expect("a step");
        losses.push(loss.value().expect("a loss"));
    }
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let read = |name: String| {
        let value = net.parameter(&name).expect("known by name");
        (name, value)
    };
    (losses, names.into_iter().map(read).collect())
}

/// Issued, captured and replayed. Where factors are rounded, ReLU's sums may have another sign.
#[test]
fn recurrent_networks_follow_the_cpu() {
    let driver = driver();
    for (precision, steps, tolerance) in [
        (Precision::F32, 4, 1e-4),
        (Precision::Tf32, 2, 5e-3),
        (Precision::Bf16, 1, 5e-2),
        (Precision::F16, 1, 5e-3),
    ] {
        let (losses, parameters) = train(gpu().with_precision(precision), steps);
        let (expected, reference) = train(cpu().with_precision(precision), steps);
        for (loss, expected) in losses.iter().zip(&expected) {
            let error = (loss - expected).abs();
            assert!(error <= tolerance * expected.abs(), "{precision}: {loss}, {expected}");
        }
        for ((name, got), (_, reference)) in parameters.iter().zip(&reference) {
            assert_close(&format!("{precision} {name}"), got, reference, tolerance);
        }
    }
    driver.assert_clean();
}

#[test]
fn recurrent_training_repeats_bit_for_bit() {
    let driver = driver();
    let once = train(gpu(), 3);
    assert_eq!(once, train(gpu(), 3));
    assert_eq!(once, train(eager_gpu(), 3), "captured and not");
    driver.assert_clean();
}

/// Blocks and threads in any order, and every access followed.
#[test]
fn recurrent_steps_touch_only_their_memory_in_any_order() {
    let Some(simulator) = simulator() else { return };
    let expected = train(gpu(), 1);
    simulator.set_mode(Mode::Checked);
    simulator.set_thread_order(ThreadOrder::Random);
    for seed in 0..2 {
        simulator.set_seed(seed);
        assert_eq!(train(gpu(), 1), expected);
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}

/// Neither in training nor in eval mode, in any precision.
#[test]
fn no_step_of_a_recurrent_network_is_left_to_the_host() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        let device = Device::on_paper(Architecture::SM_90).with_precision(precision);
        let mut fit = trainer(device);
        let [x, lengths, y] = batch(1).map(|tensor| tensor.ty());
        let plan = fit.plan(&(x.clone(), lengths.clone()), &y).expect("a plan").clone();
        let eval = fit.net().plan(kiln::Mode::Eval, &[x, lengths]).expect("a plan").clone();
        for plan in [plan, eval] {
            let work = work(&plan, Architecture::SM_90, precision).expect("the plan's work");
            for (step, items) in plan.steps.iter().zip(&work.steps) {
                let on_host = items.iter().any(|item| matches!(item, WorkItem::Host { .. }));
                assert!(!on_host, "{} of {:?}", step.kernel.name(), step.layer);
            }
        }
    }
}

/// The plan of a step of the recurrent classifier for 64 texts of 64 tokens.
fn classifier_work(hidden: usize) -> kiln::backend::cuda::PlanWork {
    let device = Device::on_paper(Architecture::SM_90);
    let make = |p: &Scope| RnnClassifier::new(p, 35, 24, hidden, 6, 0.3);
    let net = Net::new(device, Seed(7), make).expect("a network");
    let adam = kiln::optim::Adam::new(1e-3);
    let mut fit: Trainer<RnnClassifier, (Var, Var)> =
        Trainer::new(net, CrossEntropy::default(), adam).expect("a trainer");
    let of = |shape: &[usize]| TensorType::i32(shape.into());
    let plan = fit.plan(&(of(&[64, 64]), of(&[64])), &of(&[64])).expect("a plan");
    assert_eq!(plan.totals().mask_bytes, 0);
    work(plan, Architecture::SM_90, Precision::F32).expect("the plan's work")
}

/// A launch for all steps of each of two layers, forward and back, and few others: dropout of what layers
/// hand on is a part of their steps, and no mask is stored.
#[test]
fn a_step_of_the_recurrent_classifier_takes_few_launches() {
    for (hidden, most) in [(96, 14), (256, 14), (100, 266)] {
        let totals = classifier_work(hidden).totals();
        assert!(totals.launches <= most, "{hidden} units: {} launches", totals.launches);
        assert_eq!(totals.host.count, 0);
    }
}

/// Two layers both ways with dropout between them, a GRU, and layers of tanh and ReLU, with lengths.
struct Walked {
    lstm: Lstm,
    gru: Gru,
    relu: Rnn,
    head: Linear,
}

impl Walked {
    fn new(p: &Scope, units: usize) -> Self {
        let one = RecurrentOptions::default();
        let both = Directions::Both;
        let two = RecurrentOptions { layers: 2, dropout: 0.3, directions: both, ..one };
        Walked {
            lstm: Lstm::with_options(&p.at("lstm"), FEATURES, units, two),
            gru: Gru::with_options(&p.at("gru"), 2 * units, 2 * units, one),
            relu: Rnn::with_options(&p.at("relu"), 2 * units, 8, Nonlinearity::Relu, one),
            head: Linear::new(&p.at("head"), 8, 6),
        }
    }
}

impl Module<(Var, Var)> for Walked {
    fn forward(&self, (x, lengths): &(Var, Var)) -> Var {
        let read = self.lstm.run(Sequences::new(x).with_lengths(lengths));
        let told = self.gru.run(Sequences::new(&read.output).with_lengths(lengths));
        self.head.forward(self.relu.run(&told.output).last_hidden())
    }
}

/// Losses and parameters of three steps: issued, captured, replayed.
fn walked(precision: Precision, walks: Walks, units: usize) -> (Vec<f32>, Vec<Tensor>) {
    let options = CudaOptions { walks, precision, ..CudaOptions::default() };
    let device = Device::cuda_with(0, options).expect("a device");
    let net = Net::new(device, Seed(7), |p| Walked::new(p, units)).expect("a network");
    let mut fit: Trainer<Walked, (Var, Var)> =
        Trainer::new(net, CrossEntropy::default(), Sgd::new(0.5)).expect("a trainer");
    let mut losses = Vec::new();
    for step in 0..3 {
        let [x, lengths, y] = batch(step);
        losses.push(fit.step((&x, &lengths), &y).expect("a step").value().expect("a loss"));
    }
    let names: Vec<String> = fit.net().parameter_names().into_iter().map(str::to_owned).collect();
    let read = |name: &String| fit.net().parameter(name).expect("known by name");
    (losses, names.iter().map(read).collect())
}

/// One launch for all steps or one for each, also where some layers fit and others do not (an LSTM of 20 units
/// has no whole blocks): the same bits.
#[test]
fn walks_change_no_bit() {
    let Some(simulator) = simulator() else { return };
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        for units in [8, 72, 20] {
            let steps = walked(precision, Walks::Never, units);
            assert_eq!(simulator.counters().cooperative_launches, 0);
            for order in [ThreadOrder::Random, ThreadOrder::Descending, ThreadOrder::Ascending] {
                simulator.set_thread_order(order);
                let found = walked(precision, Walks::Always, units);
                assert_eq!(found, steps, "{precision}, {units} units, {order:?}");
            }
            assert!(simulator.counters().cooperative_launches > 0);
            simulator.clear_counters();
        }
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}

/// Every access of walks is ordered, in random order too.
#[test]
fn walks_are_ordered() {
    let Some(simulator) = simulator() else { return };
    let expected = walked(Precision::F32, Walks::Never, 8);
    simulator.set_mode(Mode::Checked);
    simulator.set_thread_order(ThreadOrder::Random);
    assert_eq!(walked(Precision::F32, Walks::Always, 8), expected);
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}
