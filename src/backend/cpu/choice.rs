// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs when, and why: the choices that shapes, data and the machine decide.
//!
//! | what is chosen | by what | where |
//! |---|---|---|
//! | the instruction set | the machine, once | [`Isa::best`](super::simd::Isa::best) |
//! | a loop of its own, or the plain meaning | the kernel | [`Path::of`](super::path::Path::of) |
//! | dense products, or perhaps sparse ones | extents | [`may_skip_rows`], [`may_skip_columns`] |
//! | skipping zeros | the density of a few rows, when the step runs | [`is_sparse`] |
//! | the height of a register tile | the instruction set, and how many rows are left | [`tile_rows`] |
//! | what threads divide among themselves | extents and threads | [`split_of`] |
//! | stores near the core, or past its caches | who reads next, threads, the last cache | [`own_inputs`], [`exchange`](super::exchange) |
//! | a convolution by sums or by squares | extents, once per plan | [`ConvWay`](crate::kernel::ConvWay) |
//! | the same for dropout alone and chains | the size | [`STREAMED_ELEMENTS`] |
//! | one thread for a chain, or all | its elements and links | [`is_small`] |
//! | one thread for a reduction, or all | the elements that it reads | [`is_short`] |
//!
//! None of them changes a bit of a result that is finite. `kiln plan` prints for each step what they
//! come to; `path` asks the same functions as the loops do.

use super::exchange::Readers;
use super::pool::split_by;
use crate::kernel::Chain;
use std::ops::Range;

/// Outputs of a linear layer that are computed side by side, and stored side by side in the layout of
/// its weights: two AVX-512 registers or four AVX2 registers.
pub(crate) const PANEL: usize = 32;

/// Rows of the tallest register tile of any instruction set.
pub(crate) const TALLEST_TILE: usize = 12;

/// Columns below which too few sums run side by side for skipping zeros to pay.
const MIN_COLUMNS: usize = 2 * PANEL;

/// Steps of a reduction below which lists of what is not zero are too short to pay.
const MIN_STEPS: usize = 32;

/// Elements whose lists may be held at a time: 32 MiB of them if nothing is zero.
const MAX_LISTED: usize = 4 << 20;

/// Fraction of non-zero values below which skipping the others is faster than multiplying all.
const SPARSE_DENSITY: f32 = 0.5;

/// Destinations of dropout alone, and of chains, with at least this many elements are written past the caches. Two
/// such buffers fill the last cache of the machines measured (32 MiB), and a store that misses
/// otherwise reads first.
pub(crate) const STREAMED_ELEMENTS: usize = 4 << 20;

/// Links times elements below which a second thread costs a chain more than it saves.
const SMALL_CHAIN: usize = 1 << 14;

/// Whether one thread computes a chain.
pub(crate) fn is_small(chain: &Chain) -> bool {
    chain.elements.saturating_mul(chain.links.len()) <= SMALL_CHAIN
}

/// Elements below which a second thread costs a reduction more than it saves.
const SHORT_REDUCTION: usize = 1 << 14;

/// Whether one thread reduces so many elements.
pub(crate) fn is_short(elements: usize) -> bool {
    elements <= SHORT_REDUCTION
}

/// Whether it can pay to skip the zeros of a factor of `[rows, steps]` in a product with so many
/// columns, a block of rows at a time: in a forward pass and an input gradient.
pub(crate) fn may_skip_rows([rows, steps]: [usize; 2], columns: usize) -> bool {
    rows >= TALLEST_TILE && may_skip_columns([1, steps], columns)
}

/// Whether it can pay to skip the zeros of a factor whose columns are listed all at once, so many of
/// them: in a weight gradient.
pub(crate) fn may_skip_columns([lists, steps]: [usize; 2], columns: usize) -> bool {
    steps >= MIN_STEPS && columns >= MIN_COLUMNS && lists.saturating_mul(steps) <= MAX_LISTED
}

/// Whether a factor of which this fraction is not zero is multiplied without its zeros.
pub(crate) fn is_sparse(density: f32) -> bool {
    density < SPARSE_DENSITY
}

