// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moving averages of what training changes.

use crate::passes::Averages;
use crate::{Error, Result};

/// Exponential moving averages of the parameters, as `torch.optim.swa_utils.AveragedModel` with
/// `get_ema_multi_avg_fn`; for [`Trainer::with_average`](crate::Trainer::with_average).
///
/// After the first update an average is the parameter itself; after each later one
/// `average + (1 - decay) * (parameter - average)`. There is no correction of the beginning, as
/// PyTorch has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// Share of an average that stays at an update.
    pub decay: f64,
    /// What becomes of the state that is not trained.
    pub buffers: Buffers,
}

/// The running statistics of a network with averaged parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffers {
    /// Those of the network (`use_buffers=False`).
    #[default]
    Current,
    /// Averaged as parameters are (`use_buffers=True`); counters, which no evaluation reads, are those
    /// of the network.
    Averaged,
}

impl Average {
    /// Averages with this decay, of parameters alone.
    pub fn new(decay: f64) -> Self {
        Average { decay, buffers: Buffers::Current }
    }

    /// The same with running statistics averaged too.
    #[must_use]
    pub fn with_buffers(self) -> Self {
        Average { buffers: Buffers::Averaged, ..self }
    }

    pub(crate) fn check(self) -> Result<()> {
        match (0.0..=1.0).contains(&self.decay) {
            true => Ok(()),
            false => Err(Error::argument("decay of the average", "in [0, 1]", self.decay)),
        }
    }

    /// Weight of the values in averages that have seen so many updates.
    pub(crate) fn weight(self, averaged: u64) -> f32 {
        match averaged {
            0 => 1.0,
            _ => (1.0 - self.decay) as f32,
        }
    }

    /// What a step averages.
    pub(crate) fn goal(self) -> Averages {
        match self.buffers {
            Buffers::Current => Averages::Parameters,
            Buffers::Averaged => Averages::ParametersAndState,
        }
    }
}
