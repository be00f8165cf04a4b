// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a linear layer's input from an output gradient that is mostly zeros.

use super::super::input_gradient::Share;
use super::add_products::{add_products, Before, Columns, Sums, Table};
use super::base::Vector;
use super::beside::Nothing;
use super::dense::input_gradient::{transpose_block, Tiles};
use super::lists::{Lists, GROUP};
use super::panels::{HALF_PANEL, PANEL};
use super::tile::{next_tile_rows, rows_per_block, tile_rows, Tiled};
use std::ops::Range;

/// Computes a share by lists of the non-zero values of `dy`.
///
/// # Safety
/// As the share's own kernel.
#[inline(always)]
pub(crate) unsafe fn run<V: Vector>(share: &Share<'_>) {
    let layout = share.product.layout;
    let block = rows_per_block(layout.outputs).min(share.rows.len().max(1));
    let mut lists = Lists::take();
    for start in share.rows.clone().step_by(block) {
        let rows = start..(start + block).min(share.rows.end);
        lists.clear(rows.len(), layout.outputs);
        // SAFETY: the block's rows lie in `dy`; the blocks of columns are the share's.
        unsafe {
            let dy = share.product.dy.add(rows.start * share.product.dy_stride);
            lists.add_rows::<V>(dy, share.product.dy_stride, rows.len(), layout.outputs);
            let mut first = share.blocks.start;
            while first < share.blocks.end {
                let blocks = (share.blocks.end - first).min(2);
                columns::<V>(share, first..first + blocks, rows.clone(), &lists);
                first += blocks;
            }
        }
    }
    lists.keep();
}

/// One or two blocks of 32 columns of some rows, all of which are listed.
///
/// # Safety
/// The blocks and rows lie inside the share.
#[inline(always)]
unsafe fn columns<V: Vector>(
    share: &Share<'_>,
    blocks: Range<usize>,
    rows: Range<usize>,
    lists: &Lists,
) {
    let layout = share.product.layout;
    let second = share.transposed.wrapping_add(layout.padded_outputs() * PANEL);
    let transposed = [share.transposed, second];
    let columns = match blocks.len() {
        1 => Columns::One,
        _ => Columns::Two,
    };
    let table = Table { panels: transposed.map(<*mut f32>::cast_const), columns };
    // SAFETY: the scratch has room for two blocks; the rest is the caller's.
    unsafe {
        for (block, to) in blocks.clone().zip(transposed) {
            let inputs = block * PANEL..(block * PANEL + PANEL).min(layout.inputs);
            transpose_block::<V>(&share.product, inputs, to);
        }
        let mut sums = Sums::new();
        let sums = sums.panels();
        for first in rows.clone().step_by(GROUP) {
            let group = first..(first + GROUP).min(rows.end);
            let listed = group.start - rows.start..group.end - rows.start;
            add_products::<V, _>(lists, listed, table, Before::Zero, sums, &mut Nothing);
            for (block, sums) in blocks.clone().zip(sums) {
                finish::<V>(share, block, group.clone(), sums);
            }
        }
    }
}

/// Masks and stores the sums of one block of columns.
///
/// # Safety
/// The tiles lie inside the share, and `sums` holds them, `[rows][32]`.
#[inline(always)]
unsafe fn finish<V: Vector>(share: &Share<'_>, block: usize, rows: Range<usize>, sums: *const f32) {
    let column = block * PANEL;
    let narrow = share.product.layout.inputs - column <= HALF_PANEL;
    let width = if narrow { HALF_PANEL } else { PANEL };
    let mut row = rows.start;
    while row < rows.end {
        let tile = next_tile_rows::<V>(rows.end - row);
        let (packed, transposed) = (std::ptr::null(), std::ptr::null());
        let tiles = Tiles { product: share.product, packed, transposed };
        let sums = sums.wrapping_add((row - rows.start) * PANEL);
        // SAFETY: the caller's.
        unsafe { tile_rows::<V, _>(Summed { tiles, sums }, row, tile, column, width) };
        row += tile;
    }
}

/// The tiles of some rows of one block of columns, whose sums lie elsewhere, `[rows][32]`.
#[derive(Clone, Copy)]
struct Summed<'a> {
    tiles: Tiles<'a>,
    sums: *const f32,
}

impl Tiled for Summed<'_> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const C: usize>(self, row: usize, column: usize) {
        // SAFETY: the tile lies inside the product, and `sums` holds its rows.
        unsafe {
            let mut tile = [[V::splat(0.0); C]; R];
            for index in 0..R {
                for vector in 0..C {
                    let at = index * PANEL + column % PANEL + vector * V::LANES;
                    tile[index][vector] = V::load(self.sums.add(at));
                }
            }
            self.tiles.finish(tile, row, column);
        }
    }
}
