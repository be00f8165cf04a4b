// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batches without samples: what a data set that is divided evenly may end with.

use kiln::loss::{CrossEntropy, Mse};
use kiln::nn::Module;
use kiln::optim::Sgd;
use kiln::{Net, Shape, Tensor, Trainer};

use crate::common::targets::targets;
use crate::common::zoo::{layers, losses};

fn without_samples(shape: &Shape) -> Shape {
    shape.with_samples(0)
}

/// Every layer gives as little as it takes, in every mode, and no gradient.
#[test]
fn layers_take_batches_without_samples() {
    for target in targets() {
        for layer in layers() {
            let what = format!("{} on {}", layer.label(), target.name);
            let mut net = layer.net(target.device(), 0.5);
            let full = net.eval().forward(&layer.x()).expect("a pass");
            let x = Tensor::zeros(without_samples(layer.x().shape()));
            let expected = without_samples(full.shape());
            let check = |y: kiln::Result<Tensor>, mode: &str, shape: &Shape| {
                let y = y.unwrap_or_else(|error| panic!("{what}, {mode}: {error}"));
                assert_eq!(y.shape(), shape, "{what}, {mode}");
            };
            check(net.eval().forward(&x), "eval", &expected);
            check(net.train().forward(&x), "train", &expected);
            let mut dims = vec![3];
            dims.extend(expected.dims());
            let mut drawn = layer.behind_dropout(target.device(), 0.5);
            check(drawn.monte_carlo(3).forward(&x), "monte carlo", &dims.into());
            check_gradients(&mut net, &x, &Tensor::zeros(expected), &what);
        }
    }
}

fn check_gradients(net: &mut Net<Box<dyn Module>>, x: &Tensor, dy: &Tensor, what: &str) {
    let found = net.train().gradients(x, dy);
    let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(found.input.expect("a gradient").shape(), x.shape(), "{what}");
    for (name, gradient) in found.parameters {
        // The mean over nothing that `arithmetic` subtracts has no gradient to give either.
        let zero = gradient.values().expect("f32").iter().all(|&g| g == 0.0);
        assert!(zero, "{what}: gradient of {name}");
    }
}

/// Extents of 0 behind the first are as empty.
#[test]
fn layers_take_samples_without_elements() {
    for target in targets() {
        for layer in layers().iter().filter(|layer| layer.input.len() == 2) {
            let takes_any = ["relu", "leaky_relu", "gelu", "tanh", "sigmoid", "silu", "dropout"];
            if !takes_any.contains(&layer.name) {
                continue;
            }
            let (mut net, x) = (layer.net(target.device(), 0.5), Tensor::zeros([3, 0]));
            for _ in 0..2 {
                let y = net.train().forward(&x);
                let y = y.unwrap_or_else(|error| panic!("{} {error}", layer.label()));
                assert_eq!(y.shape().dims(), [3, 0]);
                let found = net.eval().gradients(&x, &y);
                let found = found.unwrap_or_else(|error| panic!("{} {error}", layer.label()));
                assert_eq!(found.input.expect("a gradient").shape().dims(), [3, 0]);
            }
        }
    }
}

/// A mean over nothing is NaN and a sum is 0, as in PyTorch.
#[test]
fn losses_of_no_samples() {
    for target in targets() {
        for case in losses() {
            let what = format!("{} on {}", case.label(), target.name);
            let make = |p: &kiln::nn::Scope| kiln::nn::Linear::new(p, 3, case.scores[1]);
            let mut net = Net::new(target.device(), kiln::Seed(1), make).expect("a network");
            let x = Tensor::zeros([0, 3]);
            let full = case.target();
            let empty = without_samples(full.shape());
            let labels = match full.integers() {
                Ok(_) => Tensor::labels(empty, vec![]).expect("no labels"),
                Err(_) => Tensor::zeros(empty),
            };
            let loss = net.eval().loss(&case.loss, &x, &labels);
            let loss = loss.unwrap_or_else(|error| panic!("{what}: {error}"));
            let value = loss.item().expect("one number");
            let is_mean = case.label().contains("Mean");
            assert!(if is_mean { value.is_nan() } else { value == 0.0 }, "{what}: {value}");
        }
    }
}

/// There is nothing to learn from, and a mean would be NaN.
#[test]
fn steps_refuse_batches_without_samples() {
    let labels = |count: usize| Tensor::labels([count], vec![0; count]).expect("labels");
    for target in targets() {
        let make = |p: &kiln::nn::Scope| kiln::nn::Linear::new(p, 3, 2);
        let net = || Net::new(target.device(), kiln::Seed(1), make).expect("a network");
        let mut classes =
            Trainer::new(net(), CrossEntropy::default(), Sgd::new(0.1)).expect("a trainer");
        let mut numbers = Trainer::new(net(), Mse::default(), Sgd::new(0.1)).expect("a trainer");
        let message = "step: expected a batch of one sample or more, got [0, 3]";
        for round in 0..2 {
            let error = classes.step(&Tensor::zeros([0, 3]), &labels(0)).unwrap_err();
            assert_eq!(error.to_string(), message, "{}", target.name);
            let error = numbers.step(&Tensor::zeros([0, 3]), &Tensor::zeros([0, 2])).unwrap_err();
            assert_eq!(error.to_string(), message, "{}", target.name);
            // The next batch trains as if nothing had been.
            let loss = classes.step(&Tensor::zeros([4, 3]), &labels(4)).expect("a step");
            assert!(loss.value().expect("a loss").is_finite());
            assert_eq!((classes.updates(), classes.net().pass()), (round + 1, round as u32 + 1));
        }
    }
}
