// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mask bits many elements at a time: what the vector types share.

use super::base::{Group, KeepSchedule, Vector};
use crate::philox::ELEMENTS_PER_BLOCK;

/// A run of at most 32 elements of one sample, from any element on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) sample: u32,
    pub(crate) element: u32,
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
pub(crate) fn keep_runs<V: Vector>(schedule: &KeepSchedule, runs: &[Run; 4]) -> [u32; 4] {
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
