// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a linear layer's input that multiplies all of `dy`, and the tiles of the result.

use super::super::base::{load, store_as, Vector};
use super::super::input_gradient::MaskNonZero;
use super::super::input_gradient::{Product, Share};
use super::super::panels::{HALF_PANEL, PANEL};
use super::super::tile::{accumulate, for_each_packed, next_tile_rows, tile_rows, Factors, Tiled};
use std::ops::Range;

/// Multiplies all of `dy`, zeros included.
///
/// # Safety
/// As the share's own kernel.
#[inline(always)]
pub(crate) unsafe fn run<V: Vector>(share: &Share<'_>) {
    let Product { layout, dy, dy_stride, .. } = share.product;
    // SAFETY: the share lies inside the product.
    unsafe {
        for_each_packed::<V>(dy, dy_stride, share.rows.clone(), layout.outputs, |rows, packed| {
            for block in share.blocks.clone() {
                columns::<V>(share, block, rows.clone(), packed);
            }
        });
    }
}

/// One block of columns of a block of rows.
///
/// # Safety
/// `packed` holds the block of rows.
#[inline(always)]
unsafe fn columns<V: Vector>(
    share: &Share<'_>,
    block: usize,
    rows: Range<usize>,
    packed: *const f32,
) {
    let layout = share.product.layout;
    let columns = block * PANEL..(block * PANEL + PANEL).min(layout.inputs);
    // 16 columns of the last block are enough where the other 16 would be padding.
    let width = if columns.len() <= HALF_PANEL { HALF_PANEL } else { PANEL };
    // SAFETY: the block lies inside the weights, the scratch holds all outputs, and the share
    // lies inside the product.
    unsafe {
        transpose_block::<V>(&share.product, columns.clone(), share.transposed);
        let mut row = rows.start;
        while row < rows.end {
            let tile = next_tile_rows::<V>(rows.end - row);
            let tiles = Tiles {
                product: share.product,
                packed: packed.add((row - rows.start) * layout.outputs),
                transposed: share.transposed,
            };
            tile_rows::<V, _>(tiles, row, tile, columns.start, width);
            row += tile;
        }
    }
}

/// Writes the weights of at most 32 inputs to `transposed`, `[outputs][32]`, missing inputs as 0.
///
/// # Safety
/// `columns` are inputs of the layer; `transposed` is valid for `padded_outputs * 32` values.
#[inline(always)]
pub(crate) unsafe fn transpose_block<V: Vector>(
    product: &Product<'_>,
    columns: Range<usize>,
    transposed: *mut f32,
) {
    let layout = product.layout;
    let whole = columns.len() / 8 * 8;
    for panel in 0..layout.panels() {
        let width = layout.width(panel);
        // SAFETY: `width` outputs of the panel times the columns are in bounds on both sides.
        unsafe {
            let from = product.weight.add(layout.panel_start(panel) + columns.start * width);
            let to = transposed.add(panel * PANEL * PANEL);
            for output in (0..width).step_by(8) {
                for input in (0..whole).step_by(8) {
                    let (from, to) =
                        (from.add(input * width + output), to.add(output * PANEL + input));
                    V::transpose_8x8(from, width, to, PANEL);
                }
            }
            for output in 0..width {
                for input in whole..PANEL {
                    let weight =
                        if input < columns.len() { *from.add(input * width + output) } else { 0.0 };
                    *to.add(output * PANEL + input) = weight;
                }
            }
        }
    }
}

/// The tiles of one block of columns.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<'a> {
    pub(crate) product: Product<'a>,
    /// The tile's rows of `dy`.
    pub(crate) packed: *const f32,
    pub(crate) transposed: *const f32,
}

impl Tiled for Tiles<'_> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const C: usize>(self, row: usize, column: usize) {
        let Product { layout, mask, dx_stride, .. } = self.product;
        // SAFETY: the tile lies inside the product, whose slices `InputGradient::job` checked.
        unsafe {
            let mut tile = [[V::splat(0.0); C]; R];
            if let Some(mask) = mask {
                // Its rows lie apart, so nothing else would fetch them before the tile is done.
                for index in 0..R {
                    let line = mask.y.as_ptr().wrapping_add((row + index) * dx_stride + column);
                    V::prefetch(line);
                    V::prefetch(line.wrapping_add(16));
                }
            }
            let factors = Factors {
                steps: layout.outputs,
                left: self.packed,
                left_step: R,
                right: self.transposed.add(column % PANEL),
                right_step: PANEL,
                ahead: self.transposed,
                ahead_step: 0,
            };
            accumulate(&mut tile, &factors);
            self.finish(tile, row, column);
        }
    }
}

impl Tiles<'_> {
    /// Masks and stores a tile of sums.
    ///
    /// # Safety
    /// The tile lies inside the product.
    #[inline(always)]
    pub(crate) unsafe fn finish<V: Vector, const R: usize, const C: usize>(
        &self,
        tile: [[V; C]; R],
        row: usize,
        column: usize,
    ) {
        let Product { layout, mask, dx, dx_stride, stores, .. } = self.product;
        // SAFETY: the slices were checked by `InputGradient::job`; `lanes` stops at the last column.
        unsafe {
            for vector in 0..C {
                let column = column + vector * V::LANES;
                let lanes = layout.inputs.saturating_sub(column).min(V::LANES);
                for index in 0..R {
                    let offset = (row + index) * dx_stride + column;
                    let mut value = tile[index][vector];
                    if let Some(MaskNonZero { y, scale }) = mask {
                        let y = load::<V>(y.as_ptr().wrapping_add(offset), lanes);
                        let zero = V::splat(0.0);
                        value = V::select(y.differs(zero), value.mul(V::splat(scale)), zero);
                    }
                    store_as(stores, value, dx.wrapping_add(offset), lanes);
                }
            }
        }
    }
}
