// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an instruction set must know to draw mask bits.

use crate::philox::{round_keys, MaskKey, DROP_ALL, ROUNDS};

/// 32 elements of one sample: four Philox blocks from `block` on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Group {
    pub(crate) block: u32,
    pub(crate) sample: u32,
}

impl Group {
    /// The block in the low half, the sample in the high one.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn packed(self) -> u64 {
        u64::from(self.sample) << 32 | u64::from(self.block)
    }
}

/// A mask key with what every block would otherwise compute again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepSchedule {
    pub(crate) round_keys: [[u32; 2]; ROUNDS],
    pub(crate) step: u32,
    pub(crate) site: u32,
    /// At most [`DROP_ALL`].
    pub(crate) drop15: u16,
}

impl KeepSchedule {
    pub(crate) fn new(key: &MaskKey) -> Self {
        KeepSchedule {
            round_keys: round_keys(key.words()),
            step: key.step,
            site: key.site,
            drop15: key.drop15.min(DROP_ALL),
        }
    }
}
