// SPDX-License-Identifier: MIT OR Apache-2.0
//! NaN and infinity: a training stops at the first, and the layer where it began is named.

use kiln::checkpoint::{self, Progress};
use kiln::loss::{CrossEntropy, Mse};
use kiln::models::SimpleNet;
use kiln::nn::{BatchNorm, Linear, Module};
use kiln::optim::Sgd;
use kiln::{Device, Error, Net, NonFinite, NonFiniteValue, Origin, Precision, Seed, Tensor};
use kiln::{Trainer, Var};

use crate::common::{bits, Numbers};

fn simple_net(rate: f32) -> Net<SimpleNet> {
    Net::new(Device::cpu(), Seed(3), |p| SimpleNet::new(p, 6, 9, 4, rate)).expect("a network")
}

fn classifier(lr: f64) -> Trainer<SimpleNet> {
    Trainer::new(simple_net(0.5), CrossEntropy::default(), Sgd::new(lr)).expect("a trainer")
}

fn batch(samples: usize) -> (Tensor, Tensor) {
    let mut numbers = Numbers::new(samples as u64);
    (numbers.tensor(&[samples, 6]), numbers.labels(samples, 4))
}

fn set<M: Module>(net: &mut Net<M>, name: &str, value: f32) {
    let shape = net.parameter(name).expect("its name").shape().clone();
    let value = Tensor::new(shape.clone(), vec![value; shape.elements()]).expect("as many");
    net.set_parameter(name, &value).expect("the same shape");
}

fn layer(found: &NonFiniteValue) -> &str {
    match &found.origin {
        Origin::Layer { path, .. } => path,
        other => panic!("{other:?} is no layer"),
    }
}

/// Steps until one fails; how many did not.
fn steps_before_the_end(fit: &mut Trainer<SimpleNet>) -> (u64, Error) {
    let (x, labels) = batch(8);
    for done in 0..100 {
        match fit.step(&x, &labels) {
            Ok(loss) => assert!(loss.value().expect("a number").is_finite()),
            Err(error) => return (done, error),
        }
    }
    panic!("100 steps were finite")
}

#[test]
fn a_step_that_is_not_finite_is_named_and_found_again() {
    let (x, labels) = batch(8);
    for parts in [1, 3] {
        let fit = || classifier(1e25).with_micro_batches(parts).expect("1 or more");
        let (done, error) = steps_before_the_end(&mut fit());
        assert!(done > 0, "the first step is finite");
        let Error::NonFinite { update, what, value, first } = &error else { panic!("{error}") };
        assert_eq!((*update, what.as_str()), (done + 1, "the loss"));
        assert!(!value.is_finite() && first.is_none());
        assert!(
            error.to_string().starts_with(&format!("update {update}: the loss is ")),
            "{error}"
        );

        let mut again = fit();
        for _ in 0..done {
            again.step(&x, &labels).expect("as before");
        }
        let pass = again.net().pass();
        let found = again.first_non_finite(&x, &labels).expect("a pass").expect("found again");
        assert!(["fc1", "fc2", "fc3"].contains(&layer(&found)), "{found:?}");
        assert!(!found.value.is_finite());
        assert_eq!((again.net().pass(), again.updates()), (pass, done), "nothing is counted");
        assert!(again.step(&x, &labels).is_err(), "and nothing is changed");
    }
}

#[test]
fn a_setting_lets_it_go_on() {
    let mut fit = classifier(1e25).with_non_finite(NonFinite::Continue);
    let (x, labels) = batch(8);
    let losses: Vec<f32> =
        (0..9).map(|_| fit.step(&x, &labels).expect("a step").value().expect("a number")).collect();
    assert!(losses[0].is_finite() && losses.last().is_some_and(|loss| loss.is_nan()), "{losses:?}");
    fit.check_finite().expect("nobody asked");
}

