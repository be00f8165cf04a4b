// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linear layers whose dropout drops so much that only what stays is computed.

use super::super::{Activation, Dropout};
use super::linear::Case;
use super::*;
use crate::philox::{keep, MaskKey};

/// Rows, inputs, outputs: ends inside vectors, chunks, panels, groups and blocks of rows, and each
/// number of held vectors.
const SIZES: [(usize, usize, usize); 6] =
    [(70, 100, 64), (149, 784, 50), (40, 33, 10), (130, 208, 96), (30, 512, 16), (64, 150, 130)];

fn dropout(drop15: u16, rows_per_sample: usize) -> Dropout {
    let key = MaskKey { seed: 0x1234_5678_9abc_def0, site: 7, step: 5, drop15 };
    Dropout { key, first_sample: 1000, rows_per_sample }
}

/// Whether an element of a matrix with so many columns is kept, by the scalar definition.
fn is_kept(dropout: &Dropout, columns: usize, index: usize) -> bool {
    let (row, column) = (index / columns, index % columns);
    let sample = dropout.first_sample + (row / dropout.rows_per_sample) as u32;
    let element = row % dropout.rows_per_sample * columns + column;
    keep(&dropout.key, sample, element as u32)
}

/// A layer's outputs in f64.
fn wanted(case: &Case, dropout: &Dropout, activation: fn(f64) -> f64) -> Vec<f64> {
    let scale = f64::from(dropout.key.scale());
    let output = |(index, sum)| {
        if is_kept(dropout, case.layout.outputs, index) {
            activation(sum) * scale
        } else {
            0.0
        }
    };
    case.want().into_iter().enumerate().map(output).collect()
}

#[test]
fn what_stays_is_the_product_and_the_rest_is_zero() {
    for size in SIZES {
        for (drop15, rows_per_sample) in [(1 << 14, 1), (30_000, 1), (1 << 14, 3), (1 << 15, 1)] {
            let case = Case::new(size);
            let dropout = dropout(drop15, rows_per_sample);
            let want = wanted(&case, &dropout, |sum| sum.max(0.0));
            let tolerance = f64::from(dropout.key.scale()).max(1.0) * rounding(case.layout.inputs);
            everywhere(|pool, isa| {
                let y = case.run(pool, isa, Activation::Relu, Some(dropout));
                assert_close(&y, &want, tolerance);
                let alone = case.run(&super::pool(1), isa, Activation::Relu, Some(dropout));
                let same = y.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{isa}: bits depend on the number of threads");
            });
        }
    }
}

#[test]
fn long_activations_follow_too() {
    let case = Case::new((70, 100, 50));
    let dropout = dropout(1 << 14, 1);
    let want = wanted(&case, &dropout, f64::tanh);
    everywhere(|pool, isa| {
        let y = case.run(pool, isa, Activation::Tanh, Some(dropout));
        assert_close(&y, &want, 2.0 * rounding(100));
    });
}

#[test]
fn infinite_weights_show_only_where_something_stays() {
    let mut case = Case::new((64, 100, 40));
    case.weight[5 * 100 + 99] = f32::INFINITY;
    let dropout = dropout(1 << 14, 1);
    everywhere(|pool, isa| {
        let y = case.run(pool, isa, Activation::None, Some(dropout));
        for (index, value) in y.iter().enumerate() {
            let shows = index % 40 == 5 && is_kept(&dropout, 40, index);
            assert_eq!(value.is_finite(), !shows, "{isa} element {index}");
        }
    });
}

/// Elements that stay when so much is dropped, and whose sums, without the scale, are not those of a
/// layer that drops nothing.
fn differing(case: &Case, isa: Isa, drop15: u16) -> usize {
    let layer = |drop15| case.run(&pool(1), isa, Activation::None, Some(dropout(drop15, 1)));
    let (all, some) = (layer(0), layer(drop15));
    // A power of two, so that no bit is lost.
    let scale = dropout(drop15, 1).key.scale();
    all.iter().zip(&some).filter(|(all, some)| **some != 0.0 && **some != scale * **all).count()
}

#[test]
fn dot_products_are_chosen_for_many_rows() {
    const HALF: u16 = 1 << 14;
    const SEVEN_EIGHTHS: u16 = 7 << 12;
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
        // The order of a sum shows in its last bits.
        for (rows, drop15) in [(64, HALF), (20, SEVEN_EIGHTHS)] {
            let case = Case::new((rows, 256, 64));
            let differing = differing(&case, isa, drop15);
            assert!(differing > 0, "{isa}: no dot product was computed for {rows} rows");
        }
        for (rows, drop15) in [(8, HALF), (17, HALF), (1, SEVEN_EIGHTHS), (5, SEVEN_EIGHTHS)] {
            let case = Case::new((rows, 256, 64));
            let differing = differing(&case, isa, drop15);
            assert_eq!(differing, 0, "{isa}: weights were turned for {rows} rows");
        }
    }
}
