// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of losses: value and gradient for every reduction.

use kiln::loss::{BceWithLogits, CrossEntropy, Loss, Mse, Reduction};
use kiln::nn::Module;
use kiln::{DType, Device, Net, Seed, Var};

use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

/// The scores themselves.
struct Identity;

impl Module for Identity {
    fn forward(&self, x: &Var) -> Var {
        x.clone()
    }
}

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    let mut net = Net::new(device.clone(), Seed(7), |_| Identity).expect("a network");
    let (loss, reduction) = build(fixture);
    let (x, target) = (fixture.tensor("input"), fixture.tensor("target"));
    let dloss = fixture.tensor("cotangent");
    let value = net.eval().loss(&*loss, &x, &target).expect("a loss");
    let mut found = vec![net.eval().loss_gradients_from(&*loss, &x, &target, &dloss)];
    if reduction != Reduction::None {
        found.push(net.eval().loss_gradients(&*loss, &x, &target));
    }

    let t = Tolerance::strict(DType::F32);
    let what = |part: &str| format!("{}: {part}", fixture.stem);
    let expected = |name: &str| &fixture.get(name).values;
    assert_eq!(value.shape().dims(), fixture.get("output").shape, "{}", fixture.stem);
    let mut worst = assert_close(&what("loss"), &value, expected("output"), t);
    for gradients in found {
        let gradients = gradients.expect("gradients");
        let input = gradients.input.expect("scores have a gradient");
        let again = assert_close(&what("loss again"), &gradients.output, expected("output"), t);
        let gradient = assert_close(&what("gradient"), &input, expected("grad.input"), t);
        worst = worst.max(again).max(gradient);
    }
    worst
}

fn build(fixture: &Fixture) -> (Box<dyn Loss>, Reduction) {
    let reduction = match fixture.option("reduction") {
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        "none" => Reduction::None,
        other => panic!("{}: reduction = {other}", fixture.stem),
    };
    let loss: Box<dyn Loss> = match fixture.option("name") {
        "mse" => Box::new(Mse { reduction }),
        "bce_with_logits" => Box::new(BceWithLogits { reduction }),
        "cross_entropy" => Box::new(CrossEntropy {
            ignore_index: fixture.number("ignore_index"),
            label_smoothing: fixture.number("label_smoothing"),
            weights: fixture
                .tensors
                .get("weight")
                .map(|weight| weight.tensor().values().expect("f32").to_vec()),
            reduction,
        }),
        other => panic!("{}: nothing builds a loss {other}", fixture.stem),
    };
    (loss, reduction)
}
