// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cross-entropy of class scores.

use super::{Loss, Reduction};
use crate::graph::Var;
use crate::op::{Nll, Op, Softmax};
use crate::{Error, Result, Shape, Tensor};

/// Softmax cross-entropy of scores against class labels, as `torch.nn.CrossEntropyLoss`.
///
/// # Shapes
/// Scores `[samples, classes]`, labels `i32 [samples]`; the result is a scalar, or `[samples]` with
/// [`Reduction::None`]. The mean divides by the sum of the labels' weights over the samples that
/// are not ignored; if all are or none has weight, it is NaN.
///
/// ```
/// use kiln::loss::CrossEntropy;
///
/// let loss = CrossEntropy { label_smoothing: 0.1, ..CrossEntropy::default() };
/// assert_eq!(loss.ignore_index, -100);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Samples with this label take no part; -100 by default.
    pub ignore_index: i32,
    /// Share of the target spread evenly over all classes, in `[0, 1]`.
    pub label_smoothing: f32,
    /// One weight per class, each a finite number of 0 or more.
    pub weights: Option<Vec<f32>>,
    /// How the samples' losses are joined.
    pub reduction: Reduction,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        CrossEntropy {
            ignore_index: -100,
            label_smoothing: 0.0,
            weights: None,
            reduction: Reduction::Mean,
        }
    }
}

impl Loss for CrossEntropy {
    fn forward(&self, output: &Var, labels: &Var, weights: &[Var]) -> Var {
        let log_probabilities = output.apply(Op::Softmax(Softmax::Log), &[]);
        let nll = Nll {
            ignore_index: self.ignore_index,
            smoothing: f64::from(self.label_smoothing),
            reduction: self.reduction,
        };
        let inputs: Vec<&Var> = std::iter::once(labels).chain(weights).collect();
        log_probabilities.apply(Op::Nll(nll), &inputs)
    }

    fn inputs(&self) -> Vec<Tensor> {
        let tensor = |weights: &Vec<f32>| Tensor::new([weights.len()], weights.clone()).ok();
        self.weights.as_ref().and_then(tensor).into_iter().collect()
    }

    fn check(&self, target: &Tensor) -> Result<()> {
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let got = self.label_smoothing;
            return Err(Error::argument("label_smoothing", "a number in [0, 1]", got));
        }
        let weights = self.weights.as_deref().unwrap_or_default();
        let is_weight = |weight: &f32| *weight >= 0.0 && weight.is_finite();
        if let Some(class) = weights.iter().position(|weight| !is_weight(weight)) {
            let what = format!("weight of class {class}");
            return Err(Error::argument(what, "a finite number, 0 or more", weights[class]));
        }
        let labels = target.integers()?;
        let invalid = |label: &i32| *label < 0 && *label != self.ignore_index;
        match labels.iter().position(invalid) {
            None => Ok(()),
            Some(index) => {
                let expected = format!("a class or {} to ignore the sample", self.ignore_index);
                Err(Error::argument(format!("label {index}"), expected, labels[index]))
            }
        }
    }

    fn check_output(&self, target: &Tensor, output: &Shape) -> Result<()> {
        let labels = target.integers()?;
        let outside = |label: &i32| {
            *label != self.ignore_index && usize::try_from(*label).is_ok_and(|c| c >= output.last())
        };
        match labels.iter().position(outside) {
            None => Ok(()),
            Some(index) => {
                let expected = format!("a class below {}", output.last());
                Err(Error::argument(format!("label {index}"), expected, labels[index]))
            }
        }
    }

    fn weight(&self, _samples: usize, target: &Tensor) -> Option<f64> {
        if self.reduction != Reduction::Mean {
            return None;
        }
        let kept = target.integers().ok()?.iter().filter(|&&label| label != self.ignore_index);
        let weight = |label: &i32| match &self.weights {
            None => 1.0,
            Some(weights) => usize::try_from(*label)
                .ok()
                .and_then(|class| weights.get(class))
                .map_or(0.0, |&weight| f64::from(weight)),
        };
        Some(kept.map(weight).sum())
    }

    fn key(&self) -> String {
        let CrossEntropy { ignore_index, label_smoothing, reduction, .. } = self;
        format!("CrossEntropy {ignore_index} {label_smoothing:?} {reduction:?}")
    }
}
