// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a linear layer's weights that multiplies all of both factors.

use super::super::base::{load, store, Vector};
use super::super::choice::TALLEST_TILE;
use super::super::panels::PANEL;
use super::super::reductions::{add_chain, COLUMN_CHAIN};
use super::super::tile::{accumulate, next_tile_rows, tile_rows, Factors, Tiled, CHAIN};
use super::super::weight_gradient::{Product, Share};
use super::super::Stores;
use std::ops::Range;

/// Rows of the batch summed in one visit, as one chain: a panel of their gradients stays in the second
/// cache.
pub(crate) const BATCH_BLOCK: usize = CHAIN;

/// Multiplies all of both factors, zeros included.
///
/// # Safety
/// As the share's own kernel.
#[inline(always)]
pub(crate) unsafe fn run<V: Vector>(share: &Share<'_>) {
    let Share { job, ref panels, ref inputs, packed, partial, .. } = *share;
    let product = job.product;
    for panel in panels.clone() {
        let mut bias = [0.0; PANEL];
        let mut start = 0;
        // One pass even over no rows: the gradient is then 0, and moments still decay.
        loop {
            let rows = start..(start + BATCH_BLOCK).min(product.rows);
            // SAFETY: the share lies inside the product, the scratch holds a block.
            unsafe {
                pack_panel::<V>(&product, panel, rows.clone(), packed, &mut bias);
                let tiles = Tiles {
                    product,
                    panel,
                    packed,
                    partial,
                    tile: std::ptr::null_mut(),
                    rows: (rows.start, rows.end),
                };
                panel_tiles::<V>(share, tiles);
            }
            start = rows.end;
            if start == product.rows {
                break;
            }
        }
        if let (Some(tail), 0) = (&job.bias, inputs.start) {
            let width = product.layout.width(panel);
            // SAFETY: one share of each panel contains input 0, and it alone comes here.
            unsafe { tail.apply::<V>(panel * PANEL, &rounded(&bias)[..width], Stores::Cached) };
        }
    }
}

/// The sums of a panel's columns.
pub(crate) fn rounded(sums: &[f64; PANEL]) -> [f32; PANEL] {
    sums.map(|sum| sum as f32)
}

/// Copies a panel of `dy` to `[rows][width]` with zeros as padding, and adds the columns of `bias_dy` to
/// `sums`.
///
/// Rows of `dy` lie a power of two apart in many networks, so that all rows of a panel compete for
/// a few lines of the first cache; packed, they do not.
///
/// # Safety
/// `packed` is valid for all these rows.
#[inline(always)]
pub(crate) unsafe fn pack_panel<V: Vector>(
    product: &Product,
    panel: usize,
    rows: Range<usize>,
    packed: *mut f32,
    sums: &mut [f64; PANEL],
) {
    let width = product.layout.width(panel);
    let real = product.layout.outputs_of(panel);
    for column in (0..width).step_by(V::LANES) {
        let lanes = real.len().saturating_sub(column).min(V::LANES);
        let from = product.dy.wrapping_add(real.start + column);
        let summed = product.bias_dy.wrapping_add(real.start + column);
        for first in rows.clone().step_by(COLUMN_CHAIN) {
            let mut sum = V::splat(0.0);
            for row in first..(first + COLUMN_CHAIN).min(rows.end) {
                // SAFETY: `lanes` stops at the last real column; `packed` holds `width` columns.
                unsafe {
                    let value = load::<V>(from.wrapping_add(row * product.dy_stride), lanes);
                    value.store(packed.add((row - rows.start) * width + column));
                    let value = match from == summed {
                        true => value,
                        false => load::<V>(summed.wrapping_add(row * product.dy_stride), lanes),
                    };
                    sum = sum.add(value);
                }
            }
            add_chain(&mut sums[column..column + V::LANES], &sum.lanes());
        }
    }
}

/// The gradient of the share's weights in one panel.
///
/// # Safety
/// `tiles` points to the packed block, and the share lies inside the product.
#[inline(always)]
unsafe fn panel_tiles<V: Vector>(share: &Share<'_>, tiles: Tiles) {
    let (tail, inputs) = (&share.job.weight, &share.inputs);
    let layout = tiles.product.layout;
    let width = layout.width(tiles.panel);
    let column = tiles.panel * PANEL;
    let is_last = tiles.rows.1 == tiles.product.rows;
    let mut buffer = [0.0; TALLEST_TILE * PANEL];
    let mut input = inputs.start;
    while input < inputs.end {
        let rows = next_tile_rows::<V>(inputs.end - input);
        let offset = layout.panel_start(tiles.panel) + input * width;
        // SAFETY: the caller's; without partial sums the tile goes to the buffer, which holds one.
        unsafe {
            if is_last {
                tail.prefetch::<V>(offset, rows * width);
            }
            let partial = tiles.partial.wrapping_add(input * width);
            let tile = if is_last { buffer.as_mut_ptr() } else { partial };
            tile_rows::<V, _>(Tiles { tile, ..tiles }, input, rows, column, width);
            if is_last {
                clear_padding(
                    &mut buffer[..rows * width],
                    layout.outputs_of(tiles.panel).len(),
                    width,
                );
                let stores = share.stores(&(input..input + rows));
                tail.apply::<V>(offset, &buffer[..rows * width], stores);
            }
        }
        input += rows;
    }
}

/// Padding stays 0 even where an input is infinite or NaN.
#[inline(always)]
pub(crate) fn clear_padding(tile: &mut [f32], real: usize, width: usize) {
    if real < width {
        for row in tile.chunks_exact_mut(width) {
            row[real..].fill(0.0);
        }
    }
}

/// The tiles of one panel: rows are inputs, the sum runs over a block of the batch.
#[derive(Clone, Copy)]
struct Tiles {
    product: Product,
    panel: usize,
    packed: *const f32,
    /// The panel's sums over earlier blocks.
    partial: *mut f32,
    /// Where the tile goes, `[rows][width]`.
    tile: *mut f32,
    /// The block, from and to.
    rows: (usize, usize),
}

impl Tiled for Tiles {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const C: usize>(self, row: usize, column: usize) {
        let Product { layout, x, x_stride, .. } = self.product;
        let width = layout.width(self.panel);
        let column = column % PANEL;
        // SAFETY: the tile lies inside the panel, whose slices `WeightGradient::job` checked.
        unsafe {
            let mut tile = [[V::splat(0.0); C]; R];
            let factors = Factors {
                steps: self.rows.1 - self.rows.0,
                left: x.wrapping_add(self.rows.0 * x_stride + row),
                left_step: x_stride,
                right: self.packed.add(column),
                right_step: width,
                ahead: x,
                ahead_step: 0,
            };
            accumulate(&mut tile, &factors);
            if self.rows.0 > 0 {
                for index in 0..R {
                    for vector in 0..C {
                        let at = (row + index) * width + column + vector * V::LANES;
                        tile[index][vector] =
                            V::load(self.partial.add(at)).add(tile[index][vector]);
                    }
                }
            }
            for index in 0..R {
                for vector in 0..C {
                    let at = index * width + column + vector * V::LANES;
                    store(tile[index][vector], self.tile.add(at), V::LANES);
                }
            }
        }
    }
}
