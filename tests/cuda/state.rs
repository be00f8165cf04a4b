// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device keeps of a training: it counts updates by itself, and what it says is saved.

use kiln::backend::cuda::{self, Architecture, CopyWay, WorkItem};
use kiln::checkpoint::{self, Progress};
use kiln::loss::{CrossEntropy, Mse};
use kiln::models::SimpleNet;
use kiln::nn::{Init, Linear, Module, Param, Scope};
use kiln::optim::{Adam, AdamW, Optimizer, Schedule, Sgd};
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer, TrainingState, Var};

use crate::common::*;

fn optimizers() -> [Optimizer; 3] {
    [Adam::new(1e-2).into(), AdamW::new(1e-2).into(), Sgd::new(0.1).momentum(0.9).into()]
}

fn trainer(device: Device, optimizer: Optimizer, parts: usize) -> Trainer<SimpleNet> {
    let net = Net::new(device, Seed(7), |p| SimpleNet::new(p, 31, 33, 10, 0.5));
    let fit = Trainer::new(net.expect("a network"), CrossEntropy::default(), optimizer);
    // The momentum, of which corrections are made, differs from step to step.
    let fit = fit.expect("a trainer").with_schedule(Schedule::one_cycle(0.05, 40));
    let fit = fit.expect("a schedule").with_micro_batches(parts).expect("1 or more");
    fit.with_clipping(1.0).expect("a norm")
}

/// Losses of some steps, each on a batch of its own.
fn steps(fit: &mut Trainer<SimpleNet>, numbers_of: std::ops::Range<u64>) -> Vec<f32> {
    let step = |step| {
        let (x, y) = (numbers(step, [18, 31]), labels(step, 18, 10));
        fit.step(&x, &y).expect("a step").value().expect("a loss")
    };
    numbers_of.map(step).collect()
}

fn parameters(fit: &mut Trainer<SimpleNet>) -> Vec<Tensor> {
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    names.iter().map(|name| net.parameter(name).expect("known by name")).collect()
}

fn counted(updates: u32) -> TrainingState {
    TrainingState { updates, ..TrainingState::default() }
}

/// Issued, captured, in parts and resumed half way by either, a training is one and the same, and the
/// device has counted its updates.
#[test]
fn however_it_runs_a_training_has_the_same_bits_and_counts_the_same_updates() {
    let driver = driver();
    for device in [gpu as fn() -> Device, eager_gpu, cpu] {
        for (optimizer, parts) in optimizers().into_iter().flat_map(|o| [(o, 1), (o, 3)]) {
            let mut whole = trainer(device(), optimizer, parts);
            let losses = steps(&mut whole, 0..8);
            assert_eq!(whole.training_state().expect("a device"), counted(8));
            let others: &[fn() -> Device] =
                if device().to_string().starts_with("cpu") { &[cpu] } else { &[gpu, eager_gpu] };
            for other in others {
                let folder = tempfile::TempDir::new().expect("a folder");
                let mut first = trainer(device(), optimizer, parts);
                let mut found = steps(&mut first, 0..4);
                checkpoint::save(&mut first, &Progress::default(), folder.path()).expect("saved");
                let mut second = trainer(other(), optimizer, parts);
                // What it counted before is not what it counts on from.
                steps(&mut second, 20..23);
                checkpoint::load(&mut second, folder.path()).expect("loaded");
                assert_eq!(second.training_state().expect("a device"), counted(4));
                found.extend(steps(&mut second, 4..8));
                assert_eq!(found, losses);
                assert_eq!(second.training_state().expect("a device"), counted(8));
                assert!(parameters(&mut second) == parameters(&mut whole));
            }
        }
    }
    driver.assert_clean();
}

