// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a mean over labels divides by, where the host has the labels: a kernel would have to sum up
//! all of them in each of its blocks.

use super::Lowering;
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::single;
use crate::graph::InputId;
use crate::op::{Nll, Reduction};
use crate::plan::Place;
use crate::{Result, Tensor};

/// The weight of a run's labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Divisor {
    labels: InputId,
    class_weights: Option<InputId>,
    ignore_index: i32,
    classes: usize,
}

impl Divisor {
    /// The sum of the weights of all labels that name a class; NaN for 0, by which no mean divides.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the inputs are not labels and weights.
    pub(crate) fn of(&self, inputs: &[Tensor]) -> Result<f32> {
        let labels = inputs[self.labels.index()].integers()?;
        let weights = self.class_weights.map(|id| inputs[id.index()].values()).transpose()?;
        let weight = |&label: &i32| match usize::try_from(label) {
            Ok(class) if class < self.classes => {
                weights.map_or(1.0, |weights| weights.get(class).copied().unwrap_or(0.0))
            }
            _ => 0.0,
        };
        let kept = labels.iter().filter(|label| **label != self.ignore_index);
        let sum: f64 = kept.map(|label| f64::from(weight(label))).sum();
        Ok(if sum == 0.0 { f32::NAN } else { single(sum) })
    }
}

impl Lowering<'_> {
    /// Where a loss finds what it divides by; none where it divides by nothing or the host does not
    /// have the labels. They are the input at `labels`, class weights follow them.
    pub(super) fn divisor(&mut self, nll: &Nll, classes: usize, labels: usize) -> Address {
        let given = |index: usize| match self.plan.buffer(self.step.reads[index]?).place {
            Place::Uploaded(input, _) => Some(input),
            _ => None,
        };
        let weighted = self.step.inputs.len() > labels + 1;
        let class_weights = weighted.then(|| given(labels + 1)).flatten();
        let known = given(labels).filter(|_| weighted == class_weights.is_some());
        match known.filter(|_| nll.reduction == Reduction::Mean) {
            None => Address::NONE,
            Some(labels) => {
                let ignore_index = nll.ignore_index;
                let divisor = Divisor { labels, class_weights, ignore_index, classes };
                self.scratch.divisor(divisor)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_weigh_what_their_classes_do() -> Result<()> {
        let (labels, weights) = (InputId(1), InputId(2));
        let inputs = [
            Tensor::zeros([5]),
            Tensor::labels([5], vec![0, 2, -100, 7, 2])?,
            Tensor::new([3], vec![0.5, 9.0, 0.25])?,
        ];
        let plain = Divisor { labels, class_weights: None, ignore_index: -100, classes: 3 };
        assert_eq!(plain.of(&inputs)?, 3.0);
        let weighted = Divisor { class_weights: Some(weights), ..plain.clone() };
        assert_eq!(weighted.of(&inputs)?, 1.0);
        let ignoring = Divisor { ignore_index: 2, ..plain.clone() };
        assert_eq!(ignoring.of(&inputs)?, 1.0);
        assert!(Divisor { classes: 0, ..plain }.of(&inputs)?.is_nan());
        Ok(())
    }
}
