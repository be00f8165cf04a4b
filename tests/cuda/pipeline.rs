// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps are issued ahead of the device: inputs go up and losses come down beside the work. The
//! simulated device works only while the host waits for it, so what is counted is what was waited
//! for.

use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::Adam;
use kiln::{Net, Seed, StepLoss, Trainer};

use crate::common::*;

/// Launches of a step with Adam.
const LAUNCHES: u64 = 7;

fn trainer() -> Trainer<SimpleNet> {
    let net = Net::new(gpu(), Seed(7), |p| SimpleNet::new(p, 31, 33, 10, 0.5)).expect("a network");
    Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer")
}

fn step(fit: &mut Trainer<SimpleNet>, number: u64) -> StepLoss {
    fit.step(&numbers(number, [16, 31]), &labels(number, 16, 10)).expect("a step")
}

/// Issued, captured, replayed: from then on every step is the same.
fn warm() -> (Trainer<SimpleNet>, Vec<f32>) {
    let mut fit = trainer();
    let losses = (0..4).map(|number| step(&mut fit, number).value().expect("a loss")).collect();
    (fit, losses)
}

#[test]
fn a_loss_is_waited_for_when_it_is_read() {
    let Some(simulator) = simulator() else { return };
    let (mut fit, _) = warm();
    simulator.clear_counters();
    let loss = step(&mut fit, 4);
    assert_eq!(simulator.counters().launches, 0, "the step waited for the device");
    assert!(loss.value().expect("a loss") > 0.0);
    assert_eq!(simulator.counters().launches, LAUNCHES);
    assert_eq!(loss.value().expect("a loss").to_bits(), loss.value().expect("a loss").to_bits());
    assert_eq!(simulator.counters().launches, LAUNCHES);
}

/// The third step fills the pinned memory of the first again, and so waits for its upload; that
/// needs no kernel to have run.
#[test]
fn the_next_batches_go_up_while_a_step_runs() {
    let Some(simulator) = simulator() else { return };
    let (mut fit, _) = warm();
    simulator.clear_counters();
    let losses: Vec<StepLoss> = (4..8).map(|number| step(&mut fit, number)).collect();
    let counters = simulator.counters();
    assert_eq!(counters.launches, 0, "an upload waited for a step");
    assert_eq!(counters.copies, 2, "uploads of the first two steps");
    assert_eq!(counters.allocations, 0);
    assert!(losses.iter().all(|loss| loss.value().is_ok()));
    assert_eq!(simulator.counters().launches, 4 * LAUNCHES);
}

/// What the host gives and the batch go up in one copy, and to the arena in another; loss and norm come down in one.
#[test]
fn a_step_makes_three_copies() {
    let Some(simulator) = simulator() else { return };
    let mut fit = trainer().with_clipping(0.5).expect("a norm");
    for number in 0..4 {
        step(&mut fit, number).value().expect("a loss");
    }
    simulator.clear_counters();
    let loss = step(&mut fit, 4);
    assert!(loss.value().expect("a loss") > 0.0);
    assert!(loss.gradient_norm().expect("a norm").is_some_and(|norm| norm > 0.0));
    assert_eq!(simulator.counters().copies, 3);
}

/// Whoever keeps losses keeps numbers: not the scores that a step computed beside them, nor the
/// memory where they arrived.
#[test]
fn kept_losses_hold_no_memory_that_is_pinned() {
    let Some(simulator) = simulator() else { return };
    let (mut fit, _) = warm();
    let mut wide = |number| {
        let (x, y) = (numbers(number, [2048, 31]), labels(number, 2048, 10));
        fit.step(&x, &y).expect("a step")
    };
    let mut kept: Vec<StepLoss> = (0..4).map(&mut wide).collect();
    let before = simulator.counters().pinned_bytes;
    kept.extend((4..60).map(&mut wide));
    let pinned = simulator.counters().pinned_bytes - before;
    // A page for each of the few numbers that are on their way.
    assert!(pinned <= 8 * 4096, "{pinned} bytes for {} losses", kept.len());
    let first: Vec<f32> = kept.iter().map(|loss| loss.value().expect("a loss")).collect();
    assert!(first.iter().all(|loss| *loss > 0.0));
}

/// However far the host runs ahead and in whatever order losses are read, they are the same.
#[test]
fn losses_read_late_are_those_read_at_once() {
    let driver = driver();
    let (mut fit, mut expected) = warm();
    expected.extend((4..12).map(|number| step(&mut fit, number).value().expect("a loss")));
    let mut fit = trainer();
    let issued: Vec<StepLoss> = (0..12).map(|number| step(&mut fit, number)).collect();
    drop(fit);
    let mut got: Vec<f32> = issued.iter().rev().map(|loss| loss.value().expect("a loss")).collect();
    got.reverse();
    assert_eq!(got, expected);
    driver.assert_clean();
}

#[test]
fn steps_issued_ahead_are_ordered_by_events() {
    let Some(simulator) = simulator() else { return };
    simulator.set_mode(Mode::Checked);
    let run = || {
        let mut fit = trainer();
        let issued: Vec<StepLoss> = (0..7).map(|number| step(&mut fit, number)).collect();
        issued.iter().map(|loss| loss.value().expect("a loss")).collect::<Vec<f32>>()
    };
    let expected = run();
    for seed in 0..4 {
        simulator.set_stream_order(StreamOrder::Random);
        simulator.set_seed(seed);
        assert_eq!(run(), expected, "{seed}");
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}
