// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the gradients of a scaled loss to those of the loss, if they are finite.

use super::{clip_coefficient, Array, Mismatch, TensorType};
use crate::loss_scale::{LossScale, Overflow};
use crate::{DType, Shape};

/// `(scale, gradients...) -> (coefficient, overflow, norm)`: what turns gradients of a scaled loss into
/// those that an update takes, the scale if one of them is not finite and else 0, and the global
/// norm of the loss's own gradients. Where there is an overflow, the coefficient is 0 and the update is
/// skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unscale {
    /// Largest global norm, if gradients are clipped too.
    pub max_norm: Option<f64>,
    /// How the scale goes on.
    pub scale: LossScale,
}

impl Unscale {
    /// Place of the overflow among the results.
    pub const OVERFLOW: usize = 1;
    /// Place of the norm among the results.
    pub const NORM: usize = 2;

    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let number = TensorType::f32(Shape::scalar());
        match inputs {
            [scale, gradients @ ..]
                if **scale == number && gradients.iter().all(|ty| ty.dtype == DType::F32) =>
            {
                Ok(vec![number.clone(), number.clone(), number])
            }
            _ => Err(Mismatch::new("a scale and gradients", super::update::describe(inputs))),
        }
    }

    pub(super) fn eval(self, inputs: &[&Array]) -> Vec<Array> {
        let scale = inputs[0].data[0];
        let gradients = || inputs[1..].iter().flat_map(|gradient| &gradient.data);
        let norm = gradients().map(|g| (g / scale).powi(2)).sum::<f64>().sqrt();
        let overflow = match gradients().all(|gradient| gradient.is_finite()) {
            true => Overflow::None,
            false => Overflow::Found,
        };
        let numbers = match overflow {
            Overflow::None => [self.clip(norm) / scale, 0.0, norm],
            Overflow::Found => [0.0, scale, norm],
        };
        numbers.map(Array::scalar).into()
    }

    /// What clips gradients of a norm.
    pub(crate) fn clip(self, norm: f64) -> f64 {
        self.max_norm.map_or(1.0, |max_norm| clip_coefficient(max_norm, norm))
    }
}
