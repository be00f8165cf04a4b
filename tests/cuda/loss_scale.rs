// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss scales that the device decides on: the same updates are skipped as on the CPU, and a host that
//! does not wait to hear of it changes nothing.

use kiln::checkpoint::{self, Progress, TRAINING_FILE};
use kiln::loss::{CrossEntropy, Mse};
use kiln::models::SimpleNet;
use kiln::nn::{BatchNorm, Linear, Module, Scope};
use kiln::optim::{Adam, Average, Optimizer, Schedule, Sgd};
use kiln::{Device, LossScale, Net, Precision, Seed, Tensor, Trainer, TrainingState, Var};
use safetensors::SafeTensors;

use crate::common::*;

/// A step whose gradients are too large for f16 from a scale of 2^21 on.
fn batch(step: u64) -> (Tensor, Tensor) {
    (numbers(step, [18, 31]), labels(step, 18, 10))
}

/// Overflows at its third update, and from then on at every other one.
fn trainer(device: Device, optimizer: Optimizer, parts: usize, clip: bool) -> Trainer<SimpleNet> {
    let device = device.with_precision(Precision::F16);
    let net = Net::new(device, Seed(7), |p| SimpleNet::new(p, 31, 33, 10, 0.5));
    let fit = Trainer::new(net.expect("a network"), CrossEntropy::default(), optimizer);
    // Rate and momentum differ from update to update.
    let fit = fit.expect("a trainer").with_schedule(Schedule::one_cycle(0.02, 40));
    let fit = fit.expect("a schedule").with_micro_batches(parts).expect("1 or more");
    let fit = fit.with_average(Average::new(0.75).with_buffers()).expect("an average");
    let fit = match clip {
        true => fit.with_clipping(0.5).expect("a norm"),
        false => fit,
    };
    let scale = LossScale::Dynamic {
        init_scale: 2f32.powi(19),
        growth_factor: 2.0,
        backoff_factor: 0.5,
        growth_interval: 1,
    };
    fit.with_loss_scale(scale).expect("a scale")
}

/// All tensors of a training as bytes: parameters, moments and averages.
fn tensors<M: Module>(fit: &mut Trainer<M>) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::TempDir::new().expect("a folder");
    checkpoint::save(fit, &Progress::default(), folder.path()).expect("saved");
    let bytes = std::fs::read(folder.path().join(TRAINING_FILE)).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("tensors");
    // The sum is also of what is no tensor.
    let tensors = file.tensors().into_iter().filter(|(name, _)| name != "checksum");
    let mut all: Vec<(String, Vec<u8>)> =
        tensors.map(|(name, view)| (name, view.data().to_vec())).collect();
    all.sort();
    all
}

fn state<M: Module>(fit: &mut Trainer<M>) -> TrainingState {
    fit.training_state().expect("a device")
}

const STEPS: u64 = 8;

/// A training that is looked at after each step: its states, and its tensors in the end.
fn looked_at(mut fit: Trainer<SimpleNet>) -> (Vec<TrainingState>, Vec<(String, Vec<u8>)>) {
    let mut states = Vec::new();
    let mut before = tensors(&mut fit);
    for step in 0..STEPS {
        let (x, y) = batch(step);
        let overflow = fit.step(&x, &y).expect("a step").overflow().expect("a number");
        let after = tensors(&mut fit);
        assert_eq!(before == after, overflow.is_some(), "step {step}");
        before = after;
        states.push(state(&mut fit));
    }
    (states, before)
}

#[test]
fn updates_are_skipped_as_on_the_cpu_captured_or_not() {
    let driver = driver();
    let adam: Optimizer = Adam::new(1e-3).into();
    let sgd: Optimizer = Sgd::new(0.01).momentum(0.9).into();
    for (optimizer, parts, clip) in [(adam, 1, true), (sgd, 1, false), (adam, 3, false)] {
        let make = |device: Device| trainer(device, optimizer, parts, clip);
        let (states, last) = looked_at(make(gpu()));
        let scales: Vec<f32> = states.iter().map(|state| state.loss_scale.log2()).collect();
        assert_eq!(scales, [20.0, 21.0, 20.0, 21.0, 20.0, 21.0, 20.0, 21.0]);
        let counts: Vec<[u32; 2]> =
            states.iter().map(|state| [state.updates, state.skipped]).collect();
        assert_eq!(counts[2..], [[2, 1], [3, 1], [3, 2], [4, 2], [4, 3], [5, 3]]);
        assert!(looked_at(make(eager_gpu())) == (states.clone(), last.clone()));
        assert_eq!(looked_at(make(cpu())).0, states);
        // A host that asks for nothing runs up to four steps ahead, and gives rates for each number of
        // updates that may have been skipped: the device chooses.
        for device in [gpu(), eager_gpu()] {
            let mut fit = make(device);
            for step in 0..STEPS {
                let (x, y) = batch(step);
                fit.step(&x, &y).expect("a step");
            }
            assert!(tensors(&mut fit) == last, "{parts} parts");
            assert_eq!(state(&mut fit), states[states.len() - 1]);
            assert_eq!(fit.rate(), Schedule::one_cycle(0.02, 40).rate(0.001, 5));
        }
    }
    driver.assert_clean();
}

