// SPDX-License-Identifier: MIT OR Apache-2.0
//! Broadcasting and its reverse, against plain loops over indices.

use kiln::nn::{Init, Module, Param, Scope};
use kiln::{DType, Net, Seed, Var};

use crate::common::close::{compare, doubles, Tolerance};
use crate::common::targets::targets;
use crate::common::Numbers;

/// `x * gain + gain`, whichever of them is stretched.
struct Stretched {
    gain: Param,
}

impl Module for Stretched {
    fn forward(&self, x: &Var) -> Var {
        let gain = x.parameter(&self.gain);
        &(x * &gain) + &gain
    }
}

/// The shapes of the input and of the parameter: extents of 1 outermost, innermost, between, in
/// both at once, alone, and none at all.
const SHAPES: [[&[usize]; 2]; 14] = [
    [&[4, 5], &[4, 1]],
    [&[4, 5], &[1, 5]],
    [&[4, 5], &[1, 1]],
    [&[4, 5], &[5]],
    [&[4, 5], &[1]],
    [&[4, 1], &[1, 5]],
    [&[1, 5], &[4, 1]],
    [&[4, 1], &[5]],
    [&[4, 1], &[4, 1]],
    [&[3, 4, 5], &[4, 1]],
    [&[3, 4, 5], &[3, 1, 5]],
    [&[3, 1, 5], &[1, 4, 1]],
    [&[2, 1, 4, 1], &[3, 1, 5]],
    [&[1, 1], &[3, 4, 5]],
];

#[test]
fn extents_of_one_are_stretched_and_summed() {
    for target in targets() {
        for [x_shape, gain_shape] in SHAPES {
            let what = format!("{x_shape:?} * {gain_shape:?} on {}", target.name);
            let make = |p: &Scope| Stretched {
                gain: p.parameter("gain", gain_shape, Init::Uniform { bound: 1.0 }),
            };
            let mut net = Net::new(target.device(), Seed(3), make).expect("a network");
            let x = Numbers::new(1).tensor(x_shape);
            let shape = joined(x_shape, gain_shape);
            let dy = Numbers::new(2).tensor(&shape);
            let found = net.train().gradients(&x, &dy).expect("a pass");
            let gain = doubles(&net.parameter("gain").expect("its name"));

            let (x_values, dy_values) = (doubles(&x), doubles(&dy));
            let mut y = vec![0.0; dy_values.len()];
            let (mut dx, mut d_gain) = (vec![0.0; x_values.len()], vec![0.0; gain.len()]);
            for (index, y) in y.iter_mut().enumerate() {
                let (i, j) = (source(index, &shape, x_shape), source(index, &shape, gain_shape));
                *y = x_values[i] * gain[j] + gain[j];
                dx[i] += dy_values[index] * gain[j];
                d_gain[j] += dy_values[index] * (x_values[i] + 1.0);
            }
            let t = Tolerance::balanced(DType::F32);
            let input = found.input.expect("a gradient");
            let (_, parameter) = &found.parameters[0];
            for (name, got, meant, shape) in [
                ("output", &found.output, &y, &shape[..]),
                ("gradient of x", &input, &dx, x_shape),
                ("gradient of gain", parameter, &d_gain, gain_shape),
            ] {
                assert_eq!(got.shape().dims(), shape, "{what}: {name}");
                let judged = compare(name, shape, &doubles(got), meant, t);
                judged.unwrap_or_else(|message| panic!("{what}: {message}"));
            }
        }
    }
}

/// The larger extent of each axis, counted from the innermost.
fn joined(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], back: usize| {
        if back <= shape.len() {
            shape[shape.len() - back]
        } else {
            1
        }
    };
    (1..=rank).rev().map(|back| extent(a, back).max(extent(b, back))).collect()
}

/// Where an element of the joined shape comes from.
fn source(mut index: usize, shape: &[usize], from: &[usize]) -> usize {
    let (mut at, mut stride) = (0, 1);
    for back in 1..=shape.len() {
        let extent = shape[shape.len() - back];
        if back <= from.len() {
            let own = from[from.len() - back];
            at += index % extent % own * stride;
            stride *= own;
        }
        index /= extent;
    }
    at
}
