// SPDX-License-Identifier: MIT OR Apache-2.0
//! What random numbers of data sets depend on.

use crate::philox::philox4x32_10;

/// A pass over a data set: what its random choices, such as augmentations, depend on besides the
/// index of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pass {
    /// The seed, [`LoaderConfig::seed`](super::LoaderConfig::seed).
    pub seed: u64,
    /// Epochs completed before.
    pub epoch: u64,
}

/// Random numbers of one sample in one pass: Philox4x32-10, whose output never changes.
#[derive(Debug, Clone)]
pub struct Draws {
    key: [u32; 2],
    /// Number of the block, the sample, the epoch and the stage.
    counter: [u32; 4],
    block: [u32; 4],
    /// Words of the block that are taken.
    taken: usize,
}

/// Sets the draws of data apart from masks of the same seed.
const KEY: [u32; 2] = [u32::from_le_bytes(*b"kiln"), u32::from_le_bytes(*b"data")];

impl Pass {
    /// The random numbers of a sample: functions of seed, epoch, index and stage, whatever the batch,
    /// the order and the number of threads. Data sets around another each take a stage of their own,
    /// so that their choices do not correlate.
    ///
    /// ```
    /// use kiln::data::Pass;
    ///
    /// let pass = Pass { seed: 7, epoch: 3 };
    /// let (mut first, mut again) = (pass.draws(41, 0), pass.draws(41, 0));
    /// assert_eq!(first.bits(), again.bits());
    /// assert_ne!(pass.draws(41, 0).bits(), pass.draws(41, 1).bits());
    /// ```
    pub fn draws(&self, index: usize, stage: u8) -> Draws {
        let (index, epoch) = (index as u64, self.epoch as u32);
        // An index has at most 52 bits, see `Shape::MOST_ELEMENTS`.
        let rest = ((index >> 32) as u32) << 8 | u32::from(stage);
        let key = [self.seed as u32 ^ KEY[0], (self.seed >> 32) as u32 ^ KEY[1]];
        Draws { key, counter: [0, index as u32, epoch, rest], block: [0; 4], taken: 4 }
    }
}

impl Draws {
    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.taken == self.block.len() {
            self.block = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.taken = 0;
        }
        self.taken += 1;
        self.block[self.taken - 1]
    }

    /// A number from 0 up to 1, without 1: a multiple of 2^-24.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 24) as f32
    }

    /// A number below `bound`, every one equally likely; 0 if `bound` is.
    pub fn below(&mut self, bound: u32) -> u32 {
        let unfair = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        loop {
            let product = u64::from(self.bits()) * u64::from(bound);
            if product as u32 >= unfair {
                return (product >> 32) as u32;
            }
        }
    }

    /// Yes with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }
}
