// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plans that a network keeps: how many, which, and that their results do not depend on it.

use std::num::NonZeroUsize;

use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::nn::Scope;
use kiln::optim::Adam;
use kiln::{Device, Mode, Net, Seed, Tensor, Trainer};

use crate::common::{bits, Numbers};

fn net() -> Net<SimpleNet> {
    let make = |p: &Scope| SimpleNet::new(p, 20, 33, 10, 0.5);
    Net::new(Device::cpu(), Seed(3), make).expect("a network")
}

fn batch(samples: usize) -> Tensor {
    Numbers::new(samples as u64).tensor(&[samples, 20])
}

fn count(plans: usize) -> NonZeroUsize {
    NonZeroUsize::new(plans).expect("not 0")
}

#[test]
fn a_network_keeps_thirty_two_plans_or_as_many_as_it_is_told() {
    let mut net = net();
    for samples in 1..=40 {
        net.eval().forward(&batch(samples)).expect("a pass");
        assert_eq!(net.plans(), samples.min(32));
    }
    net.keep_plans(count(5));
    assert_eq!(net.plans(), 5);
    for samples in 1..=7 {
        net.train().forward(&batch(samples)).expect("a pass");
        assert_eq!(net.plans(), 5);
    }
    net.keep_plans(count(6));
    net.plan(Mode::Eval, &[batch(1).ty()]).expect("a plan");
    assert_eq!(net.plans(), 6);
}

/// The bits of a pass are those of a network that has made no other.
#[test]
fn batches_of_all_sizes_give_what_they_give_alone() {
    let mut mixed = net();
    mixed.keep_plans(count(3));
    for samples in [9, 1, 70, 9, 33, 2, 70, 1, 9] {
        let x = batch(samples);
        let alone = net().eval().forward(&x).expect("a pass");
        let among_others = mixed.eval().forward(&x).expect("a pass");
        assert_eq!(bits(&among_others), bits(&alone), "{samples} samples");
    }
}

/// With one plan kept, each part of a step and each evaluation between them is planned anew; the
/// parameters are those of a trainer that keeps them all.
#[test]
fn training_does_not_depend_on_how_many_plans_are_kept() {
    let run = |most: usize| {
        let mut fit =
            Trainer::new(net(), CrossEntropy::default(), Adam::new(1e-2)).expect("a trainer");
        fit = fit.with_micro_batches(3).expect("1 or more").with_clipping(0.5).expect("above 0");
        fit.net().keep_plans(count(most));
        let mut losses = Vec::new();
        for samples in [7, 12, 7, 31, 4, 12] {
            let labels = Numbers::new(1).labels(samples, 10);
            let loss = fit.step(&batch(samples), &labels).expect("a step");
            losses.push(loss.value().expect("a loss").to_bits());
            let scores = fit.net().eval().gradients(&batch(3), &Tensor::zeros([3, 10]));
            assert_eq!(scores.expect("gradients").parameters.len(), 6);
        }
        let names = ["fc1.weight", "fc2.bias", "fc3.weight"];
        let read = |name: &str| bits(&fit.net().parameter(name).expect("its own name"));
        (losses, names.map(read))
    };
    assert_eq!(run(1), run(32));
}
