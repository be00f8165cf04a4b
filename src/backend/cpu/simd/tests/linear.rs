// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{Activation, Dropout, Forward, MaskRows, PanelLayout, Start};
use super::*;
use crate::philox::{keep, MaskKey};

/// `x * weight^T + bias` in f64.
fn product(x: &[f32], weight: &[f32], bias: &[f32], inputs: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks(inputs) {
        for (weights, &bias) in weight.chunks(inputs).zip(bias) {
            let terms = row.iter().zip(weights).map(|(&a, &b)| f64::from(a) * f64::from(b));
            y.push(f64::from(bias) + terms.sum::<f64>());
        }
    }
    y
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

    fn run(
        &self,
        pool: &Pool,
        isa: Isa,
        activation: Activation,
        dropout: Option<Dropout>,
    ) -> Vec<f32> {
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
            dropout,
            y: &mut y,
            y_stride: outputs,
        };
        forward.run(pool, isa);
        y
    }

    /// The layer without activation and dropout.
    fn want(&self) -> Vec<f64> {
        product(&self.x, &self.weight, &self.bias, self.layout.inputs)
    }
}

#[test]
fn panels_hold_each_weight_once_and_zeros_between() {
    for (_, inputs, outputs) in SIZES {
        let layout = PanelLayout { inputs, outputs };
        let rows: Vec<f32> = (1..=inputs * outputs).map(|value| value as f32).collect();
        let panels = packed(layout, &rows);
        assert_eq!(panels.iter().filter(|&&value| value != 0.0).count(), rows.len());
        assert_eq!(panels[layout.offset(outputs - 1, inputs - 1)], rows[rows.len() - 1]);
        let mut back = vec![0.0; rows.len()];
        layout.unpack(&panels, &mut back);
        assert_eq!(back, rows);
    }
}

#[test]
fn forward_is_the_product_plus_bias() {
    for size in SIZES {
        let case = Case::new(size);
        let want = case.want();
        let tolerance = rounding(size.1);
        everywhere(|pool, isa| {
            assert_close(&case.run(pool, isa, Activation::None, None), &want, tolerance);
        });
    }
}

/// An activation and what it is in f64.
type Function = (Activation, fn(f64) -> f64);

#[test]
fn activations_follow_the_product() {
    let activations: [Function; 5] = [
        (Activation::Relu, |x| x.max(0.0)),
        (Activation::LeakyRelu(0.1), |x| if x > 0.0 { x } else { x * f64::from(0.1f32) }),
        (Activation::Tanh, f64::tanh),
        (Activation::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Activation::Silu, |x| x / (1.0 + (-x).exp())),
    ];
    for (activation, function) in activations {
        let case = Case::new((20, 100, 50));
        let want: Vec<f64> = case.want().into_iter().map(function).collect();
        everywhere(|pool, isa| {
            assert_close(&case.run(pool, isa, activation, None), &want, rounding(100));
        });
    }
}

#[test]
fn dropout_selects_by_the_scalar_mask() {
    let some = MaskKey { seed: 0x1234_5678_9abc_def0, site: 77, step: 5, drop15: 9830 };
    let (most, all) = (MaskKey { drop15: 30_000, ..some }, MaskKey { drop15: 1 << 15, ..some });
    for size in SIZES {
        for (key, rows_per_sample, activation) in [
            (some, 1, Activation::Relu),
            (some, 5, Activation::Tanh),
            (most, 3, Activation::None),
            (all, 1, Activation::Relu),
        ] {
            let case = Case::new(size);
            let outputs = case.layout.outputs;
            let dropout = Dropout { key, first_sample: 1000, rows_per_sample, rows: MaskRows::Own };
            everywhere(|pool, isa| {
                let plain = case.run(pool, isa, activation, None);
                let got = case.run(pool, isa, activation, Some(dropout));
                for (index, (&got, &plain)) in got.iter().zip(&plain).enumerate() {
                    let (row, column) = (index / outputs, index % outputs);
                    let element = row % rows_per_sample * outputs + column;
                    let kept = keep(&key, 1000 + (row / rows_per_sample) as u32, element as u32);
                    let want = if kept { plain * key.scale() } else { 0.0 };
                    assert_eq!(got.to_bits(), want.to_bits(), "{isa} row {row} column {column}");
                }
            });
        }
    }
}

#[test]
fn nan_passes_relu_and_dropped_nan_is_zero() {
    let mut case = Case::new((64, 40, 128));
    case.x[0] = f32::NAN;
    let key = MaskKey { seed: 1, site: 2, step: 3, drop15: 1 << 14 };
    everywhere(|pool, isa| {
        let y = case.run(pool, isa, Activation::Relu, None);
        assert!(y[..128].iter().all(|value| value.is_nan()));
        assert!(y[128..].iter().all(|value| !value.is_nan()));
        let dropout = Dropout { key, first_sample: 0, rows_per_sample: 1, rows: MaskRows::Own };
        let y = case.run(pool, isa, Activation::Relu, Some(dropout));
        for (column, value) in y[..128].iter().enumerate() {
            assert_eq!(value.is_nan(), keep(&key, 0, column as u32));
            assert!(value.is_nan() || *value == 0.0);
        }
    });
}

#[test]
fn infinite_weights_show_only_where_something_stays() {
    let mut case = Case::new((64, 100, 40));
    case.weight[5 * 100 + 99] = f32::INFINITY;
    let key = MaskKey { seed: 1, site: 7, step: 5, drop15: 1 << 14 };
    let dropout = Dropout { key, first_sample: 0, rows_per_sample: 1, rows: MaskRows::Own };
    everywhere(|pool, isa| {
        let y = case.run(pool, isa, Activation::None, Some(dropout));
        for (index, value) in y.iter().enumerate() {
            let (row, column) = (index / 40, index % 40);
            let shows = column == 5 && keep(&key, row as u32, 5);
            assert_eq!(value.is_finite(), !shows, "{isa} row {row} column {column}");
        }
    });
}

#[test]
fn strides_are_kept() {
    let case = Case::new((13, 33, 17));
    let (rows, inputs, outputs) = (13, 33, 17);
    let mut x = vec![f32::NAN; rows * 40];
    for (row, from) in case.x.chunks_exact(inputs).enumerate() {
        x[row * 40..][..inputs].copy_from_slice(from);
    }
    let want: Vec<f64> = case.want();
    everywhere(|pool, isa| {
        let mut y = vec![9.0; rows * 21];
        let forward = Forward {
            layout: case.layout,
            rows,
            x: &x[..rows * 40 - 7],
            x_stride: 40,
            weight: &packed(case.layout, &case.weight),
            start: Start::Bias(&padded(case.layout, &case.bias)),
            activation: Activation::None,
            dropout: None,
            y: &mut y,
            y_stride: 21,
        };
        forward.run(pool, isa);
        for (y, want) in y.chunks(21).zip(want.chunks(outputs)) {
            assert_close(&y[..outputs], want, rounding(inputs));
            assert_eq!(y[outputs..], [9.0; 4]);
        }
    });
}

#[test]
fn threads_change_no_bit() {
    let case = Case::new((50, 70, 100));
    for isa in Isa::available() {
        let one = case.run(&pool(1), isa, Activation::Gelu, None);
        for threads in [2, 3, 7] {
            assert_eq!(case.run(&pool(threads), isa, Activation::Gelu, None), one);
        }
    }
}
