// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers that change from run to run while the plan stays. Some the host gives with each run;
//! others a device keeps and advances by itself, so that a captured step needs nobody to count.
//! Both lie in memory that a replayed plan reads afresh.

use serde::{Deserialize, Serialize};

use crate::loss_scale::{LossScale, Overflow};
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
    /// Updates that the host knows to have been skipped; rates and weight above are those of an update
    /// that follows no further one.
    pub skipped: u32,
    /// The same where 1, 2, ... more were skipped that the host has not heard of yet: the device
    /// chooses.
    pub later: [UpdateRates; Scalars::LATER],
    /// Probabilities of dropping that are not the same in every run.
    pub dropout: DropoutRates,
}

/// What the host gives with an update and a schedule may move.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpdateRates {
    /// [`Scalars::learning_rate`].
    pub learning_rate: f32,
    /// [`Scalars::momentum`].
    pub momentum: Option<f64>,
    /// [`Scalars::average`].
    pub average: f32,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    /// Number of updates made so far.
    pub updates: u32,
    /// Not 0 if a gradient of the update under way is not finite: then nothing is updated, and the
    /// update does not count. 0 between updates.
    #[serde(skip)]
    pub found_inf: u32,
    /// What the loss of the next step is multiplied by; 0 where it is not scaled.
    pub loss_scale: f32,
    /// Number of updates in a row, up to now, that were made with this scale.
    pub growth: u32,
    /// Number of updates that were skipped since a gradient of the scaled loss was not finite.
    #[serde(default)]
    pub skipped: u32,
}

impl TrainingState {
    /// Its size in memory, in bytes.
    pub const BYTES: usize = 32;

    /// The state that words of memory hold, as [`words`](TrainingState::words) makes them.
    pub fn of_words(words: &[f32]) -> Self {
        let word = |index: usize| words.get(index).map_or(0, |word| word.to_bits());
        TrainingState {
            updates: word(0),
            found_inf: word(1),
            loss_scale: f32::from_bits(word(2)),
            growth: word(3),
            skipped: word(4),
        }
    }

    /// Its words in memory: those of `KilnProgress` in `kernels/abi.h`, by their bits.
    pub fn words(self) -> [f32; 8] {
        let TrainingState { updates, found_inf, loss_scale, growth, skipped } = self;
        [updates, found_inf, loss_scale.to_bits(), growth, skipped, 0, 0, 0].map(f32::from_bits)
    }

    /// Number of the update under way, counted from 1.
    pub fn update(self) -> u32 {
        self.updates.saturating_add(1)
    }

    /// What it is when the gradients of the update under way were looked at.
    #[must_use]
    pub(crate) fn decided(self, overflow: Overflow, scale: LossScale) -> Self {
        let (loss_scale, growth) = scale.next((self.loss_scale, self.growth), overflow);
        let found_inf = u32::from(overflow == Overflow::Found);
        let skipped = self.skipped.saturating_add(found_inf);
        TrainingState { found_inf, loss_scale, growth, skipped, ..self }
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
    /// [`TrainingState::loss_scale`].
    LossScale,
}

impl Scalars {
    /// Most updates of which the host need not know whether they were skipped when it gives the next.
    pub const LATER: usize = 4;

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
            skipped: 0,
            later: [UpdateRates::default(); Scalars::LATER],
            dropout: DropoutRates::default(),
        }
    }

    /// The value of a scalar that appears in a graph, with the loss scale that the device keeps.
    pub fn get(&self, scalar: Scalar, loss_scale: f32) -> f64 {
        match scalar {
            Scalar::Share => f64::from(self.share),
            Scalar::LossScale => f64::from(loss_scale),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_update_changes_the_scale_alone() {
        let loss_scale = 1024.0;
        let begun = TrainingState { updates: 3, loss_scale, growth: 7, ..TrainingState::default() };
        let skipped = begun.decided(Overflow::Found, LossScale::dynamic());
        assert_eq!((skipped.found_inf, skipped.loss_scale, skipped.growth), (1, 512.0, 0));
        let after = skipped.advanced();
        assert_eq!((after.found_inf, after.updates, after.skipped), (0, 3, 1));
        let made = begun.decided(Overflow::None, LossScale::dynamic()).advanced();
        assert_eq!((made.updates, made.loss_scale, made.growth, made.skipped), (4, 1024.0, 8, 0));
    }

    #[test]
    fn a_training_begins_with_zeros_and_counts_what_it_updates() {
        let begun = TrainingState::of_words(&[0.0; 4]);
        assert_eq!((begun, begun.update()), (TrainingState::default(), 1));
        assert_eq!(begun.advanced(), TrainingState { updates: 1, ..begun });
        let kept =
            TrainingState { updates: 7, found_inf: 1, loss_scale: 0.125, growth: 5, skipped: 3 };
        assert_eq!(TrainingState::of_words(&kept.words()), kept);
        assert_eq!(kept.advanced(), TrainingState { found_inf: 0, ..kept });
        let last = TrainingState { updates: u32::MAX, ..begun };
        assert_eq!(last.advanced(), last);
    }
}