#[test]
fn a_gradient_norm_stops_it_too() {
    // The loss, 1e38, is finite; its gradient with respect to the weights is not.
    let net = Net::new(Device::cpu(), Seed(3), |p| Linear::new(&p.at("fc"), 1, 1));
    let mut net = net.expect("a network");
    set(&mut net, "fc.weight", 1e-1);
    set(&mut net, "fc.bias", 0.0);
    let fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
    let mut fit = fit.with_clipping(1.0).expect("a norm");
    let x = Tensor::new([1, 1], vec![1e20]).expect("one");
    let target = Tensor::zeros([1, 1]);
    let found = fit.first_non_finite(&x, &target).expect("a pass").expect("the gradient");
    assert_eq!(found.origin, Origin::Gradient { parameter: "fc.weight".into() });
    let error = fit.step(&x, &target).expect_err("an infinite norm");
    let Error::NonFinite { update: 1, what, .. } = &error else { panic!("{error}") };
    assert_eq!(what, "the gradient norm");
}

#[test]
fn each_place_is_told_from_the_others() {
    let (x, labels) = batch(4);
    let scores = CrossEntropy::default();
    let fit = || Trainer::new(simple_net(0.0), scores.clone(), Sgd::new(0.1)).expect("a trainer");
    assert_eq!(fit().first_non_finite(&x, &labels).expect("a pass"), None);

    let nan = Tensor::new([4, 6], vec![f32::NAN; 24]).expect("24");
    let found = fit().first_non_finite(&nan, &labels).expect("a pass").expect("NaN");
    assert_eq!(found.origin, Origin::Input { index: 0, of: 1 });

    for name in ["fc1.bias", "fc2.weight", "fc3.bias"] {
        let mut spoilt = fit();
        set(spoilt.net(), name, f32::NAN);
        let found = spoilt.first_non_finite(&x, &labels).expect("a pass").expect("NaN");
        assert_eq!((layer(&found), found.parameters.as_slice()), (&name[..3], &[name.into()][..]));
        let seen = spoilt.net().eval().first_non_finite(&x).expect("a pass").expect("NaN");
        assert_eq!(layer(&seen), &name[..3]);
        let mut random = simple_net(0.5);
        set(&mut random, name, f32::NAN);
        let drawn = random.monte_carlo(3).first_non_finite(&x).expect("a pass");
        assert_eq!(layer(&drawn.expect("NaN")), &name[..3]);
    }
}

/// The step that overflows in 16 bits is finite in 32, and so is its look-alike with every layer's
/// output returned.
#[test]
fn values_are_rounded_as_in_the_step() {
    let (x, labels) = batch(4);
    for (precision, finite) in [(Precision::F32, true), (Precision::F16, false)] {
        let device = Device::cpu().with_precision(precision);
        let net = Net::new(device, Seed(3), |p| SimpleNet::new(p, 6, 9, 4, 0.0));
        let mut net = net.expect("a network");
        set(&mut net, "fc2.bias", 1e5);
        let fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1));
        let mut fit = fit.expect("a trainer");
        let found = fit.first_non_finite(&x, &labels).expect("a pass");
        assert_eq!(found.as_ref().map(layer), (!finite).then_some("fc2"), "{found:?}");
        assert_eq!(fit.step(&x, &labels).is_ok(), finite);
    }
}

/// What a layer yields is looked at, not what is inside of it; operations of the network's own count
/// as layers.
#[test]
fn operations_between_layers_are_named() {
    struct Squares(Linear, Linear);
    impl Module for Squares {
        fn forward(&self, x: &Var) -> Var {
            let x = self.0.forward(x);
            self.1.forward(&(&x * &x))
        }
    }
    let make = |p: &kiln::nn::Scope| {
        Squares(Linear::new(&p.at("first"), 1, 1), Linear::new(&p.at("second"), 1, 1))
    };
    let mut net = Net::new(Device::cpu(), Seed(3), make).expect("a network");
    set(&mut net, "first.weight", 1e20);
    let x = Tensor::new([1, 1], vec![1.0]).expect("one");
    let found = net.train().first_non_finite(&x).expect("a pass").expect("1e40");
    assert_eq!(found.origin, Origin::Layer { path: String::new(), op: "multiply" });
    assert_eq!(found.value, f32::INFINITY);
    assert!(found.to_string().contains("the network's own multiply"), "{found}");
}

