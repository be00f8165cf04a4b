// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernels against plain loops, on every instruction set that the machine has.

mod along;
mod chain;
mod conv;
mod dropout;
mod elementwise;
mod exchange;
mod functions;
mod gradients;
mod lanes;
mod linear;
mod long_sums;
mod loss;
mod moving;
mod normalize;
mod optimiser;
mod pooling;
mod recurrent;
mod sparse;
mod winograd;

use super::{Isa, PanelLayout, Pool};
use crate::backend::cpu::exchange::LastCache;
use std::num::NonZeroUsize;

fn pool(threads: usize) -> Pool {
    pool_on(threads, LastCache::Whole)
}

fn pool_on(threads: usize, last_cache: LastCache) -> Pool {
    Pool::with_last_cache(NonZeroUsize::new(threads).unwrap(), last_cache)
}

/// Calls a test with every instruction set, with one and three threads and with both ways to store
/// what passes between them.
fn everywhere(test: impl Fn(&Pool, Isa)) {
    for pool in [pool(1), pool(3), pool_on(3, LastCache::Split)] {
        Isa::available().into_iter().for_each(|isa| test(&pool, isa));
    }
}

/// Repeatable values in [-1, 1).
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A matrix in panels.
fn packed(layout: PanelLayout, rows: &[f32]) -> Vec<f32> {
    let mut panels = vec![f32::NAN; layout.len()];
    layout.pack(rows, &mut panels);
    panels
}

/// A bias with its padding.
fn padded(layout: PanelLayout, bias: &[f32]) -> Vec<f32> {
    let mut padded = bias.to_vec();
    padded.resize(layout.padded_outputs(), 0.0);
    padded
}

/// Compares with values of about `scale` in size, and names the worst element.
#[track_caller]
fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let error = |index: usize| {
        let (got, want) = (f64::from(got[index]), want[index]);
        if got == want || (got.is_nan() && want.is_nan()) {
            0.0
        } else {
            (got - want).abs() / want.abs().max(1.0)
        }
    };
    let Some(worst) = (0..got.len()).max_by(|&a, &b| error(a).total_cmp(&error(b))) else { return };
    let (value, wanted) = (got[worst], want[worst]);
    assert!(error(worst) <= tolerance, "element {worst}: got {value}, want {wanted}");
}

/// What a sum of products of values in [-1, 1) may lose, far below the worst case.
fn rounding(terms: usize) -> f64 {
    terms.max(16) as f64 * f64::from(f32::EPSILON) / 2.0
}

/// Sizes that end inside vectors, tiles and panels: rows, inputs, outputs.
const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (2, 3, 10),
    (7, 31, 16),
    (13, 33, 17),
    (16, 8, 33),
    (20, 100, 50),
    (29, 65, 96),
    (64, 40, 128),
    (100, 17, 130),
];
