// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks in several threads on one device: what one thread captures, allocates or drops changes nothing for the
//! others.

use std::thread;

use kiln::loss::CrossEntropy;
use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::optim::Adam;
use kiln::{Device, Net, Seed, Tensor, Trainer, Var};

use crate::common::*;

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

/// Losses and a parameter after six steps.
fn train(device: Device, seed: u64) -> (Vec<f32>, Tensor) {
    let net = Net::new(device, Seed(seed), Small::new).expect("a network");
    let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer");
    let step = |number| {
        let (x, y) = (numbers(seed + number, [8, 16]), labels(seed + number, 8, 4));
        fit.step(&x, &y).expect("a step").value().expect("a loss")
    };
    let losses = (0..6).map(step).collect();
    (losses, fit.net().parameter("fc1.weight").expect("a value"))
}

#[test]
fn networks_in_eight_threads_are_those_made_one_after_another() {
    let _driver = driver();
    let start = std::time::Instant::now();
    let expected: Vec<_> = (0..50).map(|seed| train(gpu(), seed)).collect();
    eprintln!("{:?}", start.elapsed());
    thread::scope(|scope| {
        for first in 0..8 {
            let expected = &expected;
            scope.spawn(move || {
                for seed in (0..50).map(|seed| (seed + 6 * first) % 50) {
                    assert_eq!(train(gpu(), seed), expected[seed as usize], "seed {seed}");
                }
            });
        }
    });
}
