// SPDX-License-Identifier: MIT OR Apache-2.0
//! Precisions: what is rounded and what is not, the same on both devices.

use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::nn::{Dropout, Linear};
use kiln::optim::Adam;
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer};

use super::training::accuracy;
use crate::common::*;

const REDUCED: [Precision; 3] = [Precision::Tf32, Precision::Bf16, Precision::F16];

/// Losses and parameters of a few steps.
fn train(device: Device) -> (Vec<f32>, Vec<Tensor>) {
    let net = Net::new(device, Seed(7), |p| SimpleNet::new(p, 31, 40, 10, 0.5)).expect("a network");
    let adam = Adam { eps: 1e-2, ..Adam::new(1e-2) };
    let mut fit = Trainer::new(net, CrossEntropy::default(), adam).expect("a trainer");
    let mut losses = Vec::new();
    for step in 0..6 {
        let (x, y) = (numbers(step % 3, [17, 31]), labels(step % 3, 17, 10));
        losses.push(fit.step(&x, &y).expect("a step").value().expect("a loss"));
    }
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let values = names.iter().map(|name| net.parameter(name).expect("known by name"));
    (losses, values.collect())
}

fn values(tensor: &Tensor) -> &[f32] {
    tensor.values().expect("f32")
}

#[test]
fn training_follows_the_cpu_in_every_precision() {
    let driver = driver();
    for (precision, tolerance) in
        [(Precision::Tf32, 2e-3), (Precision::Bf16, 2e-2), (Precision::F16, 2e-3)]
    {
        let (losses, parameters) = train(gpu().with_precision(precision));
        let (expected, reference) = train(cpu().with_precision(precision));
        for (loss, expected) in losses.iter().zip(&expected) {
            assert!((loss - expected).abs() <= tolerance * expected.abs(), "{precision}: {loss}");
        }
        for (got, reference) in parameters.iter().zip(&reference) {
            assert_close(&precision.to_string(), got, reference, tolerance);
        }
        assert_ne!(losses, train(gpu()).0, "{precision} changes nothing");
    }
    driver.assert_clean();
}

/// Parameters are f32 whatever is multiplied: small updates are not lost.
#[test]
fn master_weights_keep_all_their_bits() {
    let _driver = driver();
    for precision in REDUCED {
        for device in [gpu(), cpu()] {
            let (_, parameters) = train(device.with_precision(precision));
            let kept = |value: &f32| precision.round(*value) != *value;
            assert!(parameters.iter().all(|tensor| values(tensor).iter().any(kept)), "{precision}");
        }
    }
}

/// Activations that a run returns are those that the next layer would have read.
#[test]
fn activations_are_rounded_when_they_are_stored() {
    let _driver = driver();
    for precision in [Precision::Bf16, Precision::F16] {
        for device in [gpu(), cpu()] {
            let make = |p: &kiln::nn::Scope| Linear::new(&p.at("fc"), 33, 31);
            let device = device.with_precision(precision);
            let mut net = Net::new(device, Seed(1), make).expect("a network");
            let y = net.eval().forward(&numbers(1, [5, 33])).expect("a forward pass");
            let rounded = |value: &f32| precision.round(*value) == *value;
            assert!(values(&y).iter().all(rounded), "{precision}");
        }
    }
}

/// A layer that is computed with its loss rounds as one that is not: the loss is that of the scores as
/// they are stored.
#[test]
fn losses_are_those_of_the_scores_that_are_stored() {
    let _driver = driver();
    let (x, y) = (numbers(1, [33, 40]), labels(1, 33, 10));
    for precision in REDUCED {
        for device in [gpu(), cpu()] {
            let make = |p: &kiln::nn::Scope| Linear::new(&p.at("fc"), 40, 10);
            let net = Net::new(device.with_precision(precision), Seed(1), make);
            let mut net = net.expect("a network");
            let loss = CrossEntropy::default();
            let (found, scores) = net.eval().loss_and_output(&loss, &x, &y).expect("a loss");
            let rows = values(&scores).chunks(10).zip(y.integers().expect("labels"));
            let of_row = |(row, label): (&[f32], &i32)| {
                let sum: f64 = row.iter().map(|&score| f64::from(score).exp()).sum();
                sum.ln() - f64::from(row[*label as usize])
            };
            let expected = rows.map(of_row).sum::<f64>() / 33.0;
            let alone = net.eval().loss(&loss, &x, &y).expect("a loss");
            let trained = net.train().loss_gradients(&loss, &x, &y).expect("gradients").output;
            for found in [found, alone, trained] {
                let error = (f64::from(values(&found)[0]) - expected).abs() / expected;
                assert!(error < 1e-6, "{precision}: {found:?}, expected {expected}");
            }
        }
    }
}

#[test]
fn masks_are_the_same_in_every_precision() {
    let _driver = driver();
    let zeros = |device: Device| -> Vec<bool> {
        let make = |p: &kiln::nn::Scope| Dropout::new(&p.at("dropout"), 0.3);
        let mut net = Net::new(device, Seed(1), make).expect("a network");
        let ones = Tensor::new([9, 37], vec![1.0; 9 * 37]).expect("ones");
        let y = net.train().forward(&ones).expect("a forward pass");
        values(&y).iter().map(|&y| y == 0.0).collect()
    };
    let expected = zeros(cpu());
    for precision in REDUCED {
        assert_eq!(zeros(gpu().with_precision(precision)), expected, "{precision}");
        assert_eq!(zeros(cpu().with_precision(precision)), expected, "{precision}");
    }
}

#[test]
fn runs_repeat_captured_or_not() {
    let _driver = driver();
    for precision in REDUCED {
        let captured = train(gpu().with_precision(precision));
        assert_eq!(captured, train(gpu().with_precision(precision)), "{precision}");
        assert_eq!(captured, train(eager_gpu().with_precision(precision)), "{precision}");
    }
}

#[test]
fn sixteen_bits_learn_digits_as_the_cpu_does() {
    let _driver = driver();
    let bf16 = |device: Device| accuracy(device.with_precision(Precision::Bf16));
    let (got, reference) = (bf16(gpu()), bf16(cpu()));
    assert!(reference > 0.85, "the reference learned nothing: {reference}");
    assert!((got - reference).abs() <= 0.01, "{got}, reference {reference}");
}
