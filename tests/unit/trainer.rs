// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training as a whole: accumulation, clipping, schedules, and what happens when a step fails.

use kiln::loss::{CrossEntropy, Mse, Reduction};
use kiln::models::SimpleNet;
use kiln::nn::{Dropout, Linear, Scope};
use kiln::optim::{Adam, Schedule, Sgd};
use kiln::{DType, Device, Net, Seed, Tensor, Trainer};

use crate::common::close::{assert_close, doubles, Tolerance};
use crate::common::{bits, Numbers};

fn simple_net(rate: f32) -> Net<SimpleNet> {
    let make = |p: &Scope| SimpleNet::new(p, 20, 33, 10, rate);
    Net::new(Device::cpu(), Seed(3), make).expect("a network")
}

fn classifier(rate: f32) -> Trainer<SimpleNet> {
    Trainer::new(simple_net(rate), CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer")
}

fn batch(samples: usize) -> (Tensor, Tensor) {
    let mut numbers = Numbers::new(samples as u64);
    (numbers.tensor(&[samples, 20]), numbers.labels(samples, 10))
}

fn parameters(fit: &mut Trainer<SimpleNet>) -> Vec<Vec<u32>> {
    let names: Vec<String> = fit.net().parameter_names().into_iter().map(Into::into).collect();
    names.iter().map(|name| bits(&fit.net().parameter(name).expect("its own name"))).collect()
}

#[test]
fn training_learns() {
    let mut fit = classifier(0.2);
    let (x, labels) = batch(64);
    let mut net = fit.net().eval();
    let before = net.loss(&CrossEntropy::default(), &x, &labels).expect("a loss").item();
    for _ in 0..60 {
        fit.step(&x, &labels).expect("a step");
    }
    let after = fit.net().eval().loss(&CrossEntropy::default(), &x, &labels).expect("a loss");
    let (before, after) = (before.expect("a number"), after.item().expect("a number"));
    assert!(before > 2.0 && after < 0.1, "{before} to {after}");
    let scores = fit.net().eval().forward(&x).expect("a pass");
    let classes = scores.argmax().expect("classes");
    let right = classes.iter().zip(labels.integers().expect("labels"));
    assert_eq!(right.filter(|(class, label)| **class == **label as usize).count(), 64);
    assert_eq!(fit.updates(), 60);
}

/// The loss of a step is that of the parameters before it.
#[test]
fn a_step_reports_the_loss_before_its_update() {
    let (x, labels) = batch(9);
    let mut fit = classifier(0.0);
    let alone = fit.net().eval().loss(&CrossEntropy::default(), &x, &labels).expect("a loss");
    let loss = fit.step(&x, &labels).expect("a step").value().expect("a loss");
    let loss = Tensor::new([], vec![loss]).expect("a scalar");
    assert_close("loss", &loss, &doubles(&alone), Tolerance::strict(DType::F32));
}

#[test]
fn accumulation_weighs_parts_by_their_share_of_the_mean() {
    // 7 samples in 3 parts of unequal size, one of them ignored altogether.
    let x = Numbers::new(1).tensor(&[7, 20]);
    let labels = Tensor::labels([7], vec![-100, -100, 3, 1, -100, 9, 0]).expect("labels");
    let run = |parts: usize| {
        let fit = Trainer::new(simple_net(0.5), CrossEntropy::default(), Sgd::new(0.5));
        let mut fit = fit.expect("a trainer").with_micro_batches(parts).expect("1 or more");
        let loss = fit.step(&x, &labels).expect("a step").value().expect("a loss");
        let weight = fit.net().parameter("fc1.weight").expect("its name");
        (Tensor::new([], vec![loss]).expect("a scalar"), weight)
    };
    let (loss, weight) = run(1);
    assert!(loss.item().expect("a number").is_finite());
    for parts in [2, 3, 7, 100] {
        let (part_loss, part_weight) = run(parts);
        let t = Tolerance::strict(DType::F32);
        assert_close(&format!("loss of {parts} parts"), &part_loss, &doubles(&loss), t);
        assert_close(&format!("weight of {parts} parts"), &part_weight, &doubles(&weight), t);
    }
}

#[test]
fn the_norm_is_that_before_clipping() {
    let (x, labels) = batch(16);
    let gradients = simple_net(0.5)
        .train()
        .loss_gradients(&CrossEntropy::default(), &x, &labels)
        .expect("gradients");
    let squares = gradients.parameters.iter().flat_map(|(_, g)| doubles(g)).map(|g| g * g);
    let norm = squares.sum::<f64>().sqrt();
    for (parts, max_norm) in [(1, 1e-3), (1, 1e3), (3, 1e-3)] {
        let fit = Trainer::new(simple_net(0.5), CrossEntropy::default(), Sgd::new(1.0));
        let fit = fit.expect("a trainer").with_clipping(max_norm).expect("a norm");
        let mut fit = fit.with_micro_batches(parts).expect("1 or more");
        let before = doubles(&fit.net().parameter("fc2.weight").expect("its name"));
        let found = fit.step(&x, &labels).expect("a step").gradient_norm().expect("a norm");
        let found = Tensor::new([], vec![found.expect("clipping yields one")]).expect("a scalar");
        assert_close("norm", &found, &[norm], Tolerance::strict(DType::F32));

        let after = doubles(&fit.net().parameter("fc2.weight").expect("its name"));
        let moved = before.iter().zip(&after).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        assert!(moved < max_norm * 1.0001, "moved by {moved}");
        assert!(moved > 0.0);
    }
}

#[test]
fn without_clipping_there_is_no_norm() {
    let (x, labels) = batch(4);
    let step = classifier(0.5).step(&x, &labels).expect("a step");
    assert_eq!(step.gradient_norm().expect("no failure"), None);
}

/// With plain descent on the sum of one parameter, each update is the rate itself.
#[test]
fn schedules_set_the_rate_of_each_update() {
    let schedule = Schedule::Chain(vec![
        (0, Schedule::Linear { start: 0.25, end: 1.0, steps: 3 }),
        (3, Schedule::Step { size: 2, gamma: 0.5 }),
    ]);
    let make = |p: &Scope| Linear::with_bias(&p.at("fc"), 1, 1, kiln::nn::Bias::Absent);
    let net = Net::new(Device::cpu(), Seed(3), make).expect("a network");
    let loss = Mse { reduction: Reduction::Sum };
    let fit = Trainer::new(net, loss, Sgd::new(0.5)).expect("a trainer");
    let mut fit = fit.with_schedule(schedule).expect("a schedule");
    let rates = [0.125, 0.25, 0.375, 0.5, 0.5, 0.25, 0.25, 0.125];
    for (step, rate) in rates.into_iter().enumerate() {
        assert_eq!(fit.rate(), rate, "before step {step}");
        let weight = Tensor::new([1, 1], vec![0.0]).expect("one number");
        fit.net().set_parameter("fc.weight", &weight).expect("its name");
        let one = Tensor::new([1, 1], vec![1.0]).expect("one number");
        fit.step(&one, &one).expect("a step");
        // d/dw (w - 1)^2 at 0 is -2.
        let weight = fit.net().parameter("fc.weight").expect("its name").item().expect("a number");
        assert_eq!(f64::from(weight), 2.0 * rate, "after step {step}");
    }
}

#[test]
fn a_short_last_batch_is_a_batch() {
    let mut fit = classifier(0.5);
    for samples in [32, 32, 5, 1, 32] {
        let (x, labels) = batch(samples);
        assert!(fit.step(&x, &labels).expect("a step").value().expect("a loss").is_finite());
    }
    assert_eq!((fit.updates(), fit.net().pass()), (5, 5));
}

#[test]
fn failed_steps_change_nothing() {
    let mut fit = classifier(0.5);
    let (x, labels) = batch(8);
    fit.step(&x, &labels).expect("a step");
    let (before, pass, updates) = (parameters(&mut fit), fit.net().pass(), fit.updates());
    let label = |label: i32| {
        let mut labels = labels.integers().expect("labels").to_vec();
        labels[5] = label;
        Tensor::labels([8], labels).expect("8 labels")
    };
    let floats = Tensor::zeros([8]);
    let cases = [
        (x.clone(), label(10), "label 5: expected a class below 10, got 10"),
        (x.clone(), label(-1), "label 5: expected a class or -100 to ignore the sample, got -1"),
        (x.clone(), floats, "tensor: expected i32 elements, got f32"),
        (Tensor::zeros([8, 21]), labels.clone(), "fc1: linear: expected input of shape [..., 20]"),
        (
            Tensor::zeros([9, 20]),
            labels.clone(),
            "step: expected targets for 9 samples, as in [9, 20]",
        ),
    ];
    for (x, labels, message) in cases {
        let error = fit.step(&x, &labels).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}\nexpected {message}");
    }
    assert_eq!(before, parameters(&mut fit));
    assert_eq!((pass, updates), (fit.net().pass(), fit.updates()));

    // And the next step is the one that would have been.
    let mut untroubled = classifier(0.5);
    for fit in [&mut fit, &mut untroubled] {
        fit.step(&x, &labels).expect("a step");
    }
    untroubled.step(&x, &labels).expect("a step");
    assert_eq!(parameters(&mut fit), parameters(&mut untroubled));
}

