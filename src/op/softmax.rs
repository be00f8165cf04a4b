// SPDX-License-Identifier: MIT OR Apache-2.0
//! Softmax and its logarithm over the innermost extent.

use super::{update::describe, Array, Mismatch, TensorType};
use crate::DType;

/// Which form of softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Softmax {
    /// `exp(x) / sum(exp(x))`
    Plain,
    /// `x - log(sum(exp(x)))`
    Log,
}

impl Softmax {
    pub(super) fn eval(self, x: &Array) -> Array {
        let mut data = Vec::with_capacity(x.data.len());
        for row in x.rows() {
            // Shifting by the largest element keeps exp within range and changes nothing else.
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|&v| (v - largest).exp()).sum();
            data.extend(row.iter().map(|&v| match self {
                Softmax::Plain => (v - largest).exp() / sum,
                Softmax::Log => v - largest - sum.ln(),
            }));
        }
        Array::new(x.shape.clone(), data)
    }

    pub(super) fn eval_gradient(self, y: &Array, dy: &Array) -> Array {
        let mut data = Vec::with_capacity(y.data.len());
        for (y, dy) in y.rows().zip(dy.rows()) {
            match self {
                Softmax::Plain => {
                    let dot: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
                    data.extend(y.iter().zip(dy).map(|(y, dy)| y * (dy - dot)));
                }
                Softmax::Log => {
                    let sum: f64 = dy.iter().sum();
                    data.extend(y.iter().zip(dy).map(|(y, dy)| dy - y.exp() * sum));
                }
            }
        }
        Array::new(y.shape.clone(), data)
    }
}

pub(super) fn infer(inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match inputs {
        [x] if x.dtype == DType::F32 && x.shape.rank() >= 1 && x.shape.last() >= 1 => {
            Ok((*x).clone())
        }
        _ => {
            let expected = "one floating-point tensor with a non-empty innermost extent";
            Err(Mismatch::new(expected, describe(inputs)))
        }
    }
}
