// SPDX-License-Identifier: MIT OR Apache-2.0
//! A learning rate that falls where a figure no longer gets better.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// In which direction a figure gets better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Downwards: losses (`mode="min"`).
    #[default]
    Lower,
    /// Upwards: accuracies (`mode="max"`).
    Higher,
}

/// By how much a figure must be better than the best before to count as better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threshold {
    /// By more than this share of the best (`threshold_mode="rel"`).
    Relative(f64),
    /// By more than this (`threshold_mode="abs"`).
    Absolute(f64),
}

/// When a rate falls and by how much, as `torch.optim.lr_scheduler.ReduceLROnPlateau`; PyTorch's defaults
/// unless said otherwise. [`ReduceOnPlateau`] follows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// In which direction the figure gets better; downwards by default.
    pub better: Better,
    /// What the rate is multiplied by; 0.1 by default.
    pub factor: f64,
    /// Figures in a row that are not better and change nothing; 10 by default.
    pub patience: u64,
    /// What counts as better; a relative 1e-4 by default.
    pub threshold: Threshold,
    /// Figures after a fall that are not counted; 0 by default.
    pub cooldown: u64,
    /// The lowest rate (`min_lr`); 0 by default.
    pub min_rate: f64,
    /// A fall by no more than this is left out; 1e-8 by default.
    pub eps: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Plateau {
            better: Better::Lower,
            factor: 0.1,
            patience: 10,
            threshold: Threshold::Relative(1e-4),
            cooldown: 0,
            min_rate: 0.0,
            eps: 1e-8,
        }
    }
}

/// Lets a rate fall each time a figure has not got better for a while.
///
/// With a trainer, [`Trainer::reduce_on_plateau`](crate::Trainer::reduce_on_plateau) sets the rate. To go
/// on after a restart, keep this (with `serde`) among the notes of a
/// [checkpoint](crate::checkpoint::Progress::notes), which keeps the rate itself.
///
/// ```
/// use kiln::optim::{Plateau, ReduceOnPlateau};
///
/// let mut falling = ReduceOnPlateau::new(Plateau { patience: 1, ..Plateau::default() })?;
/// let mut rate = 0.1;
/// for loss in [1.0, 0.5, 0.6, 0.55] {
///     rate = falling.observe(loss, rate).unwrap_or(rate);
/// }
/// assert!((rate - 0.01_f64).abs() < 1e-15, "not better twice in a row");
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReduceOnPlateau {
    options: Plateau,
    /// The best figure so far; there is none before the first.
    best: Option<f64>,
    /// Figures in a row that were not better.
    bad: u64,
    /// Figures that are still not counted.
    cooling: u64,
}

impl ReduceOnPlateau {
    /// Before the first figure.
    ///
    /// # Errors
    /// [`Error::Argument`] for each option out of range: a factor of 1 or more, anything that is negative
    /// or not finite.
    pub fn new(options: Plateau) -> Result<Self> {
        let (Threshold::Relative(threshold) | Threshold::Absolute(threshold)) = options.threshold;
        let mut errors = Vec::new();
        let mut demand = |what: &str, expected: &str, value: f64, fits: bool| {
            if !(fits && value >= 0.0 && value.is_finite()) {
                errors.push(Error::argument(format!("{what} of the plateau"), expected, value));
            }
        };
        demand("factor", "in [0, 1)", options.factor, options.factor < 1.0);
        demand("threshold", "0 or more", threshold, true);
        demand("lowest rate", "0 or more", options.min_rate, true);
        demand("eps", "0 or more", options.eps, true);
        Error::check(errors)?;
        Ok(ReduceOnPlateau { options, best: None, bad: 0, cooling: 0 })
    }

    /// Takes the next figure into account. A new rate if the rate given is to fall.
    pub fn observe(&mut self, value: f64, rate: f64) -> Option<f64> {
        if self.is_better(value) {
            self.best = Some(value);
            self.bad = 0;
        } else {
            self.bad += 1;
        }
        if self.cooling > 0 {
            self.cooling -= 1;
            self.bad = 0;
        }
        if self.bad <= self.options.patience {
            return None;
        }
        self.cooling = self.options.cooldown;
        self.bad = 0;
        let lower = (rate * self.options.factor).max(self.options.min_rate);
        (rate - lower > self.options.eps).then_some(lower)
    }

    /// The best figure so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Whether a figure is better than the best, by more than the threshold; NaN never is.
    fn is_better(&self, value: f64) -> bool {
        let Some(best) = self.best else { return self.options.better.is_better_than_none(value) };
        match (self.options.better, self.options.threshold) {
            (Better::Lower, Threshold::Relative(share)) => value < best * (1.0 - share),
            (Better::Lower, Threshold::Absolute(least)) => value < best - least,
            (Better::Higher, Threshold::Relative(share)) => value > best * (share + 1.0),
            (Better::Higher, Threshold::Absolute(least)) => value > best + least,
        }
    }
}

impl Better {
    /// Whether one figure is better than another, by more than `least`. NaN is not.
    pub(crate) fn compares(self, value: f64, other: f64, least: f64) -> bool {
        match self {
            Better::Lower => value < other - least,
            Better::Higher => value > other + least,
        }
    }

    /// Whether a figure is better than the worst there is.
    fn is_better_than_none(self, value: f64) -> bool {
        match self {
            Better::Lower => value < f64::INFINITY,
            Better::Higher => value > f64::NEG_INFINITY,
        }
    }
}
