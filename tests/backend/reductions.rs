// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums, extremes and their places over all sets of axes, forward and backward, likelihoods, and
//! products of transposed factors: each step against the meaning of the nodes that it replaces.

use std::sync::Arc;

use kiln::graph::{trace, Var};
use kiln::loss::{CrossEntropy, Loss, Reduction};
use kiln::nn::Keep;
use kiln::op::TensorType;
use kiln::passes::{Goal, Seed};
use kiln::{DType, Mode, Scalars, Tensor};

use crate::common::close::Tolerance;
use crate::common::reference::{compiled, Parameters};
use crate::common::stepper::Stepper;
use crate::common::targets::{targets, Target};
use crate::common::zoo::SEED;
use crate::common::Numbers;

const SHAPES: [&[usize]; 8] =
    [&[7], &[5, 9], &[300, 4], &[2, 1100], &[3, 4, 5], &[2, 65, 3], &[2, 3, 4, 5], &[3, 1, 30, 8]];

type Function<'a> = &'a dyn Fn(&Var) -> Vec<Var>;

/// Judges every step of a function of a value, and of its gradient.
fn check(target: &Target, shape: &[usize], function: Function<'_>) -> Result<(), String> {
    let numbers = Numbers::new(shape.len() as u64).tensor(shape);
    // Many are equal.
    let rounded = numbers.values().expect("numbers").iter().map(|x| (8.0 * x).round() / 8.0);
    let x = Tensor::new(shape, rounded.collect()).expect("a tensor");
    let types: Vec<TensorType> = vec![x.ty()];
    let mut backend = target.backend();
    for goal in [Goal::Forward, Goal::Gradients(Seed::One)] {
        let traced = trace(Arc::new(vec![]), &types, |inputs: &[Var]| {
            let results = function(&inputs[0]);
            let squares = results.iter().map(|result| result.square().mean());
            let mut all = vec![squares.reduce(|sum, next| sum + next).expect("some result")];
            all.extend(results);
            all
        });
        let traced = traced.expect("a function that traces");
        let plan = compiled(traced, Mode::Train, goal, backend.facts());
        let parameters = Parameters {
            specs: Arc::new(vec![]),
            values: vec![],
            gradients: vec![],
            moments: vec![],
            averages: vec![],
            update: 1,
            loss_scale: 1.0,
        };
        let mut stepper = Stepper::new(&mut *backend, &plan, &parameters);
        let tolerance = Tolerance::balanced(DType::F32);
        stepper.judge(std::slice::from_ref(&x), &Scalars::new(SEED), tolerance)?;
    }
    Ok(())
}

fn check_all(cases: &[(&str, &[usize], Function<'_>)]) {
    let mut failed = Vec::new();
    for target in targets() {
        for (name, shape, function) in cases {
            if let Err(what) = check(&target, shape, function) {
                failed.push(format!("{name} of {shape:?} on {}: {what}", target.name));
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// All sets of axes but the empty one.
fn sets(rank: usize) -> impl Iterator<Item = Vec<usize>> {
    (1..1usize << rank).map(move |set| (0..rank).filter(|axis| set >> axis & 1 == 1).collect())
}

#[test]
fn sums_over_any_axes() {
    let sums = |x: &Var| {
        let rank = x.shape().map_or(0, |shape| shape.rank());
        sets(rank).map(|axes| x.sum_over(axes, Keep::Extents) * 0.1).collect()
    };
    check_all(&SHAPES.map(|shape| ("sums", shape, &sums as Function<'_>)));
}

#[test]
fn extremes_over_any_axes() {
    let extremes = |x: &Var| {
        let rank = x.shape().map_or(0, |shape| shape.rank());
        let both = |axes: Vec<usize>| {
            [x.max_over(axes.clone(), Keep::Nothing), x.min_over(axes, Keep::Extents)]
        };
        sets(rank).flat_map(both).collect()
    };
    check_all(&SHAPES.map(|shape| ("extremes", shape, &extremes as Function<'_>)));
}

#[test]
fn places_of_extremes_along_any_axis() {
    let places = |x: &Var| {
        let rank = x.shape().map_or(0, |shape| shape.rank());
        let elements = x.shape().map_or(1, |shape| shape.elements());
        let both = |axis: usize| {
            let largest = x.argmax_over(axis, Keep::Extents);
            [x.gather(axis, &largest), x.gather(axis, &x.argmin_over(axis, Keep::Extents))]
        };
        let all = x.reshape([elements]).take(0, &x.argmax().reshape([1]));
        (0..rank).flat_map(both).chain([all]).collect()
    };
    check_all(&SHAPES.map(|shape| ("places", shape, &places as Function<'_>)));
}

/// Scores that something else needs too, with labels that the network itself computes.
#[test]
fn likelihoods_alone() {
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        for label_smoothing in [0.0, 0.2] {
            let loss = CrossEntropy { reduction, label_smoothing, ..CrossEntropy::default() };
            let likelihood = |x: &Var| {
                let labels = x.argmax_over(1, Keep::Nothing);
                let weights = [x.narrow(0, 0, 1).reshape([9]).abs()];
                let scores = x * 2.0;
                vec![
                    loss.forward(&scores, &labels, &[]),
                    loss.forward(&scores, &labels, &weights),
                    scores.log_softmax(),
                ]
            };
            let shapes: [&[usize]; 2] = [&[5, 9], &[70, 9]];
            check_all(&shapes.map(|shape| ("likelihood", shape, &likelihood as Function<'_>)));
        }
    }
}

#[test]
fn products_of_transposed_factors() {
    let products = |x: &Var| vec![x.t().matmul_transposed(&x.t().narrow(0, 0, 3).tanh())];
    let batches = |x: &Var| {
        let turned = x.transpose(1, 2);
        vec![turned.matmul_transposed(&turned.narrow(1, 1, 2).tanh())]
    };
    check_all(&[
        ("product", &[5, 9], &products),
        ("product", &[70, 33], &products),
        ("batch", &[3, 4, 5], &batches),
    ]);
}

/// Integers among images, in any order.
#[test]
fn integers_that_are_repeated_and_moved() {
    let moved = |x: &Var| {
        let places = x.argmax_over(1, Keep::Extents);
        let repeated = places.expand([3, 4, 5]).permute([1, 0, 2]).pad(0, 1, 0);
        vec![
            x.gather(1, &places.expand([3, 2, 5])),
            x.reshape([60]).take(0, &repeated.reshape([75])),
        ]
    };
    check_all(&[("integers", &[3, 4, 5], &moved)]);
}
