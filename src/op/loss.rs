// SPDX-License-Identifier: MIT OR Apache-2.0
//! The negative log-likelihood, the second half of cross-entropy.

use super::{update::describe, Array, Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::{DType, Shape};

/// How the losses of the samples become the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// The mean; for class losses weighted by the labels' weights, ignored samples not counted.
    #[default]
    Mean,
    /// The sum.
    Sum,
    /// One loss per sample.
    None,
}

/// Negative log-likelihood of labels, as in PyTorch's `CrossEntropyLoss` after its `log_softmax`.
///
/// The loss of a sample with label `t` is `(1 - s) * -w[t] * logp[t] + s / C * sum_c(-w[c] *
/// logp[c])` with smoothing `s`, `C` classes and class weights `w`; the mean divides the sum by the
/// sum of `w[t]` over the samples that are not ignored, and is NaN where that sum is 0. Without
/// smoothing no class but the label counts, not even one whose logarithm is infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nll {
    /// Samples with this label take no part.
    pub ignore_index: i32,
    /// Label smoothing in `[0, 1]`.
    pub smoothing: f64,
    /// How the samples' losses are joined.
    pub reduction: Reduction,
}

impl Nll {
    pub(super) fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let (log_probabilities, labels) = match inputs {
            [p, l] | [p, l, _] => (p, l),
            _ => return Err(Mismatch::new("scores and labels", describe(inputs))),
        };
        let [samples, classes] = *log_probabilities.shape.dims() else {
            return Err(Mismatch::new("scores of shape [samples, classes]", log_probabilities));
        };
        check_labels([samples, classes], labels)?;
        check_weights(classes, inputs)?;
        Ok(TensorType::f32(self.output_shape(samples)))
    }

    pub(super) fn infer_gradient(
        &self,
        classes: usize,
        inputs: &[&TensorType],
    ) -> Result<TensorType, Mismatch> {
        let (dloss, labels) = match inputs {
            [d, l] | [d, l, _] => (d, l),
            _ => return Err(Mismatch::new("a gradient and labels", describe(inputs))),
        };
        let samples = labels.shape.samples();
        check_labels([samples, classes], labels)?;
        check_weights(classes, inputs)?;
        if dloss.shape != self.output_shape(samples) {
            return Err(Mismatch::new(format!("{}", self.output_shape(samples)), &dloss.shape));
        }
        Ok(TensorType::f32([samples, classes].into()))
    }

    pub(super) fn gradient(
        &self,
        graph: &mut dyn Record,
        inputs: &[NodeId],
        dy: NodeId,
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let classes = graph.shape(inputs[0]).last();
        let mut arguments = inputs.to_vec();
        arguments[0] = dy;
        let gradient = graph.add(Op::NllGrad(*self, classes), &arguments)?;
        let mut gradients = vec![None; inputs.len()];
        gradients[0] = Some(gradient);
        Ok(gradients)
    }

    pub(super) fn eval(&self, inputs: &[&Array]) -> Array {
        let classes = inputs[0].shape.last();
        let weights = inputs.get(2).map(|w| w.data.as_slice());
        let weight = |class: usize| weights.map_or(1.0, |w| w[class]);
        let loss_of = |(row, &label): (&[f64], &f64)| match self.class(label) {
            None => 0.0,
            Some(class) if self.smoothing == 0.0 => -weight(class) * row[class],
            Some(class) => {
                let smooth: f64 = row.iter().enumerate().map(|(c, p)| -weight(c) * p).sum();
                (1.0 - self.smoothing) * -weight(class) * row[class]
                    + self.smoothing / classes as f64 * smooth
            }
        };
        let losses: Vec<f64> = inputs[0].rows().zip(&inputs[1].data).map(loss_of).collect();
        match self.reduction {
            Reduction::None => Array::new([losses.len()].into(), losses),
            Reduction::Sum => Array::scalar(losses.iter().sum()),
            Reduction::Mean => {
                let total: f64 = losses.iter().sum();
                Array::scalar(total / self.divisor(&inputs[1].data, weights))
            }
        }
    }

    pub(super) fn eval_gradient(&self, classes: usize, inputs: &[&Array]) -> Array {
        let (dloss, labels) = (inputs[0], &inputs[1].data);
        let weights = inputs.get(2).map(|w| w.data.as_slice());
        let weight = |class: usize| weights.map_or(1.0, |w| w[class]);
        let divisor = match self.reduction {
            Reduction::Mean => self.divisor(labels, weights),
            Reduction::Sum | Reduction::None => 1.0,
        };
        let mut gradient = Array::zeros(&[labels.len(), classes].into());
        for (sample, row) in gradient.data.chunks_exact_mut(classes).enumerate() {
            let Some(label) = self.class(labels[sample]) else { continue };
            let dy = match dloss.data[if dloss.data.len() == 1 { 0 } else { sample }] {
                // A part of a batch without weight takes no part in the whole.
                0.0 => 0.0,
                dloss => dloss / divisor,
            };
            for (class, value) in row.iter_mut().enumerate() {
                let chosen = if class == label { 1.0 - self.smoothing } else { 0.0 };
                *value = -weight(class) * (chosen + self.smoothing / classes as f64) * dy;
            }
        }
        gradient
    }

    /// What a mean divides by: NaN where nothing has weight.
    fn divisor(&self, labels: &[f64], weights: Option<&[f64]>) -> f64 {
        let kept = labels.iter().filter_map(|&label| self.class(label));
        mean_divisor(kept.map(|class| weights.map_or(1.0, |w| w[class])).sum())
    }

    /// The class that a label names, `None` if the sample is ignored.
    fn class(&self, label: f64) -> Option<usize> {
        (label != f64::from(self.ignore_index)).then_some(label as usize)
    }

    fn output_shape(&self, samples: usize) -> Shape {
        match self.reduction {
            Reduction::None => [samples].into(),
            Reduction::Mean | Reduction::Sum => Shape::scalar(),
        }
    }
}

fn check_labels(scores: [usize; 2], labels: &TensorType) -> Result<(), Mismatch> {
    let samples = scores[0];
    if labels.dtype == DType::I32 && labels.shape.dims() == [samples] {
        Ok(())
    } else {
        let expected = format!("labels i32[{samples}] for scores of shape {scores:?}");
        Err(Mismatch::new(expected, labels))
    }
}

/// What the mean of losses with this sum of weights divides by. Smoothing adds to samples whose
/// labels have no weight, so a sum of 0 would make the mean infinite instead of NaN.
pub(crate) fn mean_divisor(weight_sum: f64) -> f64 {
    match weight_sum {
        0.0 => f64::NAN,
        sum => sum,
    }
}

fn check_weights(classes: usize, inputs: &[&TensorType]) -> Result<(), Mismatch> {
    match inputs.get(2) {
        Some(weights) if weights.shape.dims() != [classes] => {
            Err(Mismatch::new(format!("class weights of shape [{classes}]"), weights))
        }
        _ => Ok(()),
    }
}
