// SPDX-License-Identifier: MIT OR Apache-2.0
//! What plans hold on a device: one arena for all of them, and what is freed when one goes.

use std::num::NonZeroUsize;

use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::Adam;
use kiln::timed::StepClock;
use kiln::{Net, Seed, StepLoss, Tensor, Trainer};

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
