// SPDX-License-Identifier: MIT OR Apache-2.0
//! When skipping zeros pays.

use super::base::{for_each_vector, load, Vector};
use super::panels::PANEL;
use super::tile::MAX_TILE_ROWS;

/// Columns below which too few sums run side by side for skipping to pay.
const MIN_COLUMNS: usize = 2 * PANEL;

/// Steps below which lists are too short to pay.
const MIN_STEPS: usize = 32;

/// Fraction of non-zero values below which skipping the others is faster than multiplying all.
pub(crate) const SPARSE_DENSITY: f32 = 0.5;

/// Rows looked at to tell how many values are zero.
const SAMPLED_ROWS: usize = 8;

/// Elements whose lists may be held at a time: 32 MiB of them if nothing is zero.
const MAX_LISTED: usize = 4 << 20;

/// Whether a matrix of these extents is worth a list at all.
pub(crate) fn may_be_sparse<V: Vector>(rows: usize, steps: usize, columns: usize) -> bool {
    V::HAS_COMPRESS
        && steps >= MIN_STEPS
        && columns >= MIN_COLUMNS
        && rows.saturating_mul(steps) <= MAX_LISTED
}

/// Whether to skip the zeros of a factor of `[rows, steps]` in a product with so many columns.
///
/// All shares of a product ask about the same rows, so the answer does not depend on their number.
///
/// # Safety
/// `from` is valid for `rows` rows of `steps` values, `stride` apart.
#[inline(always)]
pub(crate) unsafe fn is_sparse<V: Vector>(
    from: *const f32,
    stride: usize,
    [rows, steps]: [usize; 2],
    columns: usize,
) -> bool {
    // SAFETY: the caller's.
    rows >= MAX_TILE_ROWS
        && may_be_sparse::<V>(1, steps, columns)
        && unsafe { density::<V>(from, stride, rows, steps) } < SPARSE_DENSITY
}

/// The fraction of non-zero values in a matrix, from a few rows spread over it.
///
/// # Safety
/// `from` is valid for `rows` rows of `columns` values, `stride` apart.
#[inline(always)]
pub(crate) unsafe fn density<V: Vector>(
    from: *const f32,
    stride: usize,
    rows: usize,
    columns: usize,
) -> f32 {
    let sampled = rows.min(SAMPLED_ROWS);
    let mut count = 0;
    for index in 0..sampled {
        let row = from.wrapping_add((rows * index / sampled) * stride);
        for_each_vector!(V, columns, |at, lanes| {
            // SAFETY: the row is one of the caller's, and `lanes` stops at its end.
            count += unsafe { load::<V>(row.add(at), lanes) }.non_zero_bits().count_ones();
        });
    }
    count as f32 / (sampled * columns).max(1) as f32
}