#[test]
fn a_scaled_training_is_resumed_at_any_step() {
    let driver = driver();
    let make = |device: Device| trainer(device, Adam::new(1e-3).into(), 1, false);
    for devices in [[gpu as fn() -> Device, eager_gpu], [eager_gpu, gpu], [cpu, cpu]] {
        let (states, last) = looked_at(make(devices[0]()));
        for stop in 1..STEPS - 1 {
            let folder = tempfile::TempDir::new().expect("a folder");
            let mut first = make(devices[0]());
            for step in 0..stop {
                let (x, y) = batch(step);
                first.step(&x, &y).expect("a step");
            }
            checkpoint::save(&mut first, &Progress::default(), folder.path()).expect("saved");
            let mut second = make(devices[1]());
            checkpoint::load(&mut second, folder.path()).expect("loaded");
            assert_eq!(state(&mut second), states[stop as usize - 1]);
            for step in stop..STEPS {
                let (x, y) = batch(step);
                second.step(&x, &y).expect("a step");
            }
            assert!(tensors(&mut second) == last, "from step {stop}");
            assert_eq!(state(&mut second), states[states.len() - 1]);
        }
    }
    driver.assert_clean();
}

struct Normalised(Linear, BatchNorm, Linear);

impl Module for Normalised {
    fn forward(&self, x: &Var) -> Var {
        self.2.forward(&self.1.forward(&self.0.forward(x)).relu())
    }
}

/// Losses of which no kernel knows the scale by itself, frozen parameters and averages of state.
#[test]
fn any_loss_is_scaled_and_all_averages_are_skipped() {
    let driver = driver();
    let run = |device: Device| {
        let make = |p: &Scope| {
            let fc1 = Linear::new(&p.at("fc1"), 31, 12);
            Normalised(fc1, BatchNorm::new(&p.at("norm"), 12), Linear::new(&p.at("fc2"), 12, 5))
        };
        let net = Net::new(device.with_precision(Precision::F16), Seed(7), make);
        let fit = Trainer::new(net.expect("a network"), Mse::default(), Sgd::new(0.01));
        let fit = fit.expect("a trainer").with_average(Average::new(0.5).with_buffers());
        let scale = LossScale::Dynamic {
            init_scale: 2f32.powi(30),
            growth_factor: 4.0,
            backoff_factor: 0.0625,
            growth_interval: 3,
        };
        let mut fit = fit.expect("an average").with_loss_scale(scale).expect("a scale");
        fit.freeze("fc1.*").expect("its name");
        let mut seen = Vec::new();
        for step in 0..7 {
            let before = tensors(&mut fit);
            let (x, y) = (numbers(step, [18, 31]), numbers(step + 50, [18, 5]));
            let loss = fit.step(&x, &y).expect("a step");
            let is_skipped = loss.overflow().expect("a number").is_some();
            // Running statistics follow each pass, as PyTorch's; their averages do not.
            let of_updates = |all: Vec<(String, Vec<u8>)>| -> Vec<(String, Vec<u8>)> {
                all.into_iter().filter(|(name, _)| !name.starts_with("value.norm.")).collect()
            };
            assert_eq!(of_updates(before) == of_updates(tensors(&mut fit)), is_skipped);
            let state = state(&mut fit);
            seen.push((state.loss_scale.log2(), state.growth, state.updates, state.skipped));
        }
        assert!(seen[6].3 > 0 && seen[6].2 > 2, "{seen:?}");
        seen
    };
    let seen = run(cpu());
    assert_eq!(run(gpu()), seen);
    assert_eq!(run(eager_gpu()), seen);
    driver.assert_clean();
}

/// A gradient beside those of the whole step: what is stored is scaled, what is told is not.
#[test]
fn gradients_are_told_without_their_scale() {
    let driver = driver();
    let gradients = |device: Device, scale: LossScale| {
        let net = Net::new(device, Seed(7), |p| SimpleNet::new(p, 31, 33, 10, 0.5));
        let net = net.expect("a network");
        let fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1)).expect("a trainer");
        let mut fit = fit.with_loss_scale(scale).expect("a scale");
        let (x, y) = batch(0);
        fit.gradients(&x, &y).expect("a pass")
    };
    for device in [gpu(), cpu()] {
        let plain = gradients(device.clone(), LossScale::Off);
        // A power of two rounds nothing in f32.
        assert_eq!(gradients(device, LossScale::Static(4096.0)), plain);
    }
    driver.assert_clean();
}
