// SPDX-License-Identifier: MIT OR Apache-2.0
//! Losses, with PyTorch's semantics.

mod binary_cross_entropy;
mod cross_entropy;
mod mean_squared_error;

pub use crate::op::Reduction;
pub use binary_cross_entropy::BceWithLogits;
pub use cross_entropy::CrossEntropy;
pub use mean_squared_error::Mse;

use crate::graph::Var;
use crate::op::Mismatch;
use crate::{Result, Shape, Tensor};

/// What a network is trained to make small.
///
/// A loss moves to other threads with its trainer.
pub trait Loss: std::fmt::Debug + Send + Sync {
    /// Records the loss of the network's output; `inputs` are the target and then the tensors of
    /// [`inputs`](Loss::inputs).
    fn forward(&self, output: &Var, inputs: &[Var]) -> Var;

    /// Tensors that the loss brings along, such as class weights.
    fn inputs(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// Checks a target before it is used.
    ///
    /// # Errors
    /// [`crate::Error`] that names the first element that cannot be a target.
    fn check(&self, target: &Tensor) -> Result<()>;

    /// Checks a target against the shape of the network's output, as far as the graph's shape rules
    /// cannot.
    ///
    /// # Errors
    /// [`crate::Error`] that names the first element that does not fit.
    fn check_output(&self, _target: &Tensor, _output: &Shape) -> Result<()> {
        Ok(())
    }

    /// What a part of a batch weighs in the loss of the whole batch: the divisor of a mean. A batch
    /// that is trained in micro-batches gives each the share `weight(part) / weight(whole)`.
    /// `None` if the parts' losses simply add up.
    fn weight(&self, target: &Tensor) -> Option<f64>;

    /// Everything that the recorded graph depends on, as text; plans are kept by it.
    fn key(&self) -> String;
}

impl<L: Loss + ?Sized> Loss for Box<L> {
    fn forward(&self, output: &Var, inputs: &[Var]) -> Var {
        (**self).forward(output, inputs)
    }

    fn inputs(&self) -> Vec<Tensor> {
        (**self).inputs()
    }

    fn check(&self, target: &Tensor) -> Result<()> {
        (**self).check(target)
    }

    fn check_output(&self, target: &Tensor, output: &Shape) -> Result<()> {
        (**self).check_output(target, output)
    }

    fn weight(&self, target: &Tensor) -> Option<f64> {
        (**self).weight(target)
    }

    fn key(&self) -> String {
        (**self).key()
    }
}

/// Losses of pairs: of each element of the output and the target at its place. A target of another
/// shape is a mistake, never broadcast: each output would meet the targets of others.
fn of_pairs(op: &str, output: &Var, target: &Var, losses: impl FnOnce() -> Var) -> Var {
    match (output.shape(), target.shape()) {
        (Some(shape), Some(other)) if shape != other => {
            let expected = format!("a target of the output's shape {shape}");
            output.mistake(op, Mismatch::new(expected, other))
        }
        _ => losses(),
    }
}

/// Joins per-element losses by PyTorch's reductions.
fn reduce(losses: &Var, reduction: Reduction) -> Var {
    match reduction {
        Reduction::Mean => losses.mean(),
        Reduction::Sum => losses.sum(),
        Reduction::None => losses.clone(),
    }
}

/// The weight of a part of a batch under a mean or sum over all elements.
fn element_weight(target: &Tensor, reduction: Reduction) -> Option<f64> {
    match reduction {
        Reduction::Mean => Some(target.shape().elements() as f64),
        Reduction::Sum | Reduction::None => None,
    }
}
