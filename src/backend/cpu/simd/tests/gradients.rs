// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{GradientTail, InputGradient, MaskNonZero, Moments, UpdateRule, Updated};
use super::super::{Nesterov, Readers, Step, WeightGradient};
use super::*;

struct Case {
    layout: PanelLayout,
    rows: usize,
    x: Vec<f32>,
    dy: Vec<f32>,
    weight: Vec<f32>,
}

impl Case {
    fn new((rows, inputs, outputs): (usize, usize, usize)) -> Self {
        Case {
            layout: PanelLayout { inputs, outputs },
            rows,
            x: noise(rows * inputs, 4),
            dy: noise(rows * outputs, 5),
            weight: noise(inputs * outputs, 6),
        }
    }

    fn input_gradient(&self, pool: &Pool, isa: Isa, mask: Option<MaskNonZero<'_>>) -> Vec<f32> {
        let PanelLayout { inputs, outputs } = self.layout;
        let mut dx = vec![f32::NAN; self.rows * inputs];
        let gradient = InputGradient {
            layout: self.layout,
            rows: self.rows,
            dy: &self.dy,
            dy_stride: outputs,
            weight: &packed(self.layout, &self.weight),
            mask,
            dx: &mut dx,
            dx_stride: inputs,
        };
        gradient.run(pool, isa);
        dx
    }

    fn weight_gradient(
        &self,
        pool: &Pool,
        isa: Isa,
        weight: GradientTail<'_>,
        bias: GradientTail<'_>,
    ) {
        let PanelLayout { inputs, outputs } = self.layout;
        let gradient = WeightGradient {
            layout: self.layout,
            rows: self.rows,
            x: &self.x,
            x_stride: inputs,
            dy: &self.dy,
            dy_stride: outputs,
            bias_dy: &self.dy,
            weight,
            bias: Some(bias),
            readers: Readers::All,
        };
        gradient.run(pool, isa);
    }

    /// `[outputs, inputs]`.
    fn want_weight(&self) -> Vec<f64> {
        let PanelLayout { inputs, outputs } = self.layout;
        let mut sums = vec![0.0; inputs * outputs];
        for (x, dy) in self.x.chunks(inputs).zip(self.dy.chunks(outputs)) {
            for (sums, &dy) in sums.chunks_mut(inputs).zip(dy) {
                sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(dy));
            }
        }
        sums
    }

    fn want_bias(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.layout.outputs];
        for dy in self.dy.chunks(self.layout.outputs) {
            sums.iter_mut().zip(dy).for_each(|(sum, &dy)| *sum += f64::from(dy));
        }
        sums
    }
}

fn unpacked(layout: PanelLayout, panels: &[f32]) -> Vec<f32> {
    let mut rows = vec![0.0; layout.inputs * layout.outputs];
    layout.unpack(panels, &mut rows);
    // What is left after taking every weight out is padding.
    let zeros = panels.iter().filter(|&&value| value == 0.0).count();
    assert!(zeros >= layout.len() - rows.len(), "padding is not zero");
    rows
}

#[test]
fn input_gradient_is_the_product_with_the_weights() {
    for size in SIZES {
        let case = Case::new(size);
        let (_, inputs, outputs) = size;
        let mut want = vec![0.0; case.rows * inputs];
        for (want, dy) in want.chunks_mut(inputs).zip(case.dy.chunks(outputs)) {
            for (weights, &dy) in case.weight.chunks(inputs).zip(dy) {
                want.iter_mut()
                    .zip(weights)
                    .for_each(|(sum, &w)| *sum += f64::from(w) * f64::from(dy));
            }
        }
        let mut y = noise(case.rows * inputs, 7);
        y.iter_mut().step_by(3).for_each(|value| *value = 0.0);
        y[case.rows * inputs / 2] = f32::NAN;
        let mask = |(want, y): (&f64, &f32)| if *y != 0.0 { want * 1.25 } else { 0.0 };
        let masked: Vec<f64> = want.iter().zip(&y).map(mask).collect();
        everywhere(|pool, isa| {
            assert_close(&case.input_gradient(pool, isa, None), &want, rounding(outputs));
            let mask = MaskNonZero { y: &y, scale: 1.25 };
            assert_close(
                &case.input_gradient(pool, isa, Some(mask)),
                &masked,
                1.25 * rounding(outputs),
            );
        });
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
        let dx = case.input_gradient(pool, isa, Some(MaskNonZero { y: &y, scale: 1.0 }));
        assert_eq!(dx[inputs + 3], f32::INFINITY, "{isa}");
        assert!(dx[inputs + 4].is_finite() && dx[inputs + 4] != 0.0, "{isa}");
        assert_eq!(dx.iter().filter(|&&dx| dx != 0.0).count(), 2, "{isa}");
    });
}

