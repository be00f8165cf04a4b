// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wrong input by hand: one clear error each, whatever runs.

use kiln::loss::{self, BceWithLogits};
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{Device, Mode, Net, Result, Seed, Tensor, Trainer, Var};

use super::training::both;
use super::{labels, siamese, two_outputs, x, IntegerInput, Siamese, Sums, FEATURES, SAMPLES};
use crate::common::zoo::SEED;

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    }
}

fn pairs() -> Trainer<Siamese, (Var, Var)> {
    Trainer::new(siamese(Device::cpu(), 0.5), BceWithLogits::default(), Sgd::new(0.1)).expect("ok")
}

#[test]
fn too_few_and_too_many() {
    let mut net = siamese(Device::cpu(), 0.5);
    for (count, got) in [(0, "0"), (1, "1"), (3, "3")] {
        let inputs: Vec<Tensor> = (0..count).map(x).collect();
        let expected = format!("inputs: expected 2 tensors, got {got}");
        assert_eq!(message(net.eval().forward(&inputs)), expected);
        assert_eq!(message(net.train().gradients(&inputs, &x(1))), expected);
        assert_eq!(message(net.monte_carlo(2).forward(&inputs)), expected);
        assert_eq!(message(net.predictor().expect("memory").forward(&inputs)), expected);
        assert_eq!(message(pairs().step(&inputs, &x(1))), expected);
        let types = vec![TensorType::f32([SAMPLES, FEATURES].into()); count as usize];
        assert_eq!(message(net.plan(Mode::Eval, &types)), expected);
    }
    let none: [Tensor; 0] = [];
    let error = message(pairs().step((&x(1), &x(2)), &none[..]));
    assert_eq!(error, "targets: expected 1 tensor, got 0");
    let error = message(net.eval().gradients((&x(1), &x(2)), &vec![x(1), x(2)]));
    assert_eq!(error, "gradients: expected 1 tensor, got 2");
    let mut list = Net::new(Device::cpu(), Seed(SEED), Sums::new).expect("a network");
    assert_eq!(
        message(list.eval().forward(&none[..])),
        "forward: expected one input or more, got none"
    );
    let error = message(list.eval().gradients(&vec![x(1), x(2)], &vec![x(1)]));
    assert_eq!(error, "gradients: expected 2 tensors, one for each output, got 1");
}

#[test]
fn unequal_numbers_of_samples() {
    let mut net = siamese(Device::cpu(), 0.5);
    let (few, scalar) = (Tensor::zeros([4, FEATURES]), Tensor::zeros([]));
    let expected = "6 samples in input 1, as in input 0 of shape [6, 7], got [4, 7]";
    let error = message(net.eval().forward((&x(1), &few)));
    assert_eq!(error, format!("forward: expected {expected}"));
    let error = message(net.monte_carlo(2).forward((&x(1), &few)));
    assert_eq!(error, format!("forward: expected {expected}"));
    let error = message(net.train().gradients((&x(1), &few), &few));
    assert_eq!(error, format!("gradients: expected {expected}"));
    let error = message(pairs().step((&x(1), &few), &Tensor::zeros([6, 1])));
    assert_eq!(error, format!("step: expected {expected}"));
    let error = message(pairs().step((&x(1), &x(2)), &Tensor::zeros([5, 1])));
    assert_eq!(
        error,
        "step: expected 6 samples in the target, as in input 0 of shape [6, 7], got [5, 1]"
    );
    let error = message(net.eval().forward((&scalar, &x(1))));
    assert_eq!(error, "forward: expected an extent of samples in input 0, got []");
    let error = message(net.eval().forward((&x(1), &scalar)));
    assert!(error.ends_with("got []"), "{error}");

    let mut fit = Trainer::new(two_outputs(Device::cpu()), both(1.0), Sgd::new(0.1)).expect("ok");
    let error = message(fit.step(&x(1), (&labels(1), &few)));
    assert_eq!(
        error,
        "step: expected 6 samples in target 1, as in the input of shape [6, 7], got [4, 7]"
    );
    let error = message(fit.net().eval().loss(&both(1.0), &x(1), (&labels(1), &few)));
    assert!(error.starts_with("loss: expected 6 samples in target 1"), "{error}");
    let empty = Tensor::zeros([0, FEATURES]);
    let error = message(pairs().step((&empty, &empty), &Tensor::zeros([0, 1])));
    assert_eq!(error, "step: expected a batch of one sample or more, got [0, 7]");
    assert_eq!((fit.updates(), fit.net().pass(), net.pass()), (0, 0, 0));
}

#[test]
fn wrong_types_of_elements() {
    let mut net = Net::new(Device::cpu(), Seed(SEED), IntegerInput::new).expect("a network");
    let error = message(net.eval().forward((&x(1), &Tensor::zeros([SAMPLES]))));
    assert_eq!(error, "nll: expected labels i32[6] for scores of shape [6, 5], got f32[6]");
    let error = message(net.eval().forward((&labels(1), &labels(1))));
    assert!(error.starts_with("fc: linear: expected"), "{error}");
    let counters = Tensor::from_counters([SAMPLES], vec![0; SAMPLES]).expect("as many");
    let error = message(net.eval().forward((&x(1), &counters)));
    assert_eq!(error, "forward: expected f32 or i32 elements in input 1, got i64");
    let mut one = two_outputs(Device::cpu());
    let error = message(one.eval().forward(&counters));
    assert_eq!(error, "forward: expected f32 or i32 elements in the input, got i64");
    let mut fit = Trainer::new(two_outputs(Device::cpu()), both(1.0), Sgd::new(0.1)).expect("ok");
    let error = message(fit.step(&x(1), (&x(1), &x(1))));
    assert!(error.starts_with("nll: expected labels i32[6]"), "{error}");
}

/// Values of a closure that yields no number, or one that depends on nothing that was recorded.
#[test]
fn losses_that_are_none() {
    let each = loss::from_fn(|y: &Var, t: &Var| y - t);
    let mut fit = Trainer::new(siamese(Device::cpu(), 0.5), each, Sgd::new(0.1)).expect("ok");
    let error = message(fit.step((&x(1), &x(2)), &Tensor::zeros([SAMPLES, 1])));
    assert!(error.contains("expected one number (a reduction of Mean or Sum)"), "{error}");
    let ones = Tensor::new([SAMPLES, 1], vec![1.0; SAMPLES]).expect("as many");
    let each = loss::from_fn(|y: &Var, t: &Var| y - t).with_reduction(loss::Reduction::None);
    let found = fit.net().eval().loss_gradients_from(&each, (&x(1), &x(2)), &ones, &ones);
    assert_eq!(found.expect("a pass").output.shape().dims(), [SAMPLES, 1]);
}

/// A mistake in one part of a network is told with its layer, as in any network.
#[test]
fn layers_name_what_they_cannot_take() {
    let mut net = siamese(Device::cpu(), 0.5);
    let wide = Tensor::zeros([SAMPLES, FEATURES + 1]);
    let error = message(net.eval().forward((&x(1), &wide)));
    assert_eq!(error, "tower: linear: expected input of shape [..., 7], got [6, 8]");
    let error = message(net.eval().forward((&wide, &wide)));
    let once = "tower: linear: expected input of shape [..., 7], got [6, 8]";
    assert_eq!(error, format!("{once}; {once}"));
}
