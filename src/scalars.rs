// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers that change from run to run while the plan stays: kept in one block of memory, so
//! that a captured plan reads them afresh each time it is replayed.

/// Bit of [`Scalars::pass`] that sets Monte Carlo passes apart from training passes.
pub const MONTE_CARLO_PASS: u32 = 1 << 31;

/// Everything about a run that is not a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalars {
    /// The network's seed: the key of every mask.
    pub seed: u64,
    /// Number of this train-mode pass, counted from 0; Monte Carlo passes count on their own and
    /// set [`MONTE_CARLO_PASS`].
    pub pass: u32,
    /// Index in the global batch of the first sample of this run.
    pub sample_offset: u32,
    /// Number of this parameter update, counted from 1.
    pub update: u32,
    /// Learning rate of this update.
    pub learning_rate: f32,
    /// Momentum of this update (Adam: decay of the first moment) where a schedule moves it; else
    /// the optimiser's own.
    pub momentum: Option<f64>,
    /// This micro-batch's share of the whole batch's loss, 1 for an undivided batch.
    pub share: f32,
    /// Weight of this update's values in their moving averages; 1 where the averages begin.
    pub average: f32,
}

/// A scalar that a graph can name as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// [`Scalars::share`].
    Share,
}

impl Scalars {
    /// Scalars of a first run with this seed.
    pub fn new(seed: u64) -> Self {
        Scalars {
            seed,
            pass: 0,
            sample_offset: 0,
            update: 1,
            learning_rate: 0.0,
            momentum: None,
            share: 1.0,
            average: 1.0,
        }
    }

    /// The value of a scalar that appears in a graph.
    pub fn get(&self, scalar: Scalar) -> f64 {
        match scalar {
            Scalar::Share => f64::from(self.share),
        }
    }
}
