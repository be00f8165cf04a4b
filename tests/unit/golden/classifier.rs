// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of whole training steps of the recurrent classifier, whose masks are kiln's own: those of
//! an embedding, of what one recurrent layer hands to the next, and of the last hidden state.

use kiln::loss::CrossEntropy;
use kiln::models::RnnClassifier;
use kiln::nn::{Directions, RecurrentOptions, Scope};
use kiln::{DType, Device, Net, Seed, Tensor};

use super::trajectory;
use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    assert_eq!(fixture.list::<String>("sites"), ["dropout#0", "lstm#0", "dropout#1"]);
    trajectory(fixture, device).max(gradients(fixture, device))
}

fn net(fixture: &Fixture, device: &Device) -> Net<RnnClassifier> {
    let directions = match fixture.option("both") {
        "true" => Directions::Both,
        _ => Directions::Forward,
    };
    let dropout = fixture.number("p");
    let options = RecurrentOptions { layers: 2, directions, dropout, ..Default::default() };
    let sizes: Vec<usize> = fixture.list("sizes");
    let sizes = sizes.try_into().expect("four sizes");
    let make = |p: &Scope| RnnClassifier::with_options(p, sizes, options);
    let seed = Seed(fixture.number("seed"));
    let mut net = Net::new(device.clone(), seed, make).expect("a network");
    set(&mut net, fixture, "param.");
    net
}

fn set(net: &mut Net<RnnClassifier>, fixture: &Fixture, prefix: &str) {
    let mut count = 0;
    for (name, value) in fixture.below(prefix) {
        net.set_parameter(name, &value.tensor()).expect("a parameter of this shape");
        count += 1;
    }
    assert_eq!(count, net.parameter_names().len(), "{}: below {prefix}", fixture.stem);
}

/// Tokens, lengths and classes of a step.
fn batch(fixture: &Fixture, step: usize) -> [Tensor; 3] {
    let of_step = |name: &str| fixture.tensor(&format!("{name}.{step}"));
    [of_step("input"), fixture.tensor("lengths"), of_step("target")]
}

fn trajectory(fixture: &Fixture, device: &Device) -> f64 {
    trajectory::agree(fixture, net(fixture, device), |fit, step| {
        let [tokens, lengths, target] = batch(fixture, step);
        fit.step((&tokens, &lengths), &target)
    })
}

/// Gradients of each step, from the parameters that PyTorch had then.
fn gradients(fixture: &Fixture, device: &Device) -> f64 {
    let mut net = net(fixture, device);
    let t = Tolerance::balanced(DType::F32);
    let mut worst = 0.0f64;
    for step in 0..fixture.number("steps") {
        if step > 0 {
            set(&mut net, fixture, &format!("value.{}.", step - 1));
        }
        let [tokens, lengths, target] = batch(fixture, step);
        let loss = CrossEntropy::default();
        let found = net.train().loss_gradients(&loss, (&tokens, &lengths), &target);
        let found = found.expect("gradients").parameters;
        // The last layer's first direction is not used: PyTorch has zeros there, kiln no gradient.
        let prefix = format!("gradient.{step}.");
        let unused = fixture.below(&prefix).filter(|(name, expected)| {
            let is_found = found.iter().any(|(path, _)| path == name);
            assert!(is_found || expected.values.iter().all(|x| *x == 0.0), "{name}");
            !is_found
        });
        assert_eq!(found.len() + unused.count(), net.parameter_names().len(), "{}", fixture.stem);
        for (name, gradient) in found {
            let expected = &fixture.get(&format!("gradient.{step}.{name}")).values;
            let what = format!("{}: gradient of {name} in step {step}", fixture.stem);
            worst = worst.max(assert_close(&what, &gradient, expected, t));
        }
    }
    worst
}
