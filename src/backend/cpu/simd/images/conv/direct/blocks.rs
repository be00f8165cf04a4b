// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of targets whose sources fit into a cache, and which lines of the source they see.

use super::choice::TALLEST_TILE;
use super::sweep::{Axis, Sweep};
use super::{Direct, AXES};
use std::ops::Range;

/// Elements of packed rows that a block of targets works on: half of a small second cache.
const BLOCK_ELEMENTS: usize = 64 << 10;

/// Shares of work per thread where rows allow: images may be fewer than threads.
const BLOCKS_PER_THREAD: usize = 4;

/// How the targets of a sweep are cut into blocks: whole rows of an image, or stretches of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// Groups, samples, depths, stretches of height and width.
    counts: [usize; AXES + 2],
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// A block of targets, by the numbers of a sweep.
pub(super) struct Block {
    pub(super) group: usize,
    pub(super) sample: usize,
    pub(super) depth: usize,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Blocks {
    /// Blocks whose packed sources fit into a cache. How they are cut changes no sum.
    pub(super) fn of(direct: &Direct<'_>, [depth, height, width]: &Sweep, threads: usize) -> Self {
        let reach = |axis: &Axis| match axis.reach() {
            Some([least, largest]) => (largest - least) as usize,
            None => 0,
        };
        let planes = direct.mixing.channels[0] * depth.taps.len();
        // Of a target's rows, and of a block of one row.
        let window = planes * (reach(height) + 1);
        let per_column = (window * width.stride.min(width.taps.len())).max(1);
        let most = (BLOCK_ELEMENTS / per_column).max(4 * TALLEST_TILE);
        let pieces = width.count.div_ceil(most).max(1);
        let columns = width.count.div_ceil(pieces).max(1);
        let packed_row = (columns + reach(width)) * planes;
        let fit = (BLOCK_ELEMENTS / packed_row.max(1)).saturating_sub(reach(height));
        let mut rows = (fit / height.stride).clamp(1, height.count.max(1));
        let others = direct.mixing.groups * direct.samples * depth.count * pieces;
        while rows > 1 && others * height.count.div_ceil(rows) < BLOCKS_PER_THREAD * threads {
            rows = rows.div_ceil(2);
        }
        // Stretches about as tall as each other, none of them empty.
        let bands = height.count.div_ceil(rows);
        let pieces = width.count.div_ceil(columns);
        let counts = [direct.samples, direct.mixing.groups, depth.count, bands, pieces];
        Blocks { counts, rows: height.count.div_ceil(bands), columns }
    }

    pub(super) fn count(&self) -> usize {
        self.counts.iter().product()
    }

    pub(super) fn get(&self, index: usize, [_, height, width]: &Sweep) -> Block {
        let [_, groups, depths, bands, pieces] = self.counts;
        let (rest, piece) = (index / pieces, index % pieces);
        let (rest, band) = (rest / bands, rest % bands);
        let (rest, depth) = (rest / depths, rest % depths);
        let stretch = |number: usize, size: usize, count: usize| {
            (number * size).min(count)..((number + 1) * size).min(count)
        };
        Block {
            group: rest % groups,
            sample: rest / groups,
            depth,
            rows: stretch(band, self.rows, height.count),
            columns: stretch(piece, self.columns, width.count),
        }
    }
}

/// The lines of a source that a stretch of targets may see.
pub(super) fn lines(axis: &Axis, targets: &Range<usize>) -> Range<usize> {
    let Some([least, largest]) = axis.reach() else { return 0..0 };
    let inside = |at: isize| at.clamp(0, axis.source as isize) as usize;
    let start = inside((targets.start * axis.stride) as isize + least);
    let last = (targets.end.saturating_sub(1) * axis.stride) as isize + largest;
    start..inside(last + 1).max(start)
}

/// Whether any of the targets sees a line.
pub(super) fn is_seen(axis: &Axis, targets: &Range<usize>, line: usize) -> bool {
    axis.taps.iter().any(|tap| {
        let from = line as isize - tap.offset;
        let stride = axis.stride as isize;
        from >= 0 && from % stride == 0 && targets.contains(&((from / stride) as usize))
    })
}
