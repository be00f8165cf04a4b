// SPDX-License-Identifier: MIT OR Apache-2.0
//! What plans hold on a device: one arena for all of them, and what is freed when one goes.

use std::num::NonZeroUsize;

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::loss::{CrossEntropy, Mse};
use kiln::models::SimpleNet;
use kiln::nn::{Linear, Module, Scope};
use kiln::optim::Adam;
use kiln::plan::Plan;
use kiln::timed::StepClock;
use kiln::{Device, Net, Precision, Seed, StepLoss, Tensor, Trainer, Var};

use crate::common::*;

fn net() -> Net<SimpleNet> {
    Net::new(gpu(), Seed(7), |p| SimpleNet::new(p, 31, 33, 10, 0.5)).expect("a network")
}

fn trainer() -> Trainer<SimpleNet> {
    Trainer::new(net(), CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer")
}

fn batch(samples: usize) -> (Tensor, Tensor) {
    (numbers(samples as u64, [samples, 31]), labels(samples as u64, samples, 10))
}

fn step(fit: &mut Trainer<SimpleNet>, samples: usize) -> StepLoss {
    let (x, y) = batch(samples);
    fit.step(&x, &y).expect("a step")
}

#[test]
fn device_memory_does_not_grow_with_the_batch_sizes_seen() {
    let Some(simulator) = simulator() else { return };
    let mut fit = trainer();
    fit.net().keep_plans(NonZeroUsize::new(4).expect("not 0"));
    step(&mut fit, 64).value().expect("a loss");
    for samples in 60..64 {
        step(&mut fit, samples).value().expect("a loss");
    }
    let full = simulator.counters();
    for samples in 2..60 {
        step(&mut fit, samples).value().expect("a loss");
    }
    let now = simulator.counters();
    assert_eq!(now.live_allocations, full.live_allocations);
    assert!(now.live_bytes <= full.live_bytes, "{} of {}", now.live_bytes, full.live_bytes);
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}

/// From one step to the next, behind steps that were captured: all that is left out is the capture.
#[test]
fn steps_are_timed_by_events_of_the_device() {
    let driver = driver();
    let losses = |timed_from: usize| {
        let mut fit = trainer();
        let losses: Vec<f32> = (0..6)
            .map(|number| {
                if number == timed_from {
                    fit.net().time_steps().expect("a clock");
                }
                step(&mut fit, 8).value().expect("a loss")
            })
            .collect();
        (losses, fit)
    };
    let (expected, _) = losses(usize::MAX);
    driver.take_graph_launches();
    let (found, mut fit) = losses(3);
    assert_eq!(found, expected);
    assert!(driver.take_graph_launches().is_none_or(|launches| launches == 2), "before timing");
    let timed = fit.net().timed_plans();
    let [timed] = &timed[..] else { panic!("{} plans", timed.len()) };
    let is_simulated = driver.simulator().is_some();
    let expected = if is_simulated { StepClock::Simulated } else { StepClock::Device };
    assert_eq!((timed.runs, timed.clock), (2, expected), "the first is left out");
    assert_eq!(timed.spans.len(), 2 * timed.plan.steps.len());
    assert!(timed.steps.iter().all(|step| *step <= timed.whole), "{:?}", timed.steps);
    assert!(timed.spans.iter().all(|span| span.length <= timed.whole));
    driver.assert_clean();
}

/// Steps of growing batches, none waited for: each moves the arena away from programs that were
/// captured for it, and from a step that may still run.
#[test]
fn an_arena_moves_when_what_was_issued_in_it_is_done() {
    let driver = driver();
    let sizes = [3, 3, 3, 8, 3, 8, 8, 40, 3, 3, 8, 8, 40, 40];
    let mut fit = trainer();
    let apart: Vec<f32> =
        sizes.iter().map(|&s| step(&mut fit, s).value().expect("a loss")).collect();
    let mut eager = Trainer::new(
        Net::new(eager_gpu(), Seed(7), |p| SimpleNet::new(p, 31, 33, 10, 0.5)).expect("a network"),
        CrossEntropy::default(),
        Adam::new(1e-2),
    )
    .expect("a trainer");
    let mut fit = trainer();
    let issued: Vec<StepLoss> = sizes.iter().map(|&samples| step(&mut fit, samples)).collect();
    let ahead: Vec<f32> = issued.iter().map(|loss| loss.value().expect("a loss")).collect();
    assert_eq!(ahead, apart);
    let eager: Vec<f32> =
        sizes.iter().map(|&samples| step(&mut eager, samples).value().expect("a loss")).collect();
    assert_eq!(ahead, eager, "captured and not");
    driver.assert_clean();
}

#[test]
fn arenas_that_move_are_ordered_with_what_runs() {
    let Some(simulator) = simulator() else { return };
    simulator.set_mode(Mode::Checked);
    for seed in 0..3 {
        simulator.set_stream_order(StreamOrder::Random);
        simulator.set_seed(seed);
        let mut fit = trainer();
        fit.net().keep_plans(NonZeroUsize::new(2).expect("not 0"));
        let issued: Vec<StepLoss> =
            [3, 3, 3, 8, 3, 12].iter().map(|&samples| step(&mut fit, samples)).collect();
        assert!(issued.iter().all(|loss| loss.value().is_ok()));
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}

/// There is room for the larger arena, but not for both.
#[test]
fn an_arena_grows_where_the_larger_one_fits_only_alone() {
    let Some(simulator) = simulator() else { return };
    simulator.set_memory(8 << 20);
    let mut net = net();
    let mut pass = |samples| net.eval().forward(&numbers(1, [samples, 31]));
    let small = pass(16).expect("a pass");
    let used = simulator.counters().live_bytes;
    // Input, two hidden layers and scores of a sample, and as much again where inputs are staged.
    let most = ((8 << 20) - used) / 2 / (4 * (31 + 33));
    let half = most as usize * 6 / 10;
    pass(half).expect("a pass");
    pass(half + 256).expect("a pass");
    let error = pass(200 * half).expect_err("more than the device has").to_string();
    assert!(error.contains("out of memory"), "{error}");
    assert_eq!(pass(16).expect("a pass"), small);
}

struct Wide([Linear; 3]);

impl Module for Wide {
    fn forward(&self, x: &Var) -> Var {
        self.0.iter().fold(x.clone(), |x, layer| layer.forward(&x).relu())
    }
}

/// Names, lanes and launches of the steps of a plan on paper that compute gradients of layers.
fn gradients(plan: &Plan, precision: Precision) -> Vec<(&'static str, usize, Vec<String>)> {
    let work = work(plan, Architecture::SM_90, precision).expect("the plan's work");
    let steps = plan.steps.iter().zip(work.steps).map(|(step, items)| {
        let kernels = items.into_iter().filter_map(|item| match item {
            WorkItem::Launch(launch) => Some(launch.kernel),
            _ => None,
        });
        (step.kernel.name(), step.lane.index(), kernels.collect())
    });
    steps.filter(|(name, ..)| name.ends_with("gradient") || name.ends_with("gradients")).collect()
}

/// A layer that keeps the device busy alone waits for no other, and its gradient's factors are free early.
#[test]
fn weight_gradients_of_large_layers_begin_as_soon_as_they_can() {
    let plan = |width: usize| {
        let make = |p: &Scope| Wide(["a", "b", "c"].map(|n| Linear::new(&p.at(n), width, width)));
        let net =
            Net::new(Device::on_paper(Architecture::SM_90), Seed(7), make).expect("a network");
        let mut fit = Trainer::new(net, Mse::default(), Adam::new(1e-3)).expect("a trainer");
        let batch = Tensor::zeros([256, width]).ty();
        fit.plan(&batch, &batch).expect("a plan").clone()
    };
    let small = gradients(&plan(256), Precision::F32);
    let names: Vec<&str> = small.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        names,
        ["linear_input_gradient", "linear_input_gradient", "linear_weight_gradients"]
    );
    let large = plan(1536);
    let found = gradients(&large, Precision::F32);
    let of_weights = found.iter().filter(|(name, ..)| *name == "linear_weight_gradients");
    assert_eq!(of_weights.clone().count(), 3);
    let last_input = found.iter().rposition(|(name, ..)| *name == "linear_input_gradient");
    let first = found.iter().position(|(name, ..)| *name == "linear_weight_gradients");
    assert!(first < last_input, "{found:?}");
    let lanes = |wanted: &str| -> Vec<usize> {
        found.iter().filter(|(name, ..)| *name == wanted).map(|(_, lane, _)| *lane).collect()
    };
    let chain = lanes("linear_input_gradient").pop();
    assert!(lanes("linear_weight_gradients").iter().any(|lane| Some(*lane) != chain), "{found:?}");
}

/// The gradient of ten rows has elements to guard, those of the other layers have not.
#[test]
fn small_layers_leave_no_other_to_kernels_that_guard() {
    for precision in [Precision::Tf32, Precision::Bf16, Precision::F16] {
        let device = Device::on_paper(Architecture::SM_90).with_precision(precision);
        let make = |p: &Scope| SimpleNet::new(p, 784, 512, 10, 0.5);
        let net = Net::new(device, Seed(7), make).expect("a network");
        let mut fit =
            Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3)).expect("a trainer");
        let (x, y) = (Tensor::zeros([256, 784]).ty(), labels(1, 256, 10).ty());
        let found = gradients(fit.plan(&x, &y).expect("a plan"), precision);
        let of_weights = found.iter().filter(|(name, ..)| *name == "linear_weight_gradients");
        let kernels: Vec<&String> = of_weights.flat_map(|(.., kernels)| kernels).collect();
        let guarded = kernels.iter().filter(|kernel| kernel.ends_with("_any")).count();
        assert_eq!((kernels.len(), guarded), (2, 1), "{kernels:?}");
    }
}
