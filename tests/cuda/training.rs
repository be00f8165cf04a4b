// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole training steps: against the CPU, captured against issued, in every order.

use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::{Device, Net, Seed, Tensor, Trainer};

use crate::common::*;

struct Trained {
    losses: Vec<f32>,
    parameters: Vec<(String, Tensor)>,
}

/// `steps` steps of a SimpleNet of odd sizes on the same few batches.
fn train(device: Device, optimizer: Optimizer, steps: usize) -> Trained {
    let (inputs, hidden, classes, batch) = (31, 33, 10, 17);
    let net = Net::new(device, Seed(7), |p| SimpleNet::new(p, inputs, hidden, classes, 0.5));
    let net = net.expect("a network");
    let mut fit = Trainer::new(net, CrossEntropy::default(), optimizer).expect("a trainer");
    let mut losses = Vec::new();
    for step in 0..steps {
        let x = numbers(step as u64 % 3, [batch, inputs]);
        let y = labels(step as u64 % 3, batch, classes);
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

#[test]
fn steps_follow_the_cpu() {
    let simulator = simulator();
    for optimizer in [Sgd::new(0.1).into(), Adam::new(1e-2).into()] {
        let optimizer: Optimizer = optimizer;
        let got = train(gpu(), optimizer.clone(), 5);
        let reference = train(cpu(), optimizer, 5);
        for (got, reference) in got.losses.iter().zip(&reference.losses) {
            assert!((got - reference).abs() < 1e-4 * reference.abs(), "{got}, {reference}");
        }
        for ((name, got), (_, reference)) in got.parameters.iter().zip(&reference.parameters) {
            assert_close(name, got, reference, 2e-4);
        }
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}
