// SPDX-License-Identifier: MIT OR Apache-2.0
//! The forward pass of a linear layer that multiplies all of its input, and the tiles of its output.

use super::super::base::{store_as, Vector};
use super::super::choice::TALLEST_TILE;
use super::super::elementwise::{activate_in_place, Activation};
use super::super::forward::{Product, Share, Start};
use super::super::panels::PANEL;
use super::super::tile::{accumulate, for_each_packed, next_tile_rows, tile_rows};
use super::super::tile::{Factors, Tiled};
use super::super::Stores;
use std::ops::Range;

/// Multiplies all of the input, zeros included.
///
/// # Safety
/// As the share's own kernel.
#[inline(always)]
pub(crate) unsafe fn run<V: Vector>(share: &Share<'_>) {
    let Product { layout, x, x_stride, .. } = share.product;
    // SAFETY: the share lies inside the product.
    unsafe {
        for_each_packed::<V>(x, x_stride, share.rows.clone(), layout.inputs, |rows, packed| {
            for index in share.panels.clone() {
                panel::<V>(share, index, rows.clone(), packed);
            }
        });
    }
}

/// One panel of a block of rows.
///
/// # Safety
/// `packed` holds the block.
#[inline(always)]
unsafe fn panel<V: Vector>(
    share: &Share<'_>,
    index: usize,
    block: Range<usize>,
    packed: *const f32,
) {
    let layout = share.product.layout;
    let width = layout.width(index);
    // The next panel comes into the second cache while this one is used, part by part; not the
    // next thread's, which would have to take it back.
    let next = share.product.weight.wrapping_add(layout.panel_start(index + 1));
    let has_next = index + 1 < share.panels.end;
    let lines = (layout.inputs * width / 16).div_ceil(block.len().div_ceil(V::TILE_ROWS));
    let ahead_step = match has_next {
        true => 16 * lines.div_ceil((layout.inputs / 4).max(1)),
        false => 0,
    };
    let mut row = block.start;
    while row < block.end {
        let rows = next_tile_rows::<V>(block.end - row);
        let mut bits = [u32::MAX; TALLEST_TILE];
        let scale = share.keep_bits::<V>(row, index, &mut bits[..rows.next_multiple_of(4)]);
        let done = row - block.start;
        let tiles = Tiles {
            product: share.product,
            packed: packed.wrapping_add(done * layout.inputs),
            masks: scale.map(|scale| (&bits, scale)),
            width,
            ahead: next.wrapping_add(done / V::TILE_ROWS * lines * 16),
            ahead_step,
        };
        // SAFETY: the share lies inside the product.
        unsafe { tile_rows::<V, _>(tiles, row, rows, index * PANEL, width) };
        row += rows;
    }
}

/// The tiles of one panel, and what they share.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<'a> {
    pub(crate) product: Product<'a>,
    /// The tile's rows of `x`.
    pub(crate) packed: *const f32,
    /// The keep bits of the panel's 32 columns for each row of the tile, and the scale.
    pub(crate) masks: Option<(&'a [u32; TALLEST_TILE], f32)>,
    pub(crate) width: usize,
    pub(crate) ahead: *const f32,
    pub(crate) ahead_step: usize,
}

impl Tiled for Tiles<'_> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const C: usize>(self, row: usize, column: usize) {
        let Product { layout, weight, .. } = self.product;
        let panel = column / PANEL;
        // SAFETY: the tile lies inside the product, whose slices were checked by `Forward::job`.
        unsafe {
            let mut tile = self.start::<V, R, C>(column);
            let factors = Factors {
                steps: layout.inputs,
                left: self.packed,
                left_step: R,
                right: weight.add(layout.panel_start(panel) + column % PANEL),
                right_step: self.width,
                ahead: self.ahead,
                ahead_step: self.ahead_step,
            };
            accumulate(&mut tile, &factors);
            self.finish(tile, row, column);
        }
    }
}

