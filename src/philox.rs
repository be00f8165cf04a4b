// SPDX-License-Identifier: MIT OR Apache-2.0
//! Philox4x32-10 and the mask function built on it, one element at a time.
//!
//! This is the definition of every dropout mask: vector code, CUDA kernels and plain op meanings
//! are all tested to give exactly these bits. Changing anything here changes every user's run.

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Rounds of Philox; ten is the count with which it passes the usual randomness tests with margin.
pub(crate) const ROUNDS: usize = 10;

/// `drop15` at which everything is dropped: lanes are compared by their low 15 bits.
pub(crate) const DROP_ALL: u16 = 1 << 15;

/// Elements that share one Philox call: four words of two 16-bit lanes.
pub(crate) const ELEMENTS_PER_BLOCK: u32 = 8;

/// What a mask depends on besides the sample and the element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaskKey {
    /// The network's seed.
    pub(crate) seed: u64,
    /// The dropout site's number.
    pub(crate) site: u32,
    /// The number of the train-mode pass.
    pub(crate) step: u32,
    /// The drop probability in units of 2^-15; [`DROP_ALL`] drops everything.
    pub(crate) drop15: u16,
}

/// A probability of dropping in the units of masks, rounded to the nearest.
pub(crate) fn drop15(p: f32) -> u16 {
    (f64::from(p) * f64::from(DROP_ALL)).round() as u16
}

/// What kept elements are multiplied by: the reciprocal of the exact probability of keeping, 0 if
/// nothing is kept.
pub(crate) fn scale_of(drop15: u16) -> f64 {
    match DROP_ALL.saturating_sub(drop15) {
        0 => 0.0,
        kept => f64::from(DROP_ALL) / f64::from(kept),
    }
}

impl MaskKey {
    /// What kept elements are multiplied by: 1 / the probability of keeping, or 0 if nothing is.
    pub(crate) fn scale(&self) -> f32 {
        scale_of(self.drop15) as f32
    }

    /// The two words of the key, low word of the seed first.
    pub(crate) fn words(&self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }
}

/// Whether an element of a sample (its index in the global batch) is kept.
pub(crate) fn keep(key: &MaskKey, sample: u32, element: u32) -> bool {
    let lane = element % ELEMENTS_PER_BLOCK;
    let counter = [element / ELEMENTS_PER_BLOCK, sample, key.step, key.site];
    let word = philox4x32_10(counter, key.words())[(lane / 2) as usize];
    let lane15 = (word >> (16 * (lane % 2))) & 0x7fff;
    lane15 >= u32::from(key.drop15)
}

/// Ten rounds of Philox4x32 (Salmon et al., SC'11).
pub(crate) fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    round_keys(key).iter().fold(counter, |[c0, c1, c2, c3], [k0, k1]| {
        let even = u64::from(MULTIPLIERS[0]) * u64::from(c0);
        let odd = u64::from(MULTIPLIERS[1]) * u64::from(c2);
        [(odd >> 32) as u32 ^ c1 ^ k0, odd as u32, (even >> 32) as u32 ^ c3 ^ k1, even as u32]
    })
}

/// The key of every round.
pub(crate) fn round_keys(key: [u32; 2]) -> [[u32; 2]; ROUNDS] {
    std::array::from_fn(|round| {
        let bump = |word: usize| key[word].wrapping_add(KEY_STEPS[word].wrapping_mul(round as u32));
        [bump(0), bump(1)]
    })
}

/// The multipliers of the two halves of a round: of counter words 0 and 2.
pub(crate) const fn multipliers() -> [u32; 2] {
    MULTIPLIERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        let zeros = philox4x32_10([0; 4], [0; 2]);
        assert_eq!(zeros, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        let ones = philox4x32_10([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let pi = philox4x32_10(
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
        );
        assert_eq!(pi, [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn lanes_are_low_half_first_and_fifteen_bits() {
        // Words of the all-zero counter: 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
        let lanes = [0x68d5, 0x6627, 0x458d, 0x6169, 0x2c4c, 0x3c57, 0x5bd8, 0x1b00];
        for (element, lane) in lanes.into_iter().enumerate() {
            let key = |drop15| MaskKey { seed: 0, site: 0, step: 0, drop15 };
            assert!(keep(&key(lane), 0, element as u32));
            assert!(!keep(&key(lane + 1), 0, element as u32));
        }
    }

    #[test]
    fn the_ends_keep_all_and_none() {
        let key = |drop15| MaskKey { seed: 3, site: 9, step: 2, drop15 };
        assert!((0..999).all(|element| keep(&key(0), 5, element)));
        assert!(!(0..999).any(|element| keep(&key(DROP_ALL), 5, element)));
        assert_eq!(key(0).scale(), 1.0);
        assert_eq!(key(DROP_ALL).scale(), 0.0);
        assert_eq!(key(DROP_ALL / 2).scale(), 2.0);
    }
}
