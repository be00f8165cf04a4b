// SPDX-License-Identifier: MIT OR Apache-2.0
//! The forward pass of a linear layer whose input is mostly zeros.

use super::super::forward::Share;
use super::add_products::{add_products, Before, Columns, Sums, Table};
use super::base::Vector;
use super::beside::Nothing;
use super::choice::TALLEST_TILE;
use super::dense::forward::Tiles;
use super::lists::{Lists, GROUP};
use super::panels::PANEL;
use super::tile::{next_tile_rows, rows_per_block, tile_rows, Tiled};
use std::ops::Range;

/// Computes a share by lists of the input's non-zero values.
///
/// # Safety
/// As the share's own kernel.
#[inline(always)]
pub(crate) unsafe fn run<V: Vector>(share: &Share<'_>) {
    let layout = share.product.layout;
    let block = rows_per_block(layout.inputs).min(share.rows.len().max(1));
    let mut lists = Lists::take();
    let mut sums = Sums::new();
    for start in share.rows.clone().step_by(block) {
        let rows = start..(start + block).min(share.rows.end);
        lists.clear(rows.len(), layout.inputs);
        // SAFETY: the block's rows lie in `x`; the panels are the share's.
        unsafe {
            let x = share.product.x.add(rows.start * share.product.x_stride);
            lists.add_rows::<V>(x, share.product.x_stride, rows.len(), layout.inputs);
            let mut panel = share.panels.start;
            while panel < share.panels.end {
                let next = (panel + 1 < share.panels.end).then(|| layout.width(panel + 1));
                let columns = Columns::new(layout.width(panel), next);
                let after = panel + columns.panels();
                for first in rows.clone().step_by(GROUP) {
                    let group = first..(first + GROUP).min(rows.end);
                    let visit = Visit { share, panel, columns, rows: group };
                    visit.run::<V>(&lists, rows.start, &mut sums);
                }
                panel = after;
            }
        }
    }
    lists.keep();
}

/// Some rows of one or two panels.
struct Visit<'a> {
    share: &'a Share<'a>,
    panel: usize,
    columns: Columns,
    rows: Range<usize>,
}

impl Visit<'_> {
    /// # Safety
    /// The lists begin with row `listed` and hold these rows, which lie inside the share.
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, lists: &Lists, listed: usize, sums: &mut Sums) {
        let Visit { share, panel, columns, ref rows } = *self;
        let (layout, weight) = (share.product.layout, share.product.weight);
        let sums = sums.panels();
        // SAFETY: the caller's; the second panel is used only if there is one.
        unsafe {
            for index in 0..columns.panels() {
                self.tiles::<V>(panel + index, sums[index], Phase::Start);
            }
            let panels =
                [panel, panel + 1].map(|panel| weight.wrapping_add(layout.panel_start(panel)));
            let listed = rows.start - listed..rows.end - listed;
            add_products::<V, _>(
                lists,
                listed,
                Table { panels, columns },
                Before::Sums,
                sums,
                &mut Nothing,
            );
            for index in 0..columns.panels() {
                self.tiles::<V>(panel + index, sums[index], Phase::Finish);
            }
        }
    }

    /// Visits the tiles of one panel.
    ///
    /// # Safety
    /// As [`Visit::run`]; `sums` holds the panel's sums.
    #[inline(always)]
    unsafe fn tiles<V: Vector>(&self, panel: usize, sums: *mut f32, phase: Phase) {
        let width = self.share.product.layout.width(panel);
        let mut row = self.rows.start;
        while row < self.rows.end {
            let rows = next_tile_rows::<V>(self.rows.end - row);
            let mut bits = [u32::MAX; TALLEST_TILE];
            let masks = match phase {
                Phase::Start => None,
                Phase::Finish => {
                    self.share.keep_bits::<V>(row, panel, &mut bits[..rows.next_multiple_of(4)])
                }
            };
            let tiles = Tiles {
                product: self.share.product,
                packed: std::ptr::null(),
                masks: masks.map(|scale| (&bits, scale)),
                width,
                ahead: std::ptr::null(),
                ahead_step: 0,
            };
            let sums = sums.wrapping_add((row - self.rows.start) * width);
            // SAFETY: the caller's.
            unsafe {
                tile_rows::<V, _>(Summed { tiles, sums, phase }, row, rows, panel * PANEL, width)
            };
            row += rows;
        }
    }
}

/// What happens to sums before or after the products are added.
#[derive(Clone, Copy)]
enum Phase {
    Start,
    Finish,
}

/// The tiles of some rows of one panel, whose sums lie elsewhere, `[rows][width]`.
#[derive(Clone, Copy)]
struct Summed<'a> {
    tiles: Tiles<'a>,
    sums: *mut f32,
    phase: Phase,
}

impl Tiled for Summed<'_> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const C: usize>(self, row: usize, column: usize) {
        let place = |index: usize, vector: usize| {
            self.sums.wrapping_add(index * self.tiles.width + column % PANEL + vector * V::LANES)
        };
        // SAFETY: the tile lies inside the product, and `sums` holds its rows.
        unsafe {
            match self.phase {
                Phase::Start => {
                    let tile = self.tiles.start::<V, R, C>(column);
                    for index in 0..R {
                        for vector in 0..C {
                            tile[index][vector].store(place(index, vector));
                        }
                    }
                }
                Phase::Finish => {
                    let mut tile = [[V::splat(0.0); C]; R];
                    for index in 0..R {
                        for vector in 0..C {
                            tile[index][vector] = V::load(place(index, vector));
                        }
                    }
                    self.tiles.finish(tile, row, column);
                }
            }
        }
    }
}
