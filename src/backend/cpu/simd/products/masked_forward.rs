// SPDX-License-Identifier: MIT OR Apache-2.0
//! The forward pass of a linear layer whose dropout drops much of the output: which elements stay
//! is known before anything is multiplied, and only they are computed.

use super::base::{load, Vector};
use super::dense::forward::Tiles;
use super::forward::Share;
use super::masked::{Columns, Masked, Rows, BLOCK, GROUP};
use super::panels::PANEL;
use super::sparse::{Ahead, Region};
use super::tile::{next_tile_rows, rows_per_block, tile_rows, Tiled, MAX_TILE_ROWS};
use std::ops::Range;

/// How many vectors of `x` may stay in registers: beside two sums, 13 are as many as AVX2 has room
/// for, and the weights of 32 outputs to so many inputs leave room in a first cache.
const HELD: [usize; 3] = [13, 10, 8];

/// How much longer a term of a dot product takes than one of a dense product (Zen 4).
const COST: f32 = 1.4;

/// Terms of a dense product that take as long as turning a vector of weights (Zen 4).
const TURNED: f32 = 6.0;

/// Vectors of a row of `x` that are held at a time: those that leave the least rest.
fn held<V: Vector>(inputs: usize) -> usize {
    let vectors = inputs.div_ceil(V::LANES);
    // The first of the best.
    HELD.into_iter().min_by_key(|held| vectors.next_multiple_of(*held)).unwrap_or(HELD[0])
}

/// Whether dot products of what stays are faster than dense products of all. Depends on nothing that
/// the threads would see differently.
#[inline(always)]
pub(super) fn pays<V: Vector>(share: &Share<'_>) -> bool {
    let Some(kept) = share.kept() else { return false };
    let inputs = share.product.layout.inputs;
    if !V::HAS_COMPRESS || inputs == 0 {
        return false;
    }
    let length = inputs.next_multiple_of(held::<V>(inputs) * V::LANES);
    let cost = COST * kept * length as f32 / inputs as f32;
    rows_at_a_time(share.all_rows, inputs) as f32 * (1.0 - cost) > TURNED
}

/// Rows that share their turned weights: about as many each time, and at most [`BLOCK`].
fn rows_at_a_time(rows: usize, inputs: usize) -> usize {
    let times = rows.div_ceil(BLOCK.min(rows_per_block(inputs)));
    rows.div_ceil(times.max(1))
}

/// Computes a share by dot products.
///
/// # Safety
/// As the share's own kernel; [`pays`] said so.
#[inline(always)]
pub(super) unsafe fn run<V: Vector>(share: &Share<'_>) {
    // SAFETY: the caller's.
    unsafe {
        match held::<V>(share.product.layout.inputs) {
            13 => chunks::<V, 13>(share),
            10 => chunks::<V, 10>(share),
            _ => chunks::<V, 8>(share),
        }
    }
}

/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn chunks<V: Vector, const HELD: usize>(share: &Share<'_>) {
    let layout = share.product.layout;
    // Whole groups, even of no rows.
    let block = rows_at_a_time(share.rows.len(), layout.inputs).max(1).next_multiple_of(GROUP);
    let length = HELD * V::LANES;
    let copied = block * layout.inputs.next_multiple_of(length);
    let mut masked = Masked::take::<V>(copied + PANEL * length);
    for start in share.rows.clone().step_by(block) {
        let rows = start..(start + block).min(share.rows.end);
        let copy = masked.extra();
        let turned = copy.wrapping_add(copied);
        // SAFETY: the rows lie inside the share; the extra room is for them and a chunk of weights.
        unsafe {
            copy_chunks::<V, HELD>(share, rows.clone(), copy);
            for panel in share.panels.clone() {
                panel_rows::<V, HELD>(share, panel, rows.clone(), &mut masked, [copy, turned]);
            }
        }
    }
    masked.keep();
}

/// Copies rows of `x`, chunk by chunk, the last one padded with zeros.
///
/// # Safety
/// The rows lie inside the share; `to` is valid for all of their chunks.
#[inline(always)]
unsafe fn copy_chunks<V: Vector, const HELD: usize>(
    share: &Share<'_>,
    rows: Range<usize>,
    mut to: *mut f32,
) {
    let inputs = share.product.layout.inputs;
    for first in (0..inputs).step_by(HELD * V::LANES) {
        for row in rows.clone() {
            for vector in 0..HELD {
                let input = (first + vector * V::LANES).min(inputs);
                let lanes = (inputs - input).min(V::LANES);
                // SAFETY: the caller's; `lanes` stops at the last input.
                unsafe {
                    let from = share.product.x.add(row * share.product.x_stride + input);
                    load::<V>(from, lanes).store(to);
                }
                to = to.wrapping_add(V::LANES);
            }
        }
    }
}