/// Wherever a step fails, a checkpoint says what the device has counted. A capture that fails is no
/// failure: its run is issued.
#[test]
fn a_checkpoint_saves_what_the_device_has_counted() {
    let Some(simulator) = simulator() else { return };
    let mut all = Vec::new();
    for device in [gpu, eager_gpu] {
        let mut seen = Vec::new();
        for before in 0..12 {
            let mut fit = trainer(device(), Adam::new(1e-2).into(), 1);
            steps(&mut fit, 0..1);
            simulator.refuse_launch(before, 701);
            let failed = fit.step(&numbers(1, [18, 31]), &labels(1, 18, 10)).is_err();
            simulator.refuse_launch(u64::MAX, 701);
            let folder = tempfile::TempDir::new().expect("a folder");
            checkpoint::save(&mut fit, &Progress::default(), folder.path()).expect("saved");
            let kept = fit.training_state().expect("a device");
            let mut other = trainer(device(), Adam::new(1e-2).into(), 1);
            checkpoint::load(&mut other, folder.path()).expect("loaded");
            assert_eq!(other.training_state().expect("a device"), kept);
            assert_eq!(other.updates(), fit.updates());
            seen.push((failed, kept.updates));
        }
        // One that has more launches to come has not updated yet.
        let counts = |&(failed, updates): &(bool, u32)| updates == if failed { 1 } else { 2 };
        assert!(seen.iter().all(counts), "{seen:?}");
        assert!(seen.iter().any(|(failed, _)| !failed), "{seen:?}");
        all.extend(seen);
    }
    assert!(all.iter().any(|(failed, _)| *failed), "{all:?}");
}

/// A trainer begins anew, whatever the network was trained for before.
#[test]
fn another_trainer_of_a_network_counts_from_the_first_update() {
    let _driver = driver();
    for device in [gpu(), cpu()] {
        let mut fit = trainer(device, Adam::new(1e-2).into(), 1);
        steps(&mut fit, 0..3);
        let again = Trainer::new(fit.into_net(), CrossEntropy::default(), Adam::new(1e-2));
        let mut again = again.expect("a trainer");
        assert_eq!(again.training_state().expect("a device"), counted(0));
        steps(&mut again, 0..2);
        assert_eq!(again.training_state().expect("a device"), counted(2));
    }
}

/// A layer whose result is weighted element by element: the weights' gradient is copied to its slot.
struct Weighted(Linear, Param);

impl Module for Weighted {
    fn forward(&self, x: &Var) -> Var {
        &self.0.forward(x) * &x.parameter(&self.1)
    }
}

/// Copies are a part of a captured step as launches are, and the plan's work tells of each.
#[test]
fn a_step_copies_what_its_plan_says_captured_or_not() {
    let Some(simulator) = simulator() else { return };
    let run = |device: Device| {
        let make = |p: &Scope| {
            let weights = p.parameter("weights", [5, 4], Init::Uniform { bound: 0.5 });
            Weighted(Linear::new(&p.at("fc"), 6, 4), weights)
        };
        let net = Net::new(device, Seed(7), make).expect("a network");
        let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
        let mut losses = Vec::new();
        let mut copied = 0;
        for step in 0..5 {
            let (x, y) = (numbers(step, [5, 6]), numbers(step + 9, [5, 4]));
            simulator.clear_counters();
            losses.push(fit.step(&x, &y).expect("a step").value().expect("a loss"));
            copied = simulator.counters().copies;
        }
        let (x, y) = (numbers(1, [5, 6]).ty(), numbers(1, [5, 4]).ty());
        let plan = fit.plan(&x, &y).expect("a plan");
        let work = cuda::work(plan, Architecture::SM_90, Precision::F32).expect("work");
        let in_steps: Vec<&WorkItem> = work.steps.iter().flatten().collect();
        assert!(in_steps.contains(&&WorkItem::Copy { way: CopyWay::Within, bytes: 5 * 4 * 4 }));
        let [up, within, down] = work.totals().copies.map(|moved| moved.count);
        assert_eq!((up, within, down), (1, 1 + 1, 1));
        assert_eq!(copied as usize, up + within + down);
        (losses, fit.net().parameter("weights").expect("known by name"))
    };
    assert_eq!(run(gpu()), run(eager_gpu()));
    let (losses, weights) = run(gpu());
    assert_eq!(losses.len(), 5);
    assert!(weights.values().expect("f32").iter().all(|weight| weight.is_finite()));
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}
