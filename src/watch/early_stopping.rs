// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ending a training that no longer gets better, and telling its best state.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::optim::Better;
use crate::{Error, Result};

/// Ends a training when a figure has not got better for a while.
///
/// To go on after a restart, keep it (with `serde`) among the notes of a
/// [checkpoint](crate::checkpoint::Progress::notes).
///
/// ```
/// use std::ops::ControlFlow;
/// use std::sync::Arc;
/// use kiln::data::{Digits, Loader, LoaderConfig, SampleShape, Shuffle};
/// use kiln::watch::{Best, Better, EarlyStopping, Standing};
/// use kiln::{loss::CrossEntropy, models::SimpleNet, optim::Adam, Device, Event, Net, Seed, Trainer};
///
/// let net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 64, 32, 10, 0.1))?;
/// let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(3e-2))?;
/// let (train, test) = Digits::load().to_8x8().shuffled(7).split(300)?;
/// let config = LoaderConfig {
///     batch_size: 100,
///     shuffle: Shuffle::Seeded(7),
///     sample_shape: SampleShape::Row,
///     ..LoaderConfig::default()
/// };
/// let mut test = Loader::new(Arc::new(test), config.clone())?;
/// let mut train = Loader::new(Arc::new(train), config)?;
///
/// let mut best = Best::new(Better::Lower);
/// let mut stopping = EarlyStopping::new(Better::Lower, 3);
/// let ended = fit.fit(&mut train, 200, |fit, event| {
///     let Event::Epoch { epoch, .. } = event else { return Ok(ControlFlow::Continue(())) };
///     let loss = fit.evaluate(&mut test)?.loss;
///     if best.observe(epoch, loss) == Standing::Best {
///         // `checkpoint::save` to a folder for the best
///     }
///     Ok(stopping.observe(loss))
/// })?;
/// assert!(ended.is_break() && best.epoch().is_some());
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    better: Better,
    patience: u64,
    min_delta: f64,
    /// The last figure that counted as better.
    reference: Option<f64>,
    /// Figures since then.
    waited: u64,
}

impl EarlyStopping {
    /// Ends a training after `patience` figures in a row, and at least one, that are not better than the
    /// best before them.
    pub fn new(better: Better, patience: u64) -> Self {
        EarlyStopping { better, patience, min_delta: 0.0, reference: None, waited: 0 }
    }

    /// Counts as better only what is better by more than this.
    ///
    /// # Errors
    /// [`Error::Argument`] unless it is 0 or more and finite.
    pub fn with_min_delta(mut self, min_delta: f64) -> Result<Self> {
        if !(min_delta >= 0.0 && min_delta.is_finite()) {
            return Err(Error::argument("min_delta", "0 or more", min_delta));
        }
        self.min_delta = min_delta;
        Ok(self)
    }

    /// Takes the next figure into account, and breaks if the training is to end. NaN and infinity are
    /// not better than anything.
    pub fn observe(&mut self, value: f64) -> ControlFlow<()> {
        let is_better = |reference| self.better.compares(value, reference, self.min_delta);
        if value.is_finite() && self.reference.is_none_or(is_better) {
            self.reference = Some(value);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        match self.is_over() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Whether the training is to end.
    pub fn is_over(&self) -> bool {
        self.waited >= self.patience.max(1)
    }

    /// Figures since the last that counted as better.
    pub fn waited(&self) -> u64 {
        self.waited
    }
}

/// The best epoch of a training.
///
/// ```
/// use kiln::watch::{Best, Better, Standing};
///
/// let mut best = Best::new(Better::Higher);
/// let standings = [0.7, 0.9, 0.9, f64::NAN].map(|accuracy| best.observe(1, accuracy));
/// assert_eq!(standings, [Standing::Best, Standing::Best, Standing::Behind, Standing::Behind]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    better: Better,
    best: Option<(u64, f64)>,
}

/// How an epoch compares with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the best so far.
    Best,
    /// One before was as good or better.
    Behind,
}

impl Best {
    /// Before the first epoch.
    pub fn new(better: Better) -> Self {
        Best { better, best: None }
    }

    /// Takes an epoch's figure into account. NaN and infinity are not the best of anything.
    pub fn observe(&mut self, epoch: u64, value: f64) -> Standing {
        let is_better = |(_, best)| self.better.compares(value, best, 0.0);
        if value.is_finite() && self.best.is_none_or(is_better) {
            self.best = Some((epoch, value));
            return Standing::Best;
        }
        Standing::Behind
    }

    /// The best epoch so far.
    pub fn epoch(&self) -> Option<u64> {
        self.best.map(|(epoch, _)| epoch)
    }

    /// Its figure.
    pub fn value(&self) -> Option<f64> {
        self.best.map(|(_, value)| value)
    }
}
