// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks in several threads on one device: what one thread captures, allocates or drops changes
//! nothing for the others. Each thread makes its own.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use kiln::loss::CrossEntropy;
use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::optim::Adam;
use kiln::{Net, Result, Seed, Tensor, Trainer, Var};

use crate::common::*;

/// Two layers with dropout between them.
struct Small {
    fc1: Linear,
    dropout: Dropout,
    fc2: Linear,
}

impl Small {
    fn new(p: &Scope) -> Self {
        Small {
            fc1: Linear::new(&p.at("fc1"), 16, 32),
            dropout: Dropout::new(&p.at("dropout"), 0.5),
            fc2: Linear::new(&p.at("fc2"), 32, 4),
        }
    }
}

impl Module for Small {
    fn forward(&self, x: &Var) -> Var {
        self.fc2.forward(&self.dropout.forward(&self.fc1.forward(x).relu()))
    }
}

/// Sizes of batches to predict for.
const ROWS: [usize; 5] = [3, 1, 4, 8, 5];
const BATCHES: u64 = ROWS.len() as u64;

fn small(seed: u64) -> Result<Net<Small>> {
    Net::new(gpu(), Seed(seed), Small::new)
}

/// Losses of the first steps, and what the second layer's weight became.
fn train(seed: u64, steps: u64) -> Result<(Vec<f32>, Tensor)> {
    let mut fit = Trainer::new(small(seed)?, CrossEntropy::default(), Adam::new(1e-2))?;
    let mut losses = Vec::new();
    for step in seed..seed + steps {
        losses.push(fit.step(&numbers(step, [8, 16]), &labels(step, 8, 4))?.value()?);
    }
    Ok((losses, fit.net().parameter("fc2.weight")?))
}

/// Scores for batches of several sizes, each a plan that is issued and captured; those for which no
/// later one makes the arena grow are replayed too.
fn predict(net: &mut Net<Small>) -> Result<Vec<Tensor>> {
    let batches = ROWS.map(|rows| numbers(rows as u64, [rows, 16]));
    let mut scores = Vec::new();
    for batch in (0..3).flat_map(|_| &batches) {
        scores.push(net.eval().forward(batch)?);
    }
    Ok(scores)
}

/// Every order of streams, and time for the other threads within every capture.
fn unsettle(driver: &Driver, seed: u64) {
    let Some(simulator) = driver.simulator() else { return };
    simulator.set_stream_order(StreamOrder::Random);
    simulator.set_seed(seed);
    simulator.set_capture_pause(Duration::from_millis(1));
    simulator.clear_counters();
}

/// Fails if a thread did what reaches the whole device while another captured, or if there was too
/// little to disturb: graphs that were launched.
fn assert_undisturbed(driver: &Driver, graphs: u64) {
    driver.assert_clean();
    let Some(simulator) = driver.simulator() else { return };
    let counters = simulator.counters();
    assert_eq!(counters.calls_beside_captures, 0);
    assert!(counters.graph_launches >= graphs, "{} graphs", counters.graph_launches);
}

#[test]
fn networks_in_eight_threads_are_those_made_one_after_another() {
    const NETS: u64 = 50;
    let driver = driver();
    let expected: Vec<_> = (0..NETS).map(|seed| train(seed, 6).expect("a network")).collect();
    unsettle(&driver, 1);
    thread::scope(|scope| {
        for first in (0..8).map(|thread| thread * NETS / 8) {
            let expected = &expected;
            scope.spawn(move || {
                for seed in (first..NETS).chain(0..first) {
                    let got = train(seed, 6).unwrap_or_else(|error| panic!("{seed}: {error}"));
                    assert_eq!(got, expected[seed as usize], "{seed}");
                }
            });
        }
    });
    assert_undisturbed(&driver, 8 * NETS * 5);
}

#[test]
fn one_thread_trains_while_four_predict() {
    let driver = driver();
    let trained = train(7, 40).expect("a network");
    let scores = predict(&mut small(3).expect("a network")).expect("scores");
    for seed in 0..3 {
        unsettle(&driver, seed);
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(train(7, 40).expect("a network"), trained));
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        let mut net = small(3).expect("a network");
                        assert_eq!(predict(&mut net).expect("scores"), scores);
                    }
                });
            }
        });
        assert_undisturbed(&driver, 39 + 4 * 3 * BATCHES);
    }
}

#[test]
fn a_network_is_dropped_in_one_thread_while_another_captures() {
    let driver = driver();
    let scores = predict(&mut small(3).expect("a network")).expect("scores");
    for seed in 0..3 {
        unsettle(&driver, seed);
        let both = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let make = |seed| {
                    let mut net = small(seed).expect("a network");
                    predict(&mut net).expect("scores");
                    net
                };
                let nets: Vec<_> = (0..16).map(make).collect();
                both.wait();
                for net in nets {
                    drop(net);
                    thread::sleep(Duration::from_micros(500));
                }
            });
            scope.spawn(|| {
                both.wait();
                for _ in 0..4 {
                    let mut net = small(3).expect("a network");
                    assert_eq!(predict(&mut net).expect("scores"), scores);
                }
            });
        });
        assert_undisturbed(&driver, 20 * BATCHES);
    }
}

/// Nobody waits for a thread whose capture failed, every thread is told why, and when all have let
/// go of the device it can be opened anew.
#[test]
fn a_device_lost_while_a_capture_is_on_is_an_error_in_every_thread() {
    const SOON: Duration = Duration::from_secs(120);
    let Some(simulator) = simulator() else { return };
    let expected = train(1, 6).expect("a network");
    for seed in 0..4 {
        simulator.set_stream_order(StreamOrder::Random);
        simulator.set_seed(seed);
        simulator.set_capture_pause(Duration::from_millis(1));
        let user = small(1).expect("a network"); // a lost device is lost while anybody has it
        let (ended, errors) = channel();
        let goes_on = Arc::new(Barrier::new(5));
        for thread in 0..4 {
            let (ended, goes_on) = (ended.clone(), goes_on.clone());
            thread::spawn(move || {
                let mut error = (0..3).find_map(|round| train(100 * thread + round, 6).err());
                ended.send(error.map(|error| error.to_string())).ok();
                goes_on.wait();
                error = (3..).find_map(|round| train(100 * thread + round, 6).err());
                ended.send(error.map(|error| error.to_string())).ok();
            });
        }
        drop(ended);
        for _ in 0..4 {
            assert_eq!(errors.recv_timeout(SOON).expect("no thread hangs"), None);
        }
        simulator.inject_error_in_capture(700);
        goes_on.wait();
        for _ in 0..4 {
            let error = errors.recv_timeout(SOON).expect("no thread hangs");
            let text = error.expect("the device is lost");
            assert!(text.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{text}");
        }
        assert!(errors.recv().is_err(), "every thread has ended");
        drop(user);
        assert_eq!(train(1, 6).expect("the device works again"), expected);
        assert_eq!(simulator.counters().calls_beside_captures, 0);
    }
}
