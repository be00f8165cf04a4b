// SPDX-License-Identifier: MIT OR Apache-2.0
//! Optimisers, groups of parameters, schedules of learning rate and momentum, and moving averages, with
//! PyTorch's semantics.

mod average;
mod group;
mod plateau;
mod rate_fn;
mod schedule;
mod tuning;

pub use crate::op::Nesterov;
pub use average::{Average, Buffers};
pub use group::Group;
pub use plateau::{Better, Plateau, ReduceOnPlateau, Threshold};
pub use rate_fn::RateFn;
pub use schedule::{Anneal, MomentumCycle, Phases, Schedule};
pub(crate) use tuning::Tuning;

use crate::op::{Decay, UpdateRule};
use crate::{Error, Result};

/// Stochastic gradient descent, as `torch.optim.SGD`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub rate: f64,
    /// Momentum factor; 0 for none.
    pub momentum: f64,
    /// Share of the gradient withheld from the momentum after its first step.
    pub dampening: f64,
    /// Whether the step looks ahead; needs momentum and no dampening.
    pub nesterov: Nesterov,
    /// L2 penalty.
    pub weight_decay: f64,
}

impl Sgd {
    /// Plain gradient descent with this learning rate.
    pub fn new(rate: f64) -> Self {
        let nesterov = Nesterov::Off;
        Sgd { rate, momentum: 0.0, dampening: 0.0, nesterov, weight_decay: 0.0 }
    }

    /// The same with momentum.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        Sgd { momentum, ..self }
    }
}

/// Adam with the weight decay in the gradient, as `torch.optim.Adam` (Kingma & Ba 2014,
/// arXiv:1412.6980).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub rate: f64,
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the bias-corrected second moment.
    pub eps: f64,
    /// L2 penalty.
    pub weight_decay: f64,
}

impl Adam {
    /// Adam with this learning rate and PyTorch's defaults.
    pub fn new(rate: f64) -> Self {
        Adam { rate, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Adam with decoupled weight decay, as `torch.optim.AdamW` (Loshchilov & Hutter 2017,
/// arXiv:1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub rate: f64,
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the bias-corrected second moment.
    pub eps: f64,
    /// Weight decay, applied to the parameter itself; 0.01 by default.
    pub weight_decay: f64,
}

impl AdamW {
    /// AdamW with this learning rate and PyTorch's defaults.
    pub fn new(rate: f64) -> Self {
        AdamW { rate, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 }
    }
}

/// Any optimiser: its learning rate and its rule for one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// Learning rate before the schedule.
    pub rate: f64,
    /// The rule.
    pub rule: UpdateRule,
}

impl Optimizer {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Argument`] for rates, decays or moments out of range.
    pub fn check(&self) -> Result<()> {
        let mut errors = Vec::new();
        let mut demand = |what: &str, expected: &str, value: f64, fits: bool| {
            if !fits {
                errors.push(Error::argument(what, expected, value));
            }
        };
        let not_negative = |value: f64| value >= 0.0 && value.is_finite();
        demand("learning rate", "0 or more", self.rate, not_negative(self.rate));
        match self.rule {
            UpdateRule::Sgd { momentum, dampening, nesterov, weight_decay } => {
                demand("momentum", "0 or more", momentum, not_negative(momentum));
                demand("weight decay", "0 or more", weight_decay, not_negative(weight_decay));
                demand("dampening", "a finite number", dampening, dampening.is_finite());
                if nesterov == Nesterov::On {
                    demand("momentum", "more than 0 with Nesterov", momentum, momentum > 0.0);
                    demand("dampening", "0 with Nesterov", dampening, dampening == 0.0);
                }
            }
            UpdateRule::Adam { beta1, beta2, eps, weight_decay, .. } => {
                demand("beta1", "a number in [0, 1)", beta1, (0.0..1.0).contains(&beta1));
                demand("beta2", "a number in [0, 1)", beta2, (0.0..1.0).contains(&beta2));
                demand("eps", "0 or more", eps, not_negative(eps));
                demand("weight decay", "0 or more", weight_decay, not_negative(weight_decay));
            }
        }
        Error::check(errors)
    }
}

impl From<Sgd> for Optimizer {
    fn from(sgd: Sgd) -> Self {
        let Sgd { rate, momentum, dampening, nesterov, weight_decay } = sgd;
        Optimizer { rate, rule: UpdateRule::Sgd { momentum, dampening, nesterov, weight_decay } }
    }
}

impl From<Adam> for Optimizer {
    fn from(adam: Adam) -> Self {
        let Adam { rate, betas: (beta1, beta2), eps, weight_decay } = adam;
        let decay = Decay::Gradient;
        Optimizer { rate, rule: UpdateRule::Adam { beta1, beta2, eps, weight_decay, decay } }
    }
}

impl From<AdamW> for Optimizer {
    fn from(adam: AdamW) -> Self {
        let AdamW { rate, betas: (beta1, beta2), eps, weight_decay } = adam;
        let decay = Decay::Decoupled;
        Optimizer { rate, rule: UpdateRule::Adam { beta1, beta2, eps, weight_decay, decay } }
    }
}
