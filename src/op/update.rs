// SPDX-License-Identifier: MIT OR Apache-2.0
//! What changes a network's state: stored gradients, clipping and the optimisers' rules.

use super::corrections::weight_so_far;
use super::{Array, Mismatch, TensorType};
use crate::error::list;
use crate::scalars::Scalars;
use crate::{DType, Shape};

/// How a gradient meets what its slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Replaces it.
    Overwrite,
    /// Is added to it: the second and later micro-batches of a step.
    Accumulate,
}

/// An optimiser's rule for one element, with PyTorch's semantics.
///
/// What changes from step to step is read from the run's [`Scalars`] (learning rate, momentum) and
/// follows from the number of the update (bias corrections), which the device keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateRule {
    /// Stochastic gradient descent (`torch.optim.SGD`).
    Sgd {
        /// Momentum factor, 0 for none.
        momentum: f64,
        /// Share of the gradient withheld from the momentum buffer after its first step.
        dampening: f64,
        /// Whether the step looks ahead.
        nesterov: Nesterov,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
    },
    /// Adam (Kingma & Ba 2014, arXiv:1412.6980) and AdamW (Loshchilov & Hutter 2017,
    /// arXiv:1711.05101).
    Adam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the bias-corrected second moment.
        eps: f64,
        /// Weight decay.
        weight_decay: f64,
        /// Where the decay acts.
        decay: Decay,
    },
}

/// Whether SGD's step uses Nesterov's look-ahead (Sutskever et al. 2013).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesterov {
    /// Classical momentum.
    Off,
    /// The gradient plus the momentum after this step.
    On,
}

/// Where an Adam optimiser applies weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// In the gradient: `torch.optim.Adam`.
    Gradient,
    /// In the parameter, apart from the moments: `torch.optim.AdamW`.
    Decoupled,
}

/// What a step does to one parameter: a rule and what sets the parameter apart from others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The rule, with the parameter's own weight decay.
    pub rule: UpdateRule,
    /// Factor of the run's learning rate.
    pub rate_factor: f64,
    /// Updates that were made without the parameter: moments and bias corrections count from there.
    pub skipped: u32,
}

impl UpdateRule {
    /// Number of moments that the rule keeps per element.
    pub fn moments(&self) -> usize {
        match self {
            UpdateRule::Sgd { momentum, .. } => usize::from(*momentum != 0.0),
            UpdateRule::Adam { .. } => 2,
        }
    }

    /// The rule's own momentum (Adam: its decay of the first moment).
    pub fn momentum(&self) -> f64 {
        match *self {
            UpdateRule::Sgd { momentum, .. } => momentum,
            UpdateRule::Adam { beta1, .. } => beta1,
        }
    }

    /// The rule's weight decay.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            UpdateRule::Sgd { weight_decay, .. } | UpdateRule::Adam { weight_decay, .. } => {
                weight_decay
            }
        }
    }

    /// The rule with another weight decay.
    #[must_use]
    pub fn with_weight_decay(self, weight_decay: f64) -> Self {
        match self {
            UpdateRule::Sgd { momentum, dampening, nesterov, .. } => {
                UpdateRule::Sgd { momentum, dampening, nesterov, weight_decay }
            }
            UpdateRule::Adam { beta1, beta2, eps, decay, .. } => {
                UpdateRule::Adam { beta1, beta2, eps, weight_decay, decay }
            }
        }
    }

    /// Whether two rules differ in their weight decay at most.
    pub fn is_like(self, other: Self) -> bool {
        self.with_weight_decay(0.0) == other.with_weight_decay(0.0)
    }
}

/// The rule for a parameter like most others.
impl From<UpdateRule> for Update {
    fn from(rule: UpdateRule) -> Self {
        Update { rule, rate_factor: 1.0, skipped: 0 }
    }
}

impl Update {
    /// Number of moments that are kept per element.
    pub fn moments(&self) -> usize {
        self.rule.moments()
    }

