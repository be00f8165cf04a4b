// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeded random choices that stay the same for ever.
//!
//! The generator is ChaCha8, whose output is fixed by its specification; the draws from it are
//! written out here instead of taken from `rand`, which may change how it maps bits to ranges
//! between versions. Golden tests hold both.

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What random numbers are for. Each purpose has its own stream, so that equal seeds given to two
/// features do not correlate their choices.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    EpochOrder,
    ShuffledSet,
    LabelNoise,
}

/// The stream of random numbers for one purpose, seed and counter (the epoch, or 0).
pub(super) fn stream(purpose: Purpose, seed: u64, counter: u64) -> ChaCha8Rng {
    let tag: [u8; 16] = match purpose {
        Purpose::EpochOrder => *b"kiln epoch order",
        Purpose::ShuffledSet => *b"kiln shuffle set",
        Purpose::LabelNoise => *b"kiln label noise",
    };
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&counter.to_le_bytes());
    key[16..].copy_from_slice(&tag);
    ChaCha8Rng::from_seed(key)
}

/// A permutation of `0..len`, every one equally likely.
pub(super) fn permutation(rng: &mut ChaCha8Rng, len: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..len).collect();
    choose_front(rng, &mut indices, len);
    indices
}

/// Fisher-Yates from the front: leaves `count` elements, chosen and ordered uniformly, at the
/// front.
pub(super) fn choose_front(rng: &mut ChaCha8Rng, indices: &mut [usize], count: usize) {
    for position in 0..count.min(indices.len()) {
        let rest = indices.len() - position;
        indices.swap(position, position + below(rng, rest));
    }
}

/// A uniform number below `bound`, which is not 0 (Lemire's multiplication, with rejection).
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    let bound = bound as u64;
    let unfair = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if product as u64 >= unfair {
            return (product >> 64) as usize;
        }
    }
}