/// One panel of at most [`BLOCK`] rows.
///
/// # Safety
/// `copy` holds the rows' chunks of `x`; `turned` has room for a chunk of 32 outputs.
#[inline(always)]
unsafe fn panel_rows<V: Vector, const HELD: usize>(
    share: &Share<'_>,
    panel: usize,
    rows: Range<usize>,
    masked: &mut Masked,
    [copy, turned]: [*mut f32; 2],
) {
    let layout = share.product.layout;
    let outputs = layout.outputs_of(panel).len();
    let length = HELD * V::LANES;
    let padded = rows.len().next_multiple_of(4);
    let Some(scale) = share.keep_bits::<V>(rows.start, panel, &mut masked.passing[..padded]) else {
        return;
    };
    for bits in &mut masked.passing[..rows.len()] {
        *bits &= u32::MAX >> (PANEL - outputs);
    }
    masked.start(rows.len());
    let chunks = layout.inputs.div_ceil(length);
    let mut ahead = Ahead::nothing();
    if panel + 1 < share.panels.end {
        let next = share.product.weight.wrapping_add(layout.panel_start(panel + 1));
        ahead.add(Region::slice(next, layout.inputs * layout.width(panel + 1)));
    }
    let mut ahead = ahead.over(rows.len() * chunks);
    // SAFETY: the caller's.
    unsafe {
        for chunk in 0..chunks {
            turn::<V>(share, panel, chunk * length, length, turned);
            let from = Rows { start: copy.add(chunk * rows.len() * length), stride: length };
            let columns = Turned { start: turned, length };
            masked.add_chunk::<V, HELD>(rows.len(), chunk, from, columns, &mut ahead);
        }
        finish::<V>(share, panel, rows, masked, scale);
    }
}

/// The weights of the outputs of a panel, one output after the other.
#[derive(Clone, Copy)]
struct Turned {
    start: *const f32,
    length: usize,
}

impl Columns for Turned {
    #[inline(always)]
    fn at(self, column: usize, term: usize) -> *const f32 {
        self.start.wrapping_add(column * self.length + term)
    }
}

/// Writes a panel's weights of `length` inputs as `[outputs][length]`, missing inputs as 0.
///
/// # Safety
/// `to` is valid for writing `length` values for each output that the panel stores.
#[inline(always)]
unsafe fn turn<V: Vector>(
    share: &Share<'_>,
    panel: usize,
    input: usize,
    length: usize,
    to: *mut f32,
) {
    let layout = share.product.layout;
    let width = layout.width(panel);
    let count = (layout.inputs - input).min(length);
    let whole = count / 8 * 8;
    // SAFETY: the panel stores `count` inputs from `input` on; the rest is the caller's.
    unsafe {
        let from = share.product.weight.add(layout.panel_start(panel) + input * width);
        for input in (0..whole).step_by(8) {
            for output in (0..width).step_by(8) {
                let from = from.add(input * width + output);
                V::transpose_8x8(from, width, to.add(output * length + input), length);
            }
        }
        for output in 0..width {
            for input in whole..length {
                let is_missing = input >= count;
                let weight = if is_missing { 0.0 } else { *from.add(input * width + output) };
                *to.add(output * length + input) = weight;
            }
        }
    }
}

/// Bias, activation, scale and store.
///
/// # Safety
/// As [`panel_rows`], with the totals of these rows.
#[inline(always)]
unsafe fn finish<V: Vector>(
    share: &Share<'_>,
    panel: usize,
    rows: Range<usize>,
    masked: &Masked,
    scale: f32,
) {
    let width = share.product.layout.width(panel);
    let mut row = rows.start;
    while row < rows.end {
        let tall = next_tile_rows::<V>(rows.end - row);
        let first = row - rows.start;
        let mut bits = [0; MAX_TILE_ROWS];
        bits[..tall].copy_from_slice(&masked.passing[first..first + tall]);
        let tiles = Tiles {
            product: share.product,
            packed: std::ptr::null(),
            masks: Some((&bits, scale)),
            width,
            ahead: std::ptr::null(),
            ahead_step: 0,
        };
        let totals = Totals { tiles, masked, start: rows.start };
        // SAFETY: the caller's.
        unsafe { tile_rows::<V, _>(totals, row, tall, panel * PANEL, width) };
        row += tall;
    }
}

/// The tiles of some rows of one panel, whose products are done.
#[derive(Clone, Copy)]
struct Totals<'a> {
    tiles: Tiles<'a>,
    masked: &'a Masked,
    /// The row whose totals come first.
    start: usize,
}

impl Tiled for Totals<'_> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const C: usize>(self, row: usize, column: usize) {
        // SAFETY: the tile lies inside the product, and the totals are those of its rows.
        unsafe {
            let mut tile = self.tiles.start::<V, R, C>(column);
            for index in 0..R {
                for vector in 0..C {
                    let at = column % PANEL + vector * V::LANES;
                    let total = self.masked.total::<V>(row - self.start + index, at);
                    tile[index][vector] = tile[index][vector].add(total);
                }
            }
            self.tiles.finish(tile, row, column);
        }
    }
}
