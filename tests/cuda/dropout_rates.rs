// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captured steps drop at the rates of their pass.

use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::nn::{Dropout, DropoutSchedule};
use kiln::optim::Adam;
use kiln::{Device, Net, Seed, Tensor, Trainer};

use crate::common::*;

/// Loss of each step at a rising rate that is set to another in the middle, and the parameters in the end.
fn train(device: Device) -> (Vec<f32>, Vec<Tensor>) {
    let net = Net::new(device, Seed(7), |p| {
        let rising = |_: &str, p| DropoutSchedule::Linear { start: 0.0, end: p, passes: 6 };
        SimpleNet::new(&p.with_dropout_schedule(rising), 31, 33, 10, 0.6)
    });
    let fit = Trainer::new(net.expect("a network"), CrossEntropy::default(), Adam::new(1e-2));
    let mut fit = fit.expect("a trainer");
    let mut losses = Vec::new();
    for step in 0..8 {
        if step == 5 {
            fit.set_dropout_rate("dropout2", 0.1).expect("a rate");
        }
        let (x, y) = (numbers(step, [16, 31]), labels(step, 16, 10));
        losses.push(fit.step(&x, &y).expect("a step").value().expect("a loss"));
    }
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let parameter = |name: &String| net.parameter(name).expect("known by name");
    (losses, names.iter().map(parameter).collect())
}

#[test]
fn a_captured_step_reads_the_rates_of_its_pass() {
    let driver = driver();
    driver.take_graph_launches();
    let captured = train(gpu());
    assert!(driver.take_graph_launches().is_none_or(|launches| launches >= 6));
    assert_eq!(train(eager_gpu()), captured);
    let (losses, parameters) = train(cpu());
    for (got, reference) in captured.0.iter().zip(&losses) {
        assert!((got - reference).abs() < 1e-4, "{got} and {reference}");
    }
    for (index, (got, reference)) in captured.1.iter().zip(&parameters).enumerate() {
        assert_close(&format!("parameter {index}"), got, reference, 1e-3);
    }
    driver.assert_clean();
}

#[test]
fn masks_are_those_of_the_cpu_at_every_rate() {
    let driver = driver();
    let run = |device| {
        let table = DropoutSchedule::Table(vec![(0, 0.0), (1, 0.3), (2, 0.9), (4, 0.5)]);
        let make = |p: &kiln::nn::Scope| Dropout::scheduled(&p.at("drop"), table);
        let mut net = Net::new(device, Seed(7), make).expect("a network");
        let ones = Tensor::new([5, 33], vec![1.0; 5 * 33]).expect("ones");
        (0..6).map(|_| net.train().forward(&ones).expect("a pass")).collect::<Vec<Tensor>>()
    };
    let (got, expected) = (run(gpu()), run(cpu()));
    assert_eq!(got, expected);
    assert!(got[0].values().expect("f32").iter().all(|y| *y == 1.0));
    driver.assert_clean();
}