/// How many rows the next tile takes of `left` remaining ones, with tiles of at most `tallest`.
#[inline(always)]
pub(crate) fn tile_rows(tallest: usize, left: usize) -> usize {
    // Two medium tiles keep the multipliers busier than a tall one and a small rest.
    let medium = tallest * 2 / 3;
    match left {
        _ if left == 2 * medium && tallest >= 6 => medium,
        _ if left >= tallest => tallest,
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// What threads divide among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// Panels of the result's columns: a thread that always takes the same finds their weights in its
    /// own cache.
    Panels,
    /// Rows of the result, where panels would leave a thread idle or with more than the others.
    Rows,
}

/// What so many threads divide of a result of these extents.
pub(crate) fn split_of(panels: usize, rows: usize, threads: usize) -> Split {
    match !go_round(panels, threads) && rows >= TALLEST_TILE * threads {
        true => Split::Rows,
        false => Split::Panels,
    }
}

/// Whether panels can be divided among threads about evenly.
fn go_round(panels: usize, threads: usize) -> bool {
    panels.is_multiple_of(threads) || panels >= 4 * threads
}

/// The inputs whose weights no thread reads first but the one of this index, which has just computed
/// their gradient; updates of those stay near it.
pub(crate) fn own_inputs(
    readers: Readers,
    [inputs, outputs]: [usize; 2],
    threads: usize,
    index: usize,
) -> Range<usize> {
    let [blocks, panels] = [inputs, outputs].map(|extent| extent.div_ceil(PANEL));
    match readers {
        // A forward pass whose rows are split reads all weights, whoever wrote them.
        _ if !go_round(panels, threads) => 0..0,
        Readers::Writer => 0..inputs,
        // An input gradient that is split by blocks of inputs reads all panels of its own.
        Readers::All if go_round(blocks, threads) => split_by(PANEL, inputs, threads, index),
        Readers::All => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_skipped_where_lists_are_long_and_sums_side_by_side() {
        assert!(may_skip_rows([64, 784], 512));
        let too_small = [([11, 784], 512), ([64, 31], 512), ([64, 784], 63)];
        assert!(too_small.into_iter().all(|(factor, columns)| !may_skip_rows(factor, columns)));
        assert!(may_skip_columns([512, 64], 784));
        assert!(!may_skip_columns([1 << 17, 64], 784), "lists of 8M elements");
        assert!(is_sparse(0.25) && !is_sparse(0.5));
    }

    #[test]
    fn threads_divide_panels_unless_they_are_few_and_rows_many() {
        for (panels, rows, threads, split) in [
            (16, 64, 2, Split::Panels),
            (1, 64, 1, Split::Panels),
            (1, 64, 2, Split::Rows),
            (1, 23, 2, Split::Panels),
            (9, 64, 2, Split::Panels),
            (7, 64, 2, Split::Rows),
        ] {
            assert_eq!(split_of(panels, rows, threads), split, "{panels} {rows} {threads}");
        }
    }

    #[test]
    fn tiles_are_as_tall_as_registers_allow_and_end_even() {
        let heights = |tallest, mut left: usize| {
            let mut heights = Vec::new();
            while left > 0 {
                heights.push(tile_rows(tallest, left));
                left -= heights[heights.len() - 1];
            }
            heights
        };
        assert_eq!(heights(12, 29), [12, 12, 4, 1]);
        assert_eq!(heights(12, 16), [8, 8]);
        assert_eq!(heights(6, 14), [6, 4, 4]);
        assert_eq!(heights(4, 7), [4, 2, 1]);
    }

    #[test]
    fn updates_stay_near_what_reads_them() {
        let own = |readers, extents, threads| own_inputs(readers, extents, threads, 1);
        assert_eq!(own(Readers::Writer, [784, 512], 2), 0..784);
        assert_eq!(own(Readers::All, [512, 512], 2), 256..512);
        assert_eq!(own(Readers::All, [96, 512], 2), 0..0, "three blocks among two threads");
        assert_eq!(own(Readers::Writer, [784, 10], 2), 0..0, "rows of the forward pass are split");
    }
}
