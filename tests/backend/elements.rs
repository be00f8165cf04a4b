// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs of operations on elements, broadcasts, reshapes and sums: each step against the
//! meaning of the nodes that it replaces, on the numbers that it was given.

use std::sync::Arc;

use kiln::graph::{trace, Traced, Var};
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

/// Programs on every backend, and further ones on the CPU alone.
const PROGRAMS: u64 = 25;
const MORE_PROGRAMS: u64 = 150;

/// Shapes that broadcast to one another in many ways; images among them.
const SHAPES: [&[usize]; 8] =
    [&[4, 6, 5, 3], &[6, 1, 1], &[4, 1, 5, 1], &[5, 3], &[1], &[24, 15], &[15], &[24, 1]];

struct Choice(u64);

impl Choice {
    fn of(&mut self, count: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }
}

/// A function of one value, bounded or nearly so, that stays smooth enough to be judged in f32.
fn function(choice: &mut Choice, x: &Var) -> Var {
    match choice.of(18) {
        0 => x.tanh(),
        1 => x.sigmoid(),
        2 => x.relu(),
        3 => x.sin(),
        4 => x.cos(),
        5 => x.erf(),
        6 => x.abs(),
        7 => x.clamp(-0.5, 0.75),
        8 => (x.square() + 0.5).sqrt(),
        9 => (x.abs() + 0.5).log(),
        10 => x.tanh().exp(),
        11 => x.silu(),
        12 => x.softplus() * 0.5,
        13 => (x.square() + 1.0).rsqrt(),
        14 => 1.0 / (x.abs() + 1.0),
        15 => (x.square() + 0.25).powf(0.7),
        16 => x.leaky_relu(0.1),
        _ => x.gelu() * -0.5 + 0.25,
    }
}

fn pair(choice: &mut Choice, a: &Var, b: &Var) -> Var {
    match choice.of(9) {
        0 => a + b,
        1 => a - b,
        2 => a * b,
        3 => a / (b.abs() + 1.0),
        4 => a.minimum(b),
        5 => a.maximum(b),
        6 => a.lt(b).where_(a, b * 0.5),
        7 => (a.abs() + 0.5).pow(b.tanh()),
        _ => a.le(b) * b,
    }
}

/// A value that is no run of elements: chains end there.
fn detour(choice: &mut Choice, x: &Var) -> Var {
    let rank = x.shape().map_or(1, |shape| shape.rank());
    match choice.of(4) {
        0 => x.softmax(),
        1 => x.mean_over([-1], Keep::Extents),
        2 => x.sum_over([0], Keep::Extents).tanh(),
        _ => x.mean_over(0..rank, Keep::Extents),
    }
}

fn broadcast(a: &Var, b: &Var) -> bool {
    match (a.shape(), b.shape()) {
        (Some(a), Some(b)) => a.broadcast_with(&b).is_some_and(|shape| shape.elements() <= 360),
        _ => false,
    }
}

fn program(seed: u64, inputs: &[Var]) -> Vec<Var> {
    let mut choice = Choice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut values: Vec<Var> = inputs.to_vec();
    let length = 3 + choice.of(30);
    for _ in 0..length {
        let a = values[choice.of(values.len())].clone();
        let next = match choice.of(10) {
            0..4 => function(&mut choice, &a),
            4..8 => {
                let others: Vec<&Var> = values.iter().filter(|b| broadcast(&a, b)).collect();
                let b = others[choice.of(others.len())].clone();
                pair(&mut choice, &a, &b)
            }
            8 if a.shape().is_some_and(|shape| shape.elements() == 360) => {
                a.reshape([[24, 15].as_slice(), &[4, 6, 5, 3], &[360]][choice.of(3)])
            }
            _ => detour(&mut choice, &a),
        };
        values.push(next);
    }
    // A number first, for the gradients to begin at; and some of what lies on the way to it.
    let last = values[values.len() - 1].mean();
    let mut results = vec![last];
    for _ in 0..choice.of(3) {
        results.push(values[inputs.len() + choice.of(length)].clone());
    }
    results
}

fn traced(seed: u64, types: &[TensorType]) -> Traced {
    trace(Arc::new(vec![]), types, |inputs: &[Var]| program(seed, inputs)).expect("a program")
}

fn check(seed: u64, target: &Target) -> Result<f64, String> {
    let inputs: Vec<Tensor> = SHAPES
        .iter()
        .enumerate()
        .map(|(index, shape)| Numbers::new(seed + index as u64).tensor(shape))
        .collect();
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let mut backend = target.backend();
    let mut worst = 0.0f64;
    for goal in [Goal::Forward, Goal::Gradients(Seed::One)] {
        let plan = compiled(traced(seed, &types), Mode::Train, goal, backend.facts());
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
        let judged =
            stepper.judge(&inputs, &Scalars::new(SEED), Tolerance::balanced(DType::F32))?;
        worst = worst.max(judged.worst);
    }
    Ok(worst)
}

#[test]
fn random_programs_are_their_meaning() {
    let mut failed = Vec::new();
    for (index, target) in targets().iter().enumerate() {
        let programs = if index == 0 { PROGRAMS + MORE_PROGRAMS } else { PROGRAMS };
        for seed in 0..programs {
            if let Err(what) = check(seed, target) {
                failed.push(format!("program {seed} on {}: {what}", target.name));
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
