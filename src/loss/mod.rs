// SPDX-License-Identifier: MIT OR Apache-2.0
//! Losses, with PyTorch's semantics.

mod binary_cross_entropy;
mod cross_entropy;
mod from_fn;
mod mean_squared_error;

pub use crate::op::Reduction;
pub use binary_cross_entropy::BceWithLogits;
pub use cross_entropy::CrossEntropy;
pub use from_fn::{from_fn, FromFn};
pub use mean_squared_error::Mse;

use crate::graph::Var;
use crate::op::Mismatch;
use crate::values::Values;
use crate::{Result, Shape, Tensor};

/// What a network is trained to make small, given its outputs and the targets for them.
///
/// One output is compared with one target unless another [structure](Values) is named;
/// [`from_fn`] makes a loss of a closure. A loss moves to other threads with its trainer.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no loss of outputs `{Outputs}` against targets `{Targets}`",
    note = "`kiln::loss::from_fn` makes one of a closure"
)]
pub trait Loss<Outputs: Values = Var, Targets: Values = Var>:
    std::fmt::Debug + Send + Sync
{
    /// Records the loss; `own` are the tensors of [`inputs`](Loss::inputs).
    fn forward(&self, outputs: &Outputs, targets: &Targets, own: &[Var]) -> Var;

    /// Tensors that the loss brings along, such as class weights.
    fn inputs(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// Checks targets before they are used.
    ///
    /// # Errors
    /// [`crate::Error`] that names the first element that cannot be a target.
    fn check(&self, targets: &Targets::Of<Tensor>) -> Result<()>;

    /// Checks targets against the shapes of the network's outputs, as far as the graph's shape rules
    /// cannot.
    ///
    /// # Errors
    /// [`crate::Error`] that names the first element that does not fit.
    fn check_output(
        &self,
        _targets: &Targets::Of<Tensor>,
        _outputs: &Outputs::Of<Shape>,
    ) -> Result<()> {
        Ok(())
    }

    /// What a part of a batch, of so many samples, weighs in the loss of the whole batch: the divisor
    /// of a mean. A batch that is trained in micro-batches gives each the share `weight(part) /
    /// weight(whole)`. `None` if the parts' losses simply add up.
    fn weight(&self, samples: usize, targets: &Targets::Of<Tensor>) -> Option<f64>;

    /// Everything that the recorded graph depends on, as text; plans are kept by it.
    fn key(&self) -> String;

    /// What a checkpoint notes, to compare it when the training is resumed: the key, or the
    /// [operations](Noted::Operations) where a key of another process says nothing.
    fn noted(&self) -> Noted {
        Noted::Key
    }
}

/// What a checkpoint notes of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Its [key](Loss::key).
    Key,
    /// The operations that it records for the batch, with all their numbers.
    Operations,
}

impl<Outputs: Values, Targets: Values, L: Loss<Outputs, Targets> + ?Sized> Loss<Outputs, Targets>
    for Box<L>
{
    fn forward(&self, outputs: &Outputs, targets: &Targets, own: &[Var]) -> Var {
        (**self).forward(outputs, targets, own)
    }

    fn inputs(&self) -> Vec<Tensor> {
        (**self).inputs()
    }

    fn check(&self, targets: &Targets::Of<Tensor>) -> Result<()> {
        (**self).check(targets)
    }

    fn check_output(
        &self,
        targets: &Targets::Of<Tensor>,
        outputs: &Outputs::Of<Shape>,
    ) -> Result<()> {
        (**self).check_output(targets, outputs)
    }

    fn weight(&self, samples: usize, targets: &Targets::Of<Tensor>) -> Option<f64> {
        (**self).weight(samples, targets)
    }

    fn key(&self) -> String {
        (**self).key()
    }

    fn noted(&self) -> Noted {
        (**self).noted()
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
