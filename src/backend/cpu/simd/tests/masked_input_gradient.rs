// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gradients of inputs that their mask drops for the most part.

use super::super::{InputGradient, MaskNonZero};
use super::*;

/// Rows, inputs, outputs: ends inside groups of rows and blocks of inputs; whole vectors of outputs,
/// which dot products need.
const SIZES: [(usize, usize, usize); 4] =
    [(13, 33, 128), (70, 64, 256), (64, 150, 128), (131, 20, 384)];

/// Noise of which about this share is not zero. The first row is 0.
fn thin(rows: usize, columns: usize, density: f32, seed: u32) -> Vec<f32> {
    let chances = noise(rows * columns, seed + 100);
    let mut values = noise(rows * columns, seed);
    for (index, (value, chance)) in values.iter_mut().zip(chances).enumerate() {
        if chance >= 2.0 * density - 1.0 || index < columns {
            *value = 0.0;
        }
    }
    values
}

/// A layer and the gradient of its output.
struct Case {
    layout: PanelLayout,
    rows: usize,
    dy: Vec<f32>,
    weight: Vec<f32>,
}

impl Case {
    fn new((rows, inputs, outputs): (usize, usize, usize)) -> Self {
        let layout = PanelLayout { inputs, outputs };
        let (dy, weight) = (noise(rows * outputs, 5), noise(outputs * inputs, 7));
        Case { layout, rows, dy, weight }
    }

    /// The gradient of its input, where `y` is not 0, times `scale`.
    fn run(&self, pool: &Pool, isa: Isa, y: &[f32], scale: f32) -> Vec<f32> {
        let PanelLayout { inputs, outputs } = self.layout;
        let mut dx = vec![f32::NAN; self.rows * inputs];
        let gradient = InputGradient {
            layout: self.layout,
            rows: self.rows,
            dy: &self.dy,
            dy_stride: outputs,
            weight: &packed(self.layout, &self.weight),
            mask: Some(MaskNonZero { y, scale }),
            dx: &mut dx,
            dx_stride: inputs,
        };
        gradient.run(pool, isa);
        dx
    }
}

#[test]
fn only_what_passes_is_computed() {
    for (rows, inputs, outputs) in SIZES {
        for density in [0.0, 0.1, 0.35] {
            let case = Case::new((rows, inputs, outputs));
            let y = thin(rows, inputs, density, 6);
            let want: Vec<f64> = (0..rows * inputs)
                .map(|index| {
                    let (row, input) = (index / inputs, index % inputs);
                    let term = |output: usize| {
                        f64::from(case.dy[row * outputs + output])
                            * f64::from(case.weight[output * inputs + input])
                    };
                    if y[index] == 0.0 {
                        0.0
                    } else {
                        2.0 * (0..outputs).map(term).sum::<f64>()
                    }
                })
                .collect();
            everywhere(|pool, isa| {
                let dx = case.run(pool, isa, &y, 2.0);
                assert_close(&dx, &want, 2.0 * rounding(outputs));
                let alone = case.run(&super::pool(1), isa, &y, 2.0);
                let same = dx.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{isa}: bits depend on the number of threads");
            });
        }
    }
}

#[test]
fn what_does_not_pass_ignores_infinite_weights() {
    let (rows, inputs, outputs) = (32, 64, 128);
    let mut case = Case::new((rows, inputs, outputs));
    case.dy.fill(1.0);
    case.weight[3] = f32::INFINITY; // of input 3, which passes in row 1 alone
    let mut y = vec![0.0; rows * inputs];
    (y[inputs + 3], y[inputs + 4]) = (1.0, 1.0);
    everywhere(|pool, isa| {
        let dx = case.run(pool, isa, &y, 1.0);
        assert_eq!(dx[inputs + 3], f32::INFINITY, "{isa}");
        assert!(dx[inputs + 4].is_finite() && dx[inputs + 4] != 0.0, "{isa}");
        let passing = dx.iter().filter(|&&dx| dx != 0.0).count();
        assert_eq!(passing, 2, "{isa}");
    });
}

#[test]
fn dot_products_are_chosen_where_little_passes() {
    let (rows, inputs) = (70, 64);
    let case = Case::new((rows, inputs, 256));
    let (all, few) = (vec![1.0; rows * inputs], thin(rows, inputs, 0.2, 6));
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
        let [chains, dots] = [&all, &few].map(|y| case.run(&pool(1), isa, y, 1.0));
        let passing = (0..rows * inputs).filter(|&index| few[index] != 0.0);
        // The order of a sum shows in its last bits.
        let differing = passing.filter(|&index| chains[index] != dots[index]).count();
        assert!(differing > 0, "{isa}: no dot product was computed");
    }
}
