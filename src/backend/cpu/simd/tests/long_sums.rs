// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums over as many terms as a batch has pixels keep their digits.

use super::super::{
    column_sums, matmul, Activation, Forward, GradientTail, InputGradient, Readers, Start, Strides,
    WeightGradient,
};
use super::*;

/// Terms of the sums.
const TERMS: usize = 1 << 18;

/// Extents of what is summed side by side.
const ROWS: usize = 13;
const COLUMNS: usize = 16;

/// Twice what the products of PyTorch 2.15 were measured to be off, relative to the root mean square of
/// the results: 7.4e-7 for factors in [-1, 1) and 4.8e-7 for factors in [0, 1).
const PRODUCTS: [f64; 2] = [2.0 * 7.4e-7, 2.0 * 4.8e-7];

/// Likewise of its sums of columns: 1.9e-7 and 8.9e-8.
const SUMS: [f64; 2] = [2.0 * 1.9e-7, 2.0 * 8.9e-8];

/// Factors of either sign, and of one.
fn factors(count: usize, seed: u32) -> [Vec<f32>; 2] {
    let values = noise(count, seed);
    let sizes = values.iter().map(|value| value.abs()).collect();
    [values, sizes]
}

/// All dot products of rows of [`TERMS`] values in f64.
fn dots(a: &[f32], b: &[f32]) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    a.chunks(TERMS).flat_map(|a| b.chunks(TERMS).map(move |b| dot(a, b))).collect()
}

fn transposed(matrix: &[f32]) -> Vec<f32> {
    (0..TERMS).flat_map(|term| matrix[term..].iter().step_by(TERMS).copied()).collect()
}

#[track_caller]
fn assert_exact(what: &str, got: &[f32], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let errors = got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).powi(2));
    let error = (errors.sum::<f64>() / want.iter().map(|want| want * want).sum::<f64>()).sqrt();
    assert!(error <= bound, "{what}: {error:e} off, more than {bound:e}");
}

/// Of either kind of factors: rows of terms, columns, what they make, and the bound.
fn each_kind(test: impl Fn(&[f32], &[f32], &[f64], f64)) {
    let kinds = factors(ROWS * TERMS, 1).into_iter().zip(factors(COLUMNS * TERMS, 2));
    for ((a, b), bound) in kinds.zip(PRODUCTS) {
        test(&a, &b, &dots(&a, &b), bound);
    }
}

#[test]
fn forward() {
    let layout = PanelLayout { inputs: TERMS, outputs: COLUMNS };
    each_kind(|x, weight, want, bound| {
        let weight = packed(layout, weight);
        for isa in Isa::available() {
            let mut y = vec![f32::NAN; ROWS * COLUMNS];
            let forward = Forward {
                layout,
                rows: ROWS,
                x,
                x_stride: TERMS,
                weight: &weight,
                start: Start::Zero,
                activation: Activation::None,
                dropout: None,
                y: &mut y,
                y_stride: COLUMNS,
            };
            forward.run(&pool(1), isa);
            assert_exact(&format!("forward on {isa}"), &y, want, bound);
        }
    });
}

#[test]
fn input_gradient() {
    let layout = PanelLayout { inputs: COLUMNS, outputs: TERMS };
    each_kind(|dy, weight, want, bound| {
        let weight = packed(layout, &transposed(weight));
        for isa in Isa::available() {
            let mut dx = vec![f32::NAN; ROWS * COLUMNS];
            let gradient = InputGradient {
                layout,
                rows: ROWS,
                dy,
                dy_stride: TERMS,
                weight: &weight,
                mask: None,
                dx: &mut dx,
                dx_stride: COLUMNS,
            };
            gradient.run(&pool(1), isa);
            assert_exact(&format!("input gradient on {isa}"), &dx, want, bound);
        }
    });
}

#[test]
fn weight_and_bias_gradients() {
    let layout = PanelLayout { inputs: COLUMNS, outputs: ROWS };
    each_kind(|dy, x, want, bound| {
        let want_bias: Vec<f64> =
            dy.chunks(TERMS).map(|row| row.iter().map(|&dy| f64::from(dy)).sum()).collect();
        let (dy, x) = (transposed(dy), transposed(x));
        for isa in Isa::available() {
            let mut weight = vec![f32::NAN; layout.len()];
            let mut bias = vec![f32::NAN; layout.padded_outputs()];
            let gradient = WeightGradient {
                layout,
                rows: TERMS,
                x: &x,
                x_stride: COLUMNS,
                dy: &dy,
                dy_stride: ROWS,
                bias_dy: &dy,
                weight: GradientTail::Overwrite(&mut weight),
                bias: Some(GradientTail::Overwrite(&mut bias)),
                readers: Readers::Writer,
            };
            gradient.run(&pool(1), isa);
            let mut rows = vec![0.0; ROWS * COLUMNS];
            layout.unpack(&weight, &mut rows);
            assert_exact(&format!("weight gradient on {isa}"), &rows, want, bound);
            let sums = SUMS[usize::from(bound == PRODUCTS[1])];
            assert_exact(&format!("bias gradient on {isa}"), &bias[..ROWS], &want_bias, sums);
            let mut columns = vec![f32::NAN; ROWS];
            column_sums(&pool(1), isa, TERMS, ROWS, &dy, &mut columns);
            assert_exact(&format!("column sums on {isa}"), &columns, &want_bias, sums);
        }
    });
}

#[test]
fn products_of_odd_shapes() {
    each_kind(|a, b, want, bound| {
        let mut c = vec![f32::NAN; ROWS * COLUMNS];
        let rows = Strides { row: TERMS as isize, column: 1 };
        let columns = Strides { row: 1, column: TERMS as isize };
        matmul(&pool(2), 1, [ROWS, TERMS, COLUMNS], (a, rows), (b, columns), &mut c);
        assert_exact("product", &c, want, bound);
    });
}
