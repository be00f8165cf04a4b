// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small inputs whose right values are known, on every backend.

use kiln::loss::{BceWithLogits, CrossEntropy, Loss, Reduction};
use kiln::nn::{Init, Linear, Module, Param, Scope};
use kiln::optim::{Adam, AdamW, Optimizer, Sgd};
use kiln::{Device, Net, Precision, Result, Seed, Tensor, Trainer, Var};

use crate::common::targets::targets;

/// The scores themselves.
struct Identity;

impl Module for Identity {
    fn forward(&self, x: &Var) -> Var {
        x.clone()
    }
}

fn tensor<const N: usize>(shape: &[usize], values: [f32; N]) -> Tensor {
    Tensor::new(shape, values.to_vec()).expect("as many values as the shape has elements")
}

fn labels<const N: usize>(labels: [i32; N]) -> Tensor {
    Tensor::labels([N], labels.to_vec()).expect("one label per sample")
}

fn values(tensor: &Tensor) -> &[f32] {
    tensor.values().expect("f32")
}

/// Relative to the value that is expected, however small.
#[track_caller]
fn assert_values(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= 1e-6 * expected.abs(), "{what}: {got:e}, expected {expected:e}");
    }
}

/// Losses and their gradients, as every backend gives them.
fn each_loss(loss: &dyn Loss, x: &Tensor, target: &Tensor, check: impl Fn(&str, &[f32], &[f32])) {
    for target_device in targets() {
        let mut net = Net::new(target_device.device(), Seed(1), |_| Identity).expect("a network");
        let losses = net.eval().loss(loss, x, target).expect("a loss");
        let ones = Tensor::new(losses.shape().clone(), vec![1.0; losses.shape().elements()]);
        let ones = ones.expect("as many as there are losses");
        let found = net.train().loss_gradients_from(loss, x, target, &ones).expect("gradients");
        let gradient = found.input.expect("scores have a gradient");
        assert_eq!(losses, found.output, "{}", target_device.name);
        check(&target_device.name, values(&losses), values(&gradient));
    }
}

#[test]
fn a_class_that_is_impossible_does_not_touch_the_others() {
    let x = tensor(&[2, 3], [1.0, 2.0, f32::NEG_INFINITY, 3e38, -3e38, -3e38]);
    for reduction in [Reduction::None, Reduction::Sum, Reduction::Mean] {
        let loss = CrossEntropy { reduction, ..CrossEntropy::default() };
        each_loss(&loss, &x, &labels([0, 0]), |what, losses, gradient| {
            let what = format!("{reduction:?} on {what}");
            let (loss, slope) = (1.313_261_687_5, 0.731_058_578_6);
            let divisor = if reduction == Reduction::Mean { 2.0 } else { 1.0 };
            match reduction {
                Reduction::None => assert_values(&what, losses, &[loss, 0.0]),
                _ => assert_values(&what, losses, &[loss / divisor]),
            }
            let slope = slope / divisor;
            assert_values(&what, gradient, &[-slope, slope, 0.0, 0.0, 0.0, 0.0]);
        });
    }
}