impl Tiles<'_> {
    /// The tile before the products are added.
    #[inline(always)]
    pub(crate) unsafe fn start<V: Vector, const R: usize, const C: usize>(
        &self,
        column: usize,
    ) -> [[V; C]; R] {
        let mut tile = [[V::splat(0.0); C]; R];
        if let Start::Bias(bias) = self.product.start {
            for vector in 0..C {
                // SAFETY: a bias covers the padding of the last panel.
                let bias = unsafe { V::load(bias.as_ptr().add(column + vector * V::LANES)) };
                for row in &mut tile {
                    row[vector] = bias;
                }
            }
        }
        tile
    }

    /// Activation, dropout and store.
    #[inline(always)]
    pub(crate) unsafe fn finish<V: Vector, const R: usize, const C: usize>(
        &self,
        mut tile: [[V; C]; R],
        row: usize,
        column: usize,
    ) {
        // SAFETY: the tile lies inside the product; only real columns are written.
        unsafe {
            match self.product.activation {
                Activation::None => {}
                Activation::Relu => rectify(&mut tile),
                activation => return self.finish_slowly(activation, tile, row, column),
            }
            if let Some((bits, scale)) = self.masks {
                let scale = V::splat(scale);
                for index in 0..R {
                    for vector in 0..C {
                        let keep = V::mask(bits[index] >> (column % PANEL + vector * V::LANES));
                        let kept = tile[index][vector].mul(scale);
                        tile[index][vector] = V::select(keep, kept, V::splat(0.0));
                    }
                }
            }
            self.store(&tile, row, column, self.product.stores);
        }
    }

    /// As `finish`, for activations too long to be unrolled over a whole tile.
    #[inline(always)]
    unsafe fn finish_slowly<V: Vector, const R: usize, const C: usize>(
        &self,
        activation: Activation,
        tile: [[V; C]; R],
        row: usize,
        column: usize,
    ) {
        let columns = (C * V::LANES).min(self.product.layout.outputs.saturating_sub(column));
        // SAFETY: the tile lies inside the product; only real columns are read and written.
        unsafe {
            // Near, since it is read and written again at once.
            self.store(&tile, row, column, Stores::Cached);
            for index in 0..R {
                let values = self.output(row + index, column);
                let values = std::slice::from_raw_parts_mut(values, columns);
                activate_in_place::<V>(activation, values);
                if let Some((bits, scale)) = self.masks {
                    for (offset, value) in values.iter_mut().enumerate() {
                        let keep = bits[index] >> (column % PANEL + offset) & 1 != 0;
                        *value = if keep { *value * scale } else { 0.0 };
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn store<V: Vector, const R: usize, const C: usize>(
        &self,
        tile: &[[V; C]; R],
        row: usize,
        column: usize,
        stores: Stores,
    ) {
        for vector in 0..C {
            let column = column + vector * V::LANES;
            let lanes = self.real_lanes::<V>(column);
            for index in 0..R {
                let to = self.output(row + index, column);
                // SAFETY: the caller's; `lanes` stops at the last real column.
                unsafe { store_as(stores, tile[index][vector], to, lanes) };
            }
        }
    }

    /// How many lanes from a column on are not padding.
    #[inline(always)]
    fn real_lanes<V: Vector>(&self, column: usize) -> usize {
        self.product.layout.outputs.saturating_sub(column).min(V::LANES)
    }

    #[inline(always)]
    fn output(&self, row: usize, column: usize) -> *mut f32 {
        self.product.y.wrapping_add(row * self.product.y_stride + column)
    }
}

/// ReLU; the operand order lets NaN through.
#[inline(always)]
fn rectify<V: Vector, const R: usize, const C: usize>(tile: &mut [[V; C]; R]) {
    for index in 0..R {
        for vector in 0..C {
            tile[index][vector] = V::splat(0.0).max(tile[index][vector]);
        }
    }
}