/// A label that is out of range in a later micro-batch stops the step before any of it ran.
#[test]
fn a_bad_label_in_the_last_micro_batch_changes_nothing() {
    let mut fit = classifier(0.5).with_micro_batches(4).expect("1 or more");
    let (x, labels) = batch(8);
    let before = parameters(&mut fit);
    let mut bad = labels.integers().expect("labels").to_vec();
    bad[7] = 10;
    let bad = Tensor::labels([8], bad).expect("8 labels");
    let error = fit.step(&x, &bad).unwrap_err().to_string();
    assert_eq!(error, "label 7: expected a class below 10, got 10");
    assert_eq!(before, parameters(&mut fit));
    assert_eq!((fit.updates(), fit.net().pass()), (0, 0));
}

/// A loss with one value per sample is no goal to step towards.
#[test]
fn a_step_needs_one_number_to_make_small() {
    let loss = CrossEntropy { reduction: Reduction::None, ..CrossEntropy::default() };
    let mut fit = Trainer::new(simple_net(0.5), loss, Sgd::new(0.1)).expect("a trainer");
    let (x, labels) = batch(4);
    let error = fit.step(&x, &labels).unwrap_err().to_string();
    assert!(error.contains("expected one number (a reduction of Mean or Sum)"), "{error}");
}

/// A network that has nothing to train still reports its loss.
#[test]
fn a_network_without_parameters_steps() {
    let make = |p: &Scope| Dropout::new(&p.at("dropout"), 0.5);
    let net = Net::new(Device::cpu(), Seed(3), make).expect("a network");
    let fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
    let mut fit = fit.with_clipping(1.0).expect("a norm");
    let x = Numbers::new(1).tensor(&[4, 8]);
    let loss = fit.step(&x, &x).expect("a step").value().expect("a loss");
    assert!(loss > 0.0 && loss.is_finite());
}

/// A loss handle is read long after its step, and holds.
#[test]
fn handles_of_losses_outlive_later_steps() {
    let (x, labels) = batch(8);
    let mut fit = classifier(0.5);
    let handles: Vec<_> = (0..10).map(|_| fit.step(&x, &labels).expect("a step")).collect();
    let mut again = classifier(0.5);
    for (step, handle) in handles.iter().enumerate() {
        let at_once = again.step(&x, &labels).expect("a step").value().expect("a loss");
        let later = handle.value().expect("a loss");
        assert_eq!(later.to_bits(), at_once.to_bits(), "loss of step {step}");
    }
}
