// SPDX-License-Identifier: MIT OR Apache-2.0
//! Skipped zeros change no bit: products of every density against the same chains of additions.

use super::super::products::CHAIN;
use super::super::reductions::COLUMN_CHAIN;
use super::super::{
    Activation, Dropout, Forward, GradientTail, InputGradient, MaskNonZero, MaskRows, Readers,
    Start, WeightGradient,
};
use super::*;
use crate::philox::{keep, MaskKey};

/// Rows, inputs, outputs: ends inside vectors, blocks of steps, groups of rows and pairs of panels, and
/// sums of one, two and three chains.
const SIZES: [(usize, usize, usize); 8] = [
    (13, 33, 64),
    (37, 64, 65),
    (70, 65, 80),
    (64, 150, 96),
    (100, 129, 130),
    (131, 200, 111),
    (70, 2 * CHAIN + 100, 72),
    (CHAIN + 100, 72, 70),
];

/// Fractions of non-zero values: none, on both sides of the choice of a kernel, all.
const DENSITIES: [f32; 5] = [0.0, 0.1, 0.4, 0.7, 1.0];

/// Distance between rows beyond their length.
const GAP: usize = 3;

/// Noise of some density, with rows `GAP` apart: NaN lies between them. The first row is 0.
fn thin(rows: usize, columns: usize, density: f32, seed: u32) -> Vec<f32> {
    let values = noise(rows * columns, seed);
    let chances = noise(rows * columns, seed + 100);
    let mut matrix = vec![f32::NAN; rows * (columns + GAP)];
    for (index, (value, chance)) in values.into_iter().zip(chances).enumerate() {
        let (row, column) = (index / columns, index % columns);
        let kept = chance < 2.0 * density - 1.0 && (row > 0 || density == 1.0);
        matrix[row * (columns + GAP) + column] = if kept { value } else { 0.0 };
    }
    matrix
}

/// Calls a test with one and three threads and every instruction set that fuses additions, so that
/// one chain describes them all. Those that do not, never skip either.
fn wherever_fused(test: impl Fn(&Pool, Isa)) {
    everywhere(|pool, isa| {
        if isa != Isa::Portable || cfg!(target_arch = "aarch64") {
            test(pool, isa);
        }
    });
}

/// A sum of products, chain by chain.
fn chained<'a>(start: f32, terms: impl Iterator<Item = (&'a f32, &'a f32)>) -> f32 {
    let (mut earlier, mut chain) = (None, start);
    for (index, (a, b)) in terms.enumerate() {
        if index > 0 && index.is_multiple_of(CHAIN) {
            earlier = Some(earlier.map_or(chain, |earlier| earlier + chain));
            chain = 0.0;
        }
        chain = a.mul_add(*b, chain);
    }
    earlier.map_or(chain, |earlier| earlier + chain)
}

fn assert_same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.to_bits(), want.to_bits(), "{what}, element {index}: {got} or {want}");
    }
}

#[test]
fn forward_skips_zero_inputs() {
    for ((rows, inputs, outputs), density) in cases() {
        let layout = PanelLayout { inputs, outputs };
        let x = thin(rows, inputs, density, 1);
        let (weight, bias) = (noise(inputs * outputs, 2), noise(outputs, 3));
        let key = MaskKey { seed: 9, site: 8, step: 7, drop15: 1 << 14 };
        let dropout = Dropout { key, first_sample: 6, rows_per_sample: 1, rows: MaskRows::Own };
        let mut want = vec![9.0; rows * (outputs + GAP)];
        for (row, x) in x.chunks(inputs + GAP).enumerate() {
            for (output, weights) in weight.chunks(inputs).enumerate() {
                let sum = chained(bias[output], x.iter().zip(weights)).max(0.0);
                let kept = keep(&key, 6 + row as u32, output as u32);
                let y = if kept { sum * key.scale() } else { 0.0 };
                want[row * (outputs + GAP) + output] = y;
            }
        }
        wherever_fused(|pool, isa| {
            let mut y = vec![9.0; rows * (outputs + GAP)];
            let forward = Forward {
                layout,
                rows,
                x: &x,
                x_stride: inputs + GAP,
                weight: &packed(layout, &weight),
                start: Start::Bias(&padded(layout, &bias)),
                activation: Activation::Relu,
                dropout: Some(dropout),
                y: &mut y,
                y_stride: outputs + GAP,
            };
            forward.run(pool, isa);
            assert_same(&y, &want, &format!("{isa} {rows}x{inputs}x{outputs} at {density}"));
        });
    }
}