#[test]
fn a_sure_and_right_logit_keeps_its_loss_and_gradient() {
    let logits = tensor(&[8], [16.0, 20.0, 40.0, 100.0, -16.0, -20.0, -40.0, -100.0]);
    let targets = tensor(&[8], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let loss = BceWithLogits { reduction: Reduction::None };
    let losses = [1.125_351_684e-7, 2.061_153_620e-9, 4.248_354_255e-18];
    each_loss(&loss, &logits, &targets, |what, got, gradient| {
        assert_values(what, &got[..3], &losses);
        assert_values(what, &got[4..7], &losses);
        let slopes = [1.125_351_621e-7, 2.061_153_618e-9, 4.248_354_255e-18];
        assert_values(what, &gradient[..3], &slopes.map(|slope| -slope));
        assert_values(what, &gradient[4..7], &slopes);
        // Below the smallest f32 that all devices tell from 0.
        for tiny in [got[3], got[7], gradient[3].abs(), gradient[7]] {
            assert!((0.0..1e-37).contains(&tiny), "{what}: {tiny:e}");
        }
    });
    let wrong = tensor(&[4], [40.0, -40.0, f32::INFINITY, f32::NEG_INFINITY]);
    let targets = tensor(&[4], [0.0, 1.0, 0.0, 1.0]);
    each_loss(&loss, &wrong, &targets, |what, got, gradient| {
        assert_eq!(got, [40.0, 40.0, f32::INFINITY, f32::INFINITY], "{what}");
        assert_eq!(gradient, [1.0, -1.0, 1.0, -1.0], "{what}");
    });
}

#[test]
fn smoothing_over_many_classes_is_exact_off_the_label() {
    for classes in [1_000, 50_000] {
        let x: Vec<f32> = (0..classes).map(|class| (class as f32 * 0.7).sin()).collect();
        let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
        let spread = f64::from(0.1f32) / classes as f64;
        let expected: Vec<f64> = x.iter().map(|&x| f64::from(x).exp() / sum - spread).collect();
        let loss = CrossEntropy { label_smoothing: 0.1, ..CrossEntropy::default() };
        let x = Tensor::new([1, classes], x).expect("scores");
        each_loss(&loss, &x, &labels([0]), |what, _, gradient| {
            for (class, (got, expected)) in gradient.iter().zip(&expected).enumerate().skip(1) {
                let error = (f64::from(*got) - expected).abs();
                let size = expected.abs() + 2.0 * spread;
                assert!(error <= 1e-6 * size, "{what}, class {class}: {got:e}, {expected:e}");
            }
        });
    }
}

/// A parameter of which ReLU lets nothing pass, so that an infinite one harms nobody.
struct Unseen(Param);

impl Unseen {
    fn new(p: &Scope) -> Self {
        Unseen(p.parameter("p", [5], Init::Constant(0.0)))
    }
}

impl Module for Unseen {
    fn forward(&self, x: &Var) -> Var {
        x + &x.parameter(&self.0).scale(-1.0).relu()
    }
}

#[test]
fn without_weight_decay_an_infinite_weight_stays_infinite() {
    let optimizers: [Optimizer; 5] = [
        Sgd::new(0.1).into(),
        Sgd::new(0.1).momentum(0.9).into(),
        Adam::new(0.1).into(),
        AdamW { weight_decay: 0.0, ..AdamW::new(0.1) }.into(),
        AdamW::new(0.1).into(),
    ];
    let (x, target) = (tensor(&[1, 5], [0.5; 5]), tensor(&[1, 5], [0.0; 5]));
    for target_device in targets() {
        for optimizer in optimizers {
            for clipped in [false, true] {
                let mut net =
                    Net::new(target_device.device(), Seed(1), Unseen::new).expect("a network");
                net.set_parameter("p", &tensor(&[5], [f32::INFINITY; 5])).expect("five");
                let loss = kiln::loss::Mse::default();
                let mut fit = Trainer::new(net, loss, optimizer).expect("a trainer");
                if clipped {
                    fit = fit.with_clipping(0.5).expect("a norm");
                }
                for _ in 0..3 {
                    fit.step(&x, &target).expect("a step");
                }
                let p = fit.net().parameter("p").expect("its name");
                let what = &target_device.name;
                assert_eq!(values(&p), [f32::INFINITY; 5], "{optimizer:?} on {what}");
            }
        }
    }
}

#[test]
fn bias_gradients_are_full_sums_whatever_products_cut_off() {
    let rows = 1000;
    let make = |p: &Scope| Linear::new(&p.at("fc"), 3, 1);
    let x = Tensor::new([rows, 3], vec![1.0; 3 * rows]).expect("ones");
    let dy = Tensor::new([rows, 1], vec![1.000_976_5; rows]).expect("a column");
    for target in targets() {
        let device = target.device().with_precision(Precision::Tf32);
        let mut net = Net::new(device, Seed(1), make).expect("a network");
        let found = net.train().gradients(&x, &dy).expect("gradients").parameters;
        let of = |name: &str| found.iter().find(|(found, _)| found == name).expect("its name");
        let (weight, bias) = (&of("fc.weight").1, &of("fc.bias").1);
        assert_eq!(values(weight), [1000.0; 3], "{}", target.name);
        assert!((values(bias)[0] - 1000.9765).abs() < 1e-3, "{}: {bias:?}", target.name);
    }
}

/// tf32 cuts factors off on every backend, forward and backward, a last layer with its loss included.
#[test]
fn tf32_cuts_factors_off_and_does_not_round_them() {
    let step = f32::powi(2.0, -10);
    let make = |p: &Scope| Linear::new(&p.at("fc"), 1, 2);
    let x = tensor(&[1, 1], [1.0 + 1.9 * step]);
    for target in targets() {
        let device = target.device().with_precision(Precision::Tf32);
        let mut net = Net::new(device, Seed(1), make).expect("a network");
        let weight = tensor(&[2, 1], [1.0 + 1.9 * step, -1.0 - 1.9 * step]);
        net.set_parameter("fc.weight", &weight).expect("two");
        net.set_parameter("fc.bias", &tensor(&[2], [0.0; 2])).expect("two");
        let score = (1.0 + step) * (1.0 + step);
        let y = net.eval().forward(&x).expect("a pass");
        assert_eq!(values(&y), [score, -score], "{}", target.name);
        let (loss, scores) =
            net.eval().loss_and_output(&CrossEntropy::default(), &x, &labels([1])).expect("a loss");
        assert_eq!(values(&scores), [score, -score], "{}", target.name);
        let expected = 2.0 * f64::from(score) + (-2.0 * f64::from(score)).exp().ln_1p();
        assert_values(&target.name, values(&loss), &[expected]);
    }
}

/// A part of a batch whose labels have no weight adds nothing, as in the undivided batch.
#[test]
fn micro_batches_without_weight_add_nothing() {
    let train = |device: Device, parts: usize| -> Result<Vec<f32>> {
        let make = |p: &Scope| Linear::new(&p.at("fc"), 2, 3);
        let loss = CrossEntropy { weights: Some(vec![0.0, 1.0, 2.0]), ..CrossEntropy::default() };
        let fit = Trainer::new(Net::new(device, Seed(1), make)?, loss, Sgd::new(0.1))?;
        let mut fit = fit.with_micro_batches(parts)?;
        let x = tensor(&[4, 2], [0.5, -1.0, 2.0, 0.25, 1.0, 1.5, -0.5, 0.75]);
        let loss = fit.step(&x, &labels([0, 0, 1, 2]))?.value()?;
        let mut found = vec![loss];
        found.extend(values(&fit.net().parameter("fc.weight")?));
        Ok(found)
    };
    for target in targets() {
        let whole = train(target.device(), 1).expect("a step");
        let parts = train(target.device(), 2).expect("a step");
        for (whole, part) in whole.iter().zip(&parts) {
            assert!((whole - part).abs() <= 1e-6, "{}: {whole:?}, {part:?}", target.name);
        }
    }
}
