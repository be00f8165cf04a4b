// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mean squared error.

use super::{element_weight, of_pairs, reduce, Loss, Reduction};
use crate::graph::Var;
use crate::{Result, Tensor};

/// `(x - t)^2`, as `torch.nn.MSELoss`.
///
/// # Shapes
/// Output and target have one shape, else tracing reports both; the result is a scalar, or has that
/// shape with [`Reduction::None`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mse {
    /// How the elements' losses are joined.
    pub reduction: Reduction,
}

impl Loss for Mse {
    fn forward(&self, output: &Var, target: &Var, _own: &[Var]) -> Var {
        of_pairs("mse", output, target, || reduce(&(output - target).square(), self.reduction))
    }

    fn check(&self, target: &Tensor) -> Result<()> {
        target.values().map(|_| ())
    }

    fn weight(&self, _samples: usize, target: &Tensor) -> Option<f64> {
        element_weight(target, self.reduction)
    }

    fn key(&self) -> String {
        format!("{self:?}")
    }
}