#[test]
fn input_gradient_skips_zero_output_gradients() {
    // The roles of the extents are exchanged, so that inputs are the columns.
    for ((rows, outputs, inputs), density) in cases() {
        let layout = PanelLayout { inputs, outputs };
        let dy = thin(rows, outputs, density, 4);
        let weight = noise(inputs * outputs, 5);
        let y = thin(rows, inputs, 0.25, 8);
        let mut want = vec![9.0; rows * (inputs + GAP)];
        for (dy, dx) in dy.chunks(outputs + GAP).zip(want.chunks_mut(inputs + GAP)) {
            for (input, dx) in dx[..inputs].iter_mut().enumerate() {
                *dx = chained(0.0, dy.iter().zip(weight[input..].iter().step_by(inputs)));
            }
        }
        for (row, y) in y.chunks(inputs + GAP).enumerate() {
            let dx = &mut want[row * (inputs + GAP)..][..inputs];
            dx.iter_mut().zip(y).for_each(|(dx, &y)| *dx = if y != 0.0 { *dx * 2.0 } else { 0.0 });
        }
        wherever_fused(|pool, isa| {
            let mut dx = vec![9.0; rows * (inputs + GAP)];
            let gradient = InputGradient {
                layout,
                rows,
                dy: &dy,
                dy_stride: outputs + GAP,
                weight: &packed(layout, &weight),
                mask: Some(MaskNonZero { y: &y, scale: 2.0 }),
                dx: &mut dx,
                dx_stride: inputs + GAP,
            };
            gradient.run(pool, isa);
            assert_same(&dx, &want, &format!("{isa} {rows}x{inputs}x{outputs} at {density}"));
        });
    }
}

#[test]
fn weight_gradient_skips_the_zeros_of_the_sparser_factor() {
    for ((rows, inputs, outputs), density) in cases() {
        for (inputs, outputs) in [(inputs, outputs), (outputs, inputs)] {
            for densities in [(density, 1.0), (1.0, density)] {
                check_weight_gradient((rows, inputs, outputs), densities);
            }
        }
    }
}

fn check_weight_gradient((rows, inputs, outputs): (usize, usize, usize), density: (f32, f32)) {
    let layout = PanelLayout { inputs, outputs };
    let x = thin(rows, inputs, density.0, 6);
    let dy = thin(rows, outputs, density.1, 7);
    let column = |matrix: &[f32], columns: usize, column: usize| -> Vec<f32> {
        matrix.chunks(columns + GAP).map(|row| row[column]).collect()
    };
    let inputs_of: Vec<_> = (0..inputs).map(|input| column(&x, inputs, input)).collect();
    let mut want = Vec::new();
    let mut want_bias = vec![0.0; layout.padded_outputs()];
    for (output, bias) in want_bias[..outputs].iter_mut().enumerate() {
        let dy = column(&dy, outputs, output);
        let sums = dy.chunks(COLUMN_CHAIN).map(|chain| f64::from(chain.iter().sum::<f32>()));
        *bias = sums.sum::<f64>() as f32;
        want.extend(inputs_of.iter().map(|x| chained(0.0, x.iter().zip(&dy))));
    }
    wherever_fused(|pool, isa| {
        let mut weight = vec![f32::NAN; layout.len()];
        let mut bias = vec![f32::NAN; layout.padded_outputs()];
        let gradient = WeightGradient {
            layout,
            rows,
            x: &x,
            x_stride: inputs + GAP,
            dy: &dy,
            dy_stride: outputs + GAP,
            bias_dy: &dy,
            weight: GradientTail::Overwrite(&mut weight),
            bias: Some(GradientTail::Overwrite(&mut bias)),
            readers: Readers::Writer,
        };
        gradient.run(pool, isa);
        let what = format!("{isa} {rows}x{inputs}x{outputs} at {density:?}");
        assert_same(&weight, &packed(layout, &want), &what);
        assert_same(&bias, &want_bias, &what);
    });
}

#[test]
fn a_skipped_zero_ignores_an_infinite_weight() {
    let layout = PanelLayout { inputs: 64, outputs: 64 };
    let mut x = vec![0.0; 32 * 64];
    x[5] = f32::NAN;
    let forward_at = |isa: Isa| {
        let mut y = vec![9.0; 32 * 64];
        let forward = Forward {
            layout,
            rows: 32,
            x: &x,
            x_stride: 64,
            weight: &packed(layout, &[f32::INFINITY; 64 * 64]),
            start: Start::Zero,
            activation: Activation::None,
            dropout: None,
            y: &mut y,
            y_stride: 64,
        };
        forward.run(&pool(1), isa);
        y
    };
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
        let y = forward_at(isa);
        assert!(y[..64].iter().all(|value| value.is_nan()), "{isa}: NaN is not skipped");
        assert_eq!(y[64..], [0.0; 31 * 64], "{isa}");
    }
}

fn cases() -> impl Iterator<Item = ((usize, usize, usize), f32)> {
    SIZES.into_iter().flat_map(|size| DENSITIES.map(|density| (size, density)))
}