/// A last update may leave what no loss has seen yet.
#[test]
fn parameters_are_checked_before_a_checkpoint() {
    let (x, labels) = batch(8);
    let mut fit = classifier(f64::from(f32::MAX));
    fit.step(&x, &labels).expect("a finite loss");
    set(fit.net(), "fc2.bias", f32::NEG_INFINITY);
    let error = fit.check_finite().expect_err("an infinity");
    assert_eq!(error.to_string(), "update 1: an element of fc2.bias is -inf");

    let folder = tempfile::tempdir().expect("a folder");
    let save = |fit: &mut _| checkpoint::save(fit, &Progress::default(), folder.path());
    assert!(save(&mut fit).is_err() && folder.path().read_dir().expect("a folder").count() == 0);
    save(&mut fit.with_non_finite(NonFinite::Continue)).expect("what it was told to");
}

#[test]
fn no_class_is_made_of_nan() {
    let scores = Tensor::new([3, 2], vec![0.0, 1.0, 2.0, f32::NAN, 1.0, 0.0]).expect("6");
    let error = scores.argmax().expect_err("NaN");
    assert!(error.to_string().contains("NaN in row 1"), "{error}");
    let infinite = Tensor::new([1, 3], vec![0.0, f32::INFINITY, f32::NEG_INFINITY]).expect("3");
    assert_eq!(infinite.argmax().expect("an order"), [1]);
}

/// Looking for the origin of NaN leaves the training as it was.
#[test]
fn looking_changes_nothing() {
    let (x, labels) = batch(8);
    let (mut looked, mut left) = (classifier(0.1), classifier(0.1));
    for _ in 0..3 {
        assert_eq!(looked.first_non_finite(&x, &labels).expect("a pass"), None);
        looked.check_finite().expect("finite");
        let (a, b) = (looked.step(&x, &labels), left.step(&x, &labels));
        let (a, b) = (a.expect("a step").value(), b.expect("a step").value());
        assert_eq!(a.expect("a number").to_bits(), b.expect("a number").to_bits());
    }
    let weight =
        |fit: &mut Trainer<SimpleNet>| bits(&fit.net().parameter("fc1.weight").expect("its name"));
    assert_eq!(weight(&mut looked), weight(&mut left));
}

/// Nor does it move running statistics, which every pass in train mode does.
#[test]
fn looking_leaves_running_statistics_alone() {
    struct Normalised(Linear, BatchNorm);
    impl Module for Normalised {
        fn forward(&self, x: &Var) -> Var {
            self.1.forward(&self.0.forward(x))
        }
    }
    let make = |p: &kiln::nn::Scope| {
        Normalised(Linear::new(&p.at("fc"), 6, 4), BatchNorm::new(&p.at("bn"), 4))
    };
    let net = Net::new(Device::cpu(), Seed(3), make).expect("a network");
    let fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1)).expect("a trainer");
    let mut fit = fit.with_micro_batches(2).expect("1 or more");
    let (x, labels) = batch(8);
    fit.step(&x, &labels).expect("a step");
    let state = |fit: &mut Trainer<Normalised>| {
        let names = ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked"];
        names.map(|name| fit.net().parameter(name).expect("its name"))
    };
    let before = state(&mut fit);
    assert_eq!(fit.first_non_finite(&x, &labels).expect("a pass"), None);
    assert_eq!(fit.net().train().first_non_finite(&x).expect("a pass"), None);
    assert_eq!(state(&mut fit), before);
    set(fit.net(), "bn.running_var", f32::INFINITY);
    let error = fit.check_finite().expect_err("an infinity");
    assert!(error.to_string().contains("bn.running_var is inf"), "{error}");
}
