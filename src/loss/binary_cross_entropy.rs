// SPDX-License-Identifier: MIT OR Apache-2.0
//! Binary cross-entropy on logits.

use super::{element_weight, of_pairs, reduce, Loss, Reduction};
use crate::graph::Var;
use crate::op::{Binary, Op};
use crate::{Result, Tensor};

/// `-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x))`, as `torch.nn.BCEWithLogitsLoss`.
///
/// Finite for every finite logit; the small loss and gradient of a sure and right logit keep all
/// their digits, where PyTorch's gradient of a sure 1 and its loss of a sure 0 become 0.
///
/// # Shapes
/// Logits and target have one shape, else tracing reports both; the result is a scalar, or has that
/// shape with [`Reduction::None`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BceWithLogits {
    /// How the elements' losses are joined.
    pub reduction: Reduction,
}

impl Loss for BceWithLogits {
    fn forward(&self, output: &Var, target: &Var, _own: &[Var]) -> Var {
        of_pairs("bce_with_logits", output, target, || {
            let losses = output.apply(Op::Binary(Binary::LogisticLoss), &[target]);
            reduce(&losses, self.reduction)
        })
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
