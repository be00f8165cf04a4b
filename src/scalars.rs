// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers that change from run to run while the plan stays. Some the host gives with each run;
//! others a device keeps and advances by itself, so that a captured step needs nobody to count.
//! Both lie in memory that a replayed plan reads afresh.

use serde::{Deserialize, Serialize};

use crate::philox::{drop15, DROP_ALL};

/// Bit of [`Scalars::pass`] that sets Monte Carlo passes apart from training passes.
pub const MONTE_CARLO_PASS: u32 = 1 << 31;

/// What the host gives with a run beside its tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalars {
    /// The network's seed: the key of every mask.
    pub seed: u64,
    /// Number of this train-mode pass, counted from 0; Monte Carlo passes count on their own and
    /// set [`MONTE_CARLO_PASS`].
    pub pass: u32,
    /// Index in the global batch of the first sample of this run.
    pub sample_offset: u32,
    /// Learning rate of this update.
    pub learning_rate: f32,
    /// Momentum of this update (Adam: decay of the first moment) where a schedule moves it; else
    /// the optimiser's own.
    pub momentum: Option<f64>,
    /// This micro-batch's share of the whole batch's loss, 1 for an undivided batch.
    pub share: f32,
    /// Weight of this update's values in their moving averages; 1 where the averages begin.
    pub average: f32,
    /// Probabilities of dropping that are not the same in every run.
    pub dropout: DropoutRates,
}

/// Probabilities of dropping that change from run to run, in units of 1/32768. Those that nobody set
/// drop everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutRates([u16; DropoutRates::MOST]);

/// A place in [`DropoutRates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RateSlot(u8);

/// What a device keeps of a training, beside the parameters. It is the device that advances it, at the
/// end of each update, and what it says is what a checkpoint saves.
///
/// Zeros, as reserved memory holds them, are a training that begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingState {
    /// Number of updates made so far.
    pub updates: u32,
    /// Not 0 if a gradient of the update under way is not finite: then nothing is updated, and the
    /// update does not count. 0 between updates.
    #[serde(skip)]
    pub found_inf: u32,
    /// Gradients are those of the loss times 2 to this power, 0 for the loss itself. Nothing
    /// changes it yet.
    pub loss_scale: i32,
    /// Number of updates since `loss_scale` was changed. Nothing counts it yet.
    pub growth: u32,
}

impl TrainingState {
    /// Its size in memory, in bytes.
    pub const BYTES: usize = 16;

    /// The state that words of memory hold, as [`words`](TrainingState::words) makes them.
    pub fn of_words(words: &[f32]) -> Self {
        let word = |index: usize| words.get(index).map_or(0, |word| word.to_bits());
        let (updates, found_inf, growth) = (word(0), word(1), word(3));
        TrainingState { updates, found_inf, loss_scale: word(2) as i32, growth }
    }

    /// Its words in memory: those of `KilnProgress` in `kernels/abi.h`, by their bits.
    pub fn words(self) -> [f32; 4] {
        let TrainingState { updates, found_inf, loss_scale, growth } = self;
        [updates, found_inf, loss_scale as u32, growth].map(f32::from_bits)
    }

    /// Number of the update under way, counted from 1.
    pub fn update(self) -> u32 {
        self.updates.saturating_add(1)
    }

    /// What it is when the update under way is done.
    #[must_use]
    pub fn advanced(self) -> Self {
        let updates = if self.found_inf == 0 { self.update() } else { self.updates };
        TrainingState { updates, found_inf: 0, ..self }
    }
}

impl DropoutRates {
    /// Most rates of a network that change from run to run.
    pub const MOST: usize = 64;

    /// The rate at a place, in units of 1/32768.
    pub fn drop15(&self, slot: RateSlot) -> u16 {
        self.0.get(slot.index()).copied().unwrap_or(DROP_ALL)
    }

    /// Sets the rate at a place, rounded to the nearest 1/32768.
    pub fn set(&mut self, slot: RateSlot, p: f32) {
        if let Some(rate) = self.0.get_mut(slot.index()) {
            *rate = drop15(p);
        }
    }
}

impl Default for DropoutRates {
    fn default() -> Self {
        DropoutRates([DROP_ALL; DropoutRates::MOST])
    }
}

impl RateSlot {
    /// The place with this number; `None` from [`DropoutRates::MOST`] on.
    pub fn at(index: usize) -> Option<Self> {
        let index = u8::try_from(index).ok()?;
        (usize::from(index) < DropoutRates::MOST).then_some(RateSlot(index))
    }

    /// Its number.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
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
            learning_rate: 0.0,
            momentum: None,
            share: 1.0,
            average: 1.0,
            dropout: DropoutRates::default(),
        }
    }

    /// The value of a scalar that appears in a graph.
    pub fn get(&self, scalar: Scalar) -> f64 {
        match scalar {
            Scalar::Share => f64::from(self.share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_begins_with_zeros_and_counts_what_it_updates() {
        let begun = TrainingState::of_words(&[0.0; 4]);
        assert_eq!((begun, begun.update()), (TrainingState::default(), 1));
        assert_eq!(begun.advanced(), TrainingState { updates: 1, ..begun });
        let kept = TrainingState { updates: 7, found_inf: 1, loss_scale: -3, growth: 5 };
        assert_eq!(TrainingState::of_words(&kept.words()), kept);
        assert_eq!(kept.advanced(), TrainingState { found_inf: 0, ..kept });
        let last = TrainingState { updates: u32::MAX, ..begun };
        assert_eq!(last.advanced(), last);
    }
}