    /// The parameter's learning rate in a run.
    pub fn rate(&self, run: &Scalars) -> f64 {
        f64::from(run.learning_rate) * self.rate_factor
    }

    /// The number of an update among those of the parameter, counted from 1.
    pub fn count(&self, update: u32) -> u32 {
        update.saturating_sub(self.skipped).max(1)
    }

    /// The plain meaning: the new value and new moments of one element in update number `update`,
    /// counted from 1. `moments` holds as many entries as [`Update::moments`] says.
    pub fn apply(
        &self,
        value: f64,
        gradient: f64,
        moments: &mut [f64],
        (run, update): (&Scalars, u32),
    ) -> f64 {
        let (rate, count) = (self.rate(run), self.count(update));
        match self.rule {
            UpdateRule::Sgd { momentum, dampening, nesterov, weight_decay } => {
                let momentum = run.momentum.unwrap_or(momentum);
                let gradient = decayed(gradient, weight_decay, value);
                let Some(buffer) = moments.first_mut() else { return value - rate * gradient };
                *buffer = if count <= 1 {
                    gradient
                } else {
                    momentum * *buffer + (1.0 - dampening) * gradient
                };
                match nesterov {
                    Nesterov::Off => value - rate * *buffer,
                    Nesterov::On => value - rate * (gradient + momentum * *buffer),
                }
            }
            UpdateRule::Adam { beta1, beta2, eps, weight_decay, decay } => {
                let beta1 = run.momentum.unwrap_or(beta1);
                let (value, gradient) = match decay {
                    Decay::Gradient => (value, decayed(gradient, weight_decay, value)),
                    Decay::Decoupled => (value * (1.0 - rate * weight_decay), gradient),
                };
                moments[0] = beta1 * moments[0] + (1.0 - beta1) * gradient;
                moments[1] = beta2 * moments[1] + (1.0 - beta2) * gradient * gradient;
                let denominator = (moments[1] / weight_so_far(beta2, count)).sqrt() + eps;
                value - rate / weight_so_far(beta1, count) * moments[0] / denominator
            }
        }
    }
}

/// An average moved towards a value by a weight, as `torch.lerp` does: all the way if it is 1.
pub(crate) fn moved(average: f64, value: f64, weight: f64) -> f64 {
    match weight < 0.5 {
        true => average + weight * (value - average),
        false => value - (1.0 - weight) * (value - average),
    }
}

/// A gradient with the L2 penalty. Without a penalty the value does not count, not even an infinite
/// one.
fn decayed(gradient: f64, weight_decay: f64, value: f64) -> f64 {
    match weight_decay {
        0.0 => gradient,
        decay => gradient + decay * value,
    }
}

pub(super) fn infer(inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match inputs {
        [gradient] | [gradient, _] | [gradient, _, _] => Ok((*gradient).clone()),
        _ => Err(Mismatch::new("a gradient", describe(inputs))),
    }
}

pub(super) fn infer_average(inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match inputs {
        [value] | [value, _] if value.dtype == DType::F32 => Ok((*value).clone()),
        _ => Err(Mismatch::new("a value of f32", describe(inputs))),
    }
}

/// `sqrt` of the sum of all squares, as `torch.nn.utils.clip_grad_norm_` measures.
pub(super) fn global_norm(inputs: &[&Array]) -> Array {
    let squares: f64 = inputs.iter().flat_map(|array| &array.data).map(|g| g * g).sum();
    Array { shape: Shape::scalar(), data: vec![squares.sqrt()] }
}

/// `torch.nn.utils.clip_grad_norm_`'s factor; a NaN norm makes it NaN.
pub(crate) fn clip_coefficient(max_norm: f64, norm: f64) -> f64 {
    let coefficient = max_norm / (norm + 1e-6);
    if coefficient > 1.0 {
        1.0
    } else {
        coefficient
    }
}

pub(super) fn describe(inputs: &[&TensorType]) -> String {
    list(inputs, " and ")
}
