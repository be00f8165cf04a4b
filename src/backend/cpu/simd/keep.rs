// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mask bits many elements at a time: what the vector types share.

use super::vector::Vector;
use crate::philox::{round_keys, MaskKey, DROP_ALL, ELEMENTS_PER_BLOCK, ROUNDS};

/// 32 elements of one sample: four Philox blocks from `block` on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub(super) block: u32,
    pub(super) sample: u32,
}

impl Group {
    /// The block in the low half, the sample in the high one.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn packed(self) -> u64 {
        u64::from(self.sample) << 32 | u64::from(self.block)
    }
}

/// A mask key with what every block would otherwise compute again.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepSchedule {
    pub(super) round_keys: [[u32; 2]; ROUNDS],
    pub(super) step: u32,
    pub(super) site: u32,
    /// At most [`DROP_ALL`].
    pub(super) drop15: u16,
}

impl KeepSchedule {
    pub(super) fn new(key: &MaskKey) -> Self {
        KeepSchedule {
            round_keys: round_keys(key.words()),
            step: key.step,
            site: key.site,
            drop15: key.drop15.min(DROP_ALL),
        }
    }
}

/// A run of at most 32 elements of one sample, from any element on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub(super) sample: u32,
    pub(super) element: u32,
}

impl Run {
    fn group(self) -> Group {
        Group { block: self.element / ELEMENTS_PER_BLOCK, sample: self.sample }
    }

    fn is_aligned(self) -> bool {
        self.element.is_multiple_of(ELEMENTS_PER_BLOCK)
    }
}

/// The keep bits of 32 elements of each of four runs.
#[inline(always)]
pub(super) fn keep_runs<V: Vector>(schedule: &KeepSchedule, runs: &[Run; 4]) -> [u32; 4] {
    if runs.iter().all(|run| run.is_aligned()) {
        return V::keep_bits(schedule, &[0, 1, 2, 3].map(|index: usize| runs[index].group()));
    }
    // A run that starts inside a block reaches into a fifth one: two groups each.
    let mut bits = [0; 4];
    for pair in 0..2 {
        let groups = [0, 1, 2, 3].map(|index: usize| {
            let group = runs[2 * pair + index / 2].group();
            Group { block: group.block.wrapping_add(4 * (index as u32 % 2)), ..group }
        });
        let halves = V::keep_bits(schedule, &groups);
        for index in 0..2 {
            let both = u64::from(halves[2 * index + 1]) << 32 | u64::from(halves[2 * index]);
            let run = runs[2 * pair + index];
            bits[2 * pair + index] = (both >> (run.element % ELEMENTS_PER_BLOCK)) as u32;
        }
    }
    bits
}
