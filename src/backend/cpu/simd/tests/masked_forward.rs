// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linear layers whose dropout drops so much that only what stays is computed.

use super::super::{Activation, Dropout, Forward, Start};
use super::*;
use crate::philox::{keep, MaskKey};

/// Rows, inputs, outputs: ends inside vectors, chunks, panels, groups and blocks of rows, and each
/// number of held vectors.
const SIZES: [(usize, usize, usize); 6] =
    [(70, 100, 64), (149, 784, 50), (40, 33, 10), (130, 208, 96), (30, 512, 16), (64, 150, 130)];

fn key(drop15: u16) -> MaskKey {
    MaskKey { seed: 0x1234_5678_9abc_def0, site: 7, step: 5, drop15 }
}

struct Case {
    layout: PanelLayout,
    rows: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new((rows, inputs, outputs): (usize, usize, usize)) -> Self {
        Case {
            layout: PanelLayout { inputs, outputs },
            rows,
            x: noise(rows * inputs, 1),
            weight: noise(inputs * outputs, 2),
            bias: noise(outputs, 3),
        }
    }

    fn run(&self, pool: &Pool, isa: Isa, activation: Activation, dropout: Dropout) -> Vec<f32> {
        let PanelLayout { inputs, outputs } = self.layout;
        let mut y = vec![f32::NAN; self.rows * outputs];
        let forward = Forward {
            layout: self.layout,
            rows: self.rows,
            x: &self.x,
            x_stride: inputs,
            weight: &packed(self.layout, &self.weight),
            start: Start::Bias(&padded(self.layout, &self.bias)),
            activation,
            dropout: Some(dropout),
            y: &mut y,
            y_stride: outputs,
        };
        forward.run(pool, isa);
        y
    }

    /// The element of a layer without activation, in f64, and whether it is kept.
    fn want(&self, index: usize, dropout: &Dropout) -> (f64, bool) {
        let PanelLayout { inputs, outputs } = self.layout;
        let (row, output) = (index / outputs, index % outputs);
        let (x, weight) = (&self.x[row * inputs..], &self.weight[output * inputs..]);
        let products =
            x.iter().zip(weight).take(inputs).map(|(&x, &w)| f64::from(x) * f64::from(w));
        let sum = f64::from(self.bias[output]) + products.sum::<f64>();
        let sample = dropout.first_sample + (row / dropout.rows_per_sample) as u32;
        let element = row % dropout.rows_per_sample * outputs + output;
        (sum, keep(&dropout.key, sample, element as u32))
    }
}

#[test]
fn what_stays_is_the_product_and_the_rest_is_zero() {
    for size in SIZES {
        for (drop15, rows_per_sample) in [(1 << 14, 1), (30_000, 1), (1 << 14, 3), (1 << 15, 1)] {
            let case = Case::new(size);
            let dropout = Dropout { key: key(drop15), first_sample: 1000, rows_per_sample };
            let scale = f64::from(dropout.key.scale());
            let want: Vec<f64> = (0..case.rows * case.layout.outputs)
                .map(|index| match case.want(index, &dropout) {
                    (sum, true) => sum.max(0.0) * scale,
                    (_, false) => 0.0,
                })
                .collect();
            everywhere(|pool, isa| {
                let y = case.run(pool, isa, Activation::Relu, dropout);
                assert_close(&y, &want, scale.max(1.0) * rounding(case.layout.inputs));
                let alone = case.run(&super::pool(1), isa, Activation::Relu, dropout);
                let same = y.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{isa}: bits depend on the number of threads");
            });
        }
    }
}

#[test]
fn long_activations_follow_too() {
    let case = Case::new((70, 100, 50));
    let dropout = Dropout { key: key(1 << 14), first_sample: 0, rows_per_sample: 1 };
    let want: Vec<f64> = (0..70 * 50)
        .map(|index| match case.want(index, &dropout) {
            (sum, true) => 2.0 * sum.tanh(),
            (_, false) => 0.0,
        })
        .collect();
    everywhere(|pool, isa| {
        let y = case.run(pool, isa, Activation::Tanh, dropout);
        assert_close(&y, &want, 2.0 * rounding(100));
    });
}

#[test]
fn infinite_weights_show_only_where_something_stays() {
    let mut case = Case::new((64, 100, 40));
    case.weight[5 * 100 + 99] = f32::INFINITY;
    let dropout = Dropout { key: key(1 << 14), first_sample: 0, rows_per_sample: 1 };
    everywhere(|pool, isa| {
        let y = case.run(pool, isa, Activation::None, dropout);
        for (index, value) in y.iter().enumerate() {
            let stays = keep(&dropout.key, (index / 40) as u32, (index % 40) as u32);
            assert_eq!(value.is_finite(), !(stays && index % 40 == 5), "{isa} element {index}");
        }
    });
}

/// Elements that stay and whose sums, halved again, are not those of a layer that drops nothing.
fn differing(case: &Case, isa: Isa) -> usize {
    let layer = |drop15| {
        let dropout = Dropout { key: key(drop15), first_sample: 0, rows_per_sample: 1 };
        case.run(&pool(1), isa, Activation::None, dropout)
    };
    let (all, half) = (layer(0), layer(1 << 14));
    all.iter().zip(&half).filter(|(all, half)| **half != 0.0 && **half != 2.0 * **all).count()
}

#[test]
fn dot_products_are_chosen_for_many_rows() {
    let (many, few) = (Case::new((64, 256, 64)), Case::new((8, 256, 64)));
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
        // The order of a sum shows in its last bits.
        assert!(differing(&many, isa) > 0, "{isa}: no dot product was computed");
        assert_eq!(differing(&few, isa), 0, "{isa}: weights were turned for few rows");
    }
}