#[test]
fn weight_gradient_overwrites_and_accumulates() {
    for size in SIZES.into_iter().chain([(2500, 14, 40)]) {
        let case = Case::new(size);
        let (want, want_bias) = (case.want_weight(), case.want_bias());
        everywhere(|pool, isa| {
            let mut weight = vec![f32::NAN; case.layout.len()];
            let mut bias = vec![f32::NAN; case.layout.padded_outputs()];
            let (to, bias_to) =
                (GradientTail::Overwrite(&mut weight), GradientTail::Overwrite(&mut bias));
            case.weight_gradient(pool, isa, to, bias_to);
            assert_close(&unpacked(case.layout, &weight), &want, rounding(case.rows));
            assert_close(&bias[..case.layout.outputs], &want_bias, rounding(case.rows));
            let (once, bias_once) = (weight.clone(), bias.clone());
            let (to, bias_to) =
                (GradientTail::Accumulate(&mut weight), GradientTail::Accumulate(&mut bias));
            case.weight_gradient(pool, isa, to, bias_to);
            assert!(weight.iter().zip(&once).all(|(twice, once)| *twice == 2.0 * once));
            assert!(bias.iter().zip(&bias_once).all(|(twice, once)| *twice == 2.0 * once));
        });
    }
}

#[test]
fn update_in_the_tail_is_update_after_the_gradient() {
    let sgd = UpdateRule::Sgd {
        learning_rate: 0.1,
        momentum: 0.9,
        dampening: 0.1,
        nesterov: Nesterov::Off,
        weight_decay: 0.01,
        step: Step::Later,
    };
    for size in SIZES {
        let case = Case::new(size);
        let layout = case.layout;
        everywhere(|pool, isa| {
            let start = (packed(layout, &case.weight), vec![0.25; layout.padded_outputs()]);
            let (mut weight, mut bias) = start.clone();
            let (mut buffer, mut bias_buffer) = (start.0.clone(), start.1.clone());
            let tail = |values, momentum| GradientTail::Update {
                rule: sgd,
                scale: 0.5,
                updated: Updated { values, moments: Moments::One(momentum), average: None },
            };
            let (weight_tail, bias_tail) =
                (tail(&mut weight, &mut buffer), tail(&mut bias, &mut bias_buffer));
            case.weight_gradient(pool, isa, weight_tail, bias_tail);

            let (mut gradient, mut bias_gradient) =
                (vec![0.0; layout.len()], vec![0.0; layout.padded_outputs()]);
            let (to, bias_to) = (
                GradientTail::Overwrite(&mut gradient),
                GradientTail::Overwrite(&mut bias_gradient),
            );
            case.weight_gradient(pool, isa, to, bias_to);
            let (mut want, mut want_bias) = start.clone();
            let (mut momentum, mut bias_momentum) = start;
            let updated =
                Updated { values: &mut want, moments: Moments::One(&mut momentum), average: None };
            super::super::update(pool, isa, &sgd, &gradient, 0.5, updated);
            let updated = Updated {
                values: &mut want_bias,
                moments: Moments::One(&mut bias_momentum),
                average: None,
            };
            super::super::update(pool, isa, &sgd, &bias_gradient, 0.5, updated);
            assert_eq!((weight, buffer), (want, momentum), "{isa} {size:?}");
            assert_eq!((bias, bias_buffer), (want_bias, bias_momentum), "{isa} {size:?}");
        });
    }
}

#[test]
fn padding_stays_zero_under_infinite_inputs() {
    let mut case = Case::new((20, 30, 10));
    case.x[3] = f32::INFINITY;
    everywhere(|pool, isa| {
        let mut weight = vec![f32::NAN; case.layout.len()];
        let mut bias = vec![f32::NAN; case.layout.padded_outputs()];
        let (to, bias_to) =
            (GradientTail::Overwrite(&mut weight), GradientTail::Overwrite(&mut bias));
        case.weight_gradient(pool, isa, to, bias_to);
        unpacked(case.layout, &weight);
        assert_eq!(bias[10..], [0.0; 6]);
    });
}
