// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of a factor is zero.

use super::base::{for_each_vector, load, Vector};
use super::choice;

/// Rows looked at to tell how many values are zero.
const SAMPLED_ROWS: usize = 8;

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
    V::LISTS_ZEROS
        && choice::may_skip_rows([rows, steps], columns)
        && choice::is_sparse(unsafe { density::<V>(from, stride, rows, steps) })
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
