// SPDX-License-Identifier: MIT OR Apache-2.0
//! A linear layer's gradient of its input, from the weights as they lie for the forward pass.

use super::beside::Region;
use super::forward::{matrix_len, share_of};
use super::isa::{dispatch, Kernel};
use super::panels::{HALF_PANEL, PANEL};
use super::sparse::{is_sparse, on_line, LINE};
use super::tile::{accumulate, for_each_packed, next_tile_rows, tile_rows, Factors, Tiled};
use super::vector::{load, store_as, Vector};
use super::{
    masked_input_gradient, sparse_input_gradient, Isa, PanelLayout, Pool, Readers, Stores,
};
use std::cell::RefCell;
use std::ops::Range;

/// The backward pass of ReLU followed by dropout: where `y` is not 0, times `scale`; else 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskNonZero<'a> {
    /// The layer's output, `[rows, inputs]` with the stride of `dx`.
    pub(crate) y: &'a [f32],
    /// The scale of the dropout, 1 for ReLU alone.
    pub(crate) scale: f32,
}

/// `dx = mask(dy * weight)`.
#[derive(Debug)]
pub(crate) struct InputGradient<'a> {
    /// Where the weights lie.
    pub(crate) layout: PanelLayout,
    /// Rows of `dy` and `dx`.
    pub(crate) rows: usize,
    /// `[rows, outputs]`, row-major, rows `dy_stride` apart.
    pub(crate) dy: &'a [f32],
    /// Distance between rows of `dy`.
    pub(crate) dy_stride: usize,
    /// The weights in panels.
    pub(crate) weight: &'a [f32],
    /// Applied to the product, if given.
    pub(crate) mask: Option<MaskNonZero<'a>>,
    /// `[rows, inputs]`, row-major, rows `dx_stride` apart.
    pub(crate) dx: &'a mut [f32],
    /// Distance between rows of `dx`.
    pub(crate) dx_stride: usize,
}

impl<'a> InputGradient<'a> {
    /// Checks the lengths and makes the product ready to be computed in shares.
    ///
    /// # Panics
    /// If a slice is too short.
    pub(crate) fn job(self, isa: Isa, stores: Stores) -> InputGradientJob<'a> {
        let PanelLayout { inputs, outputs } = self.layout;
        let dx_len = matrix_len(self.rows, inputs, self.dx_stride);
        assert!(self.dy.len() >= matrix_len(self.rows, outputs, self.dy_stride), "dy too short");
        assert!(self.dx.len() >= dx_len, "dx too short");
        assert!(self.mask.is_none_or(|mask| mask.y.len() >= dx_len), "y too short");
        assert_eq!(self.weight.len(), self.layout.len(), "weights in panels");
        InputGradientJob {
            isa,
            rows: self.rows,
            product: Product {
                layout: self.layout,
                dy: self.dy.as_ptr(),
                dy_stride: self.dy_stride,
                weight: self.weight.as_ptr(),
                mask: self.mask,
                dx: self.dx.as_mut_ptr(),
                dx_stride: self.dx_stride,
                stores,
            },
            borrow: std::marker::PhantomData,
        }
    }

    /// Computes it with all threads of the pool.
    ///
    /// # Panics
    /// If a slice is too short.
    pub(crate) fn run(self, pool: &Pool, isa: Isa) {
        // Even where the same thread reads `dx`, others may have read what lay there before.
        let job = self.job(isa, pool.stores(Readers::All));
        // SAFETY: the pool calls each index once.
        pool.run(&|index| unsafe { job.share(index, pool.threads()) });
    }
}

/// A checked [`InputGradient`], to be computed in shares.
#[derive(Debug)]
pub(crate) struct InputGradientJob<'a> {
    isa: Isa,
    rows: usize,
    product: Product<'a>,
    borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: shares read `dy`, the weights and the mask, and write disjoint tiles of `dx`.
unsafe impl Sync for InputGradientJob<'_> {}

impl InputGradientJob<'_> {
    /// Computes share `index` of `shares`.
    ///
    /// # Safety
    /// No two calls with the same index, or with different `shares`, run at the same time.
    pub(crate) unsafe fn share(&self, index: usize, shares: usize) {
        let blocks = self.product.layout.inputs.div_ceil(PANEL);
        let (blocks, rows) = share_of(blocks, self.rows, index, shares);
        TRANSPOSED.with_borrow_mut(|transposed| {
            let needed = 2 * self.product.layout.padded_outputs() * PANEL + LINE;
            if transposed.len() < needed {
                transposed.resize(needed, 0.0);
            }
            let transposed = on_line(transposed.as_mut_ptr());
            let share =
                Share { product: self.product, transposed, blocks, rows, all_rows: self.rows };
            // SAFETY: `job` checked the lengths; the shares' tiles are disjoint; the scratch
            // is this thread's and just made long enough.
            unsafe { dispatch(self.isa, share) }
        });
    }
}

thread_local! {
    /// The weights of 32 inputs, `[outputs][32]`, and of 32 more. It grows to the largest layer and stays.
    static TRANSPOSED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Product<'a> {
    pub(super) layout: PanelLayout,
    pub(super) dy: *const f32,
    pub(super) dy_stride: usize,
    pub(super) weight: *const f32,
    pub(super) mask: Option<MaskNonZero<'a>>,
    pub(super) dx: *mut f32,
    pub(super) dx_stride: usize,
    pub(super) stores: Stores,
}

impl Product<'_> {
    /// Where the mask of some rows and inputs lies; nowhere without one.
    pub(super) fn mask_at(&self, rows: &Range<usize>, inputs: &Range<usize>) -> Region {
        let (start, stride) = (rows.start * self.dx_stride + inputs.start, self.dx_stride);
        match self.mask {
            Some(mask) => Region {
                start: mask.y.as_ptr().wrapping_add(start),
                rows: rows.len(),
                stride,
                len: inputs.len(),
            },
            None => Region::slice(std::ptr::null(), 0),
        }
    }

    /// Where the weights of some inputs lie.
    pub(super) fn weights_of(&self, inputs: &Range<usize>) -> Region {
        Region {
            start: self.weight.wrapping_add(inputs.start * PANEL),
            rows: self.layout.panels(),
            stride: self.layout.panel_start(1),
            len: inputs.len() * PANEL,
        }
    }
}

/// Some blocks of 32 columns of some rows.
pub(super) struct Share<'a> {
    pub(super) product: Product<'a>,
    /// Room for two blocks of columns.
    pub(super) transposed: *mut f32,
    pub(super) blocks: Range<usize>,
    pub(super) rows: Range<usize>,
    all_rows: usize,
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Product { layout, dy, dy_stride, .. } = self.product;
        // SAFETY: `job` checked the lengths.
        unsafe {
            if masked_input_gradient::pays::<V>(&self.product, self.all_rows) {
                masked_input_gradient::run::<V>(&self);
            } else if is_sparse::<V>(dy, dy_stride, [self.all_rows, layout.outputs], layout.inputs)
            {
                sparse_input_gradient::run::<V>(&self);
            } else {
                self.dense::<V>();
            }
        }
        V::fence();
    }
}

impl Share<'_> {
    /// Multiplies all of `dy`, zeros included.
    ///
    /// # Safety
    /// As the share's own kernel.
    #[inline(always)]
    unsafe fn dense<V: Vector>(&self) {
        let Product { layout, dy, dy_stride, .. } = self.product;
        // SAFETY: the share lies inside the product.
        unsafe {
            for_each_packed::<V>(
                dy,
                dy_stride,
                self.rows.clone(),
                layout.outputs,
                |rows, packed| {
                    for columns in self.blocks.clone() {
                        self.columns::<V>(columns, rows.clone(), packed);
                    }
                },
            );
        }
    }

    /// One block of columns of a block of rows.
    ///
    /// # Safety
    /// `packed` holds the block of rows.
    #[inline(always)]
    unsafe fn columns<V: Vector>(&self, block: usize, rows: Range<usize>, packed: *const f32) {
        let layout = self.product.layout;
        let columns = block * PANEL..(block * PANEL + PANEL).min(layout.inputs);
        // 16 columns of the last block are enough where the other 16 would be padding.
        let width = if columns.len() <= HALF_PANEL { HALF_PANEL } else { PANEL };
        // SAFETY: the block lies inside the weights, the scratch holds all outputs, and the share
        // lies inside the product.
        unsafe {
            transpose_block::<V>(&self.product, columns.clone(), self.transposed);
            let mut row = rows.start;
            while row < rows.end {
                let tile = next_tile_rows::<V>(rows.end - row);
                let tiles = Tiles {
                    product: self.product,
                    packed: packed.add((row - rows.start) * layout.outputs),
                    transposed: self.transposed,
                };
                tile_rows::<V, _>(tiles, row, tile, columns.start, width);
                row += tile;
            }
        }
    }
}

/// Writes the weights of at most 32 inputs to `transposed`, `[outputs][32]`, missing inputs as 0.
///
/// # Safety
/// `columns` are inputs of the layer; `transposed` is valid for `padded_outputs * 32` values.
#[inline(always)]
pub(super) unsafe fn transpose_block<V: Vector>(
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
pub(super) struct Tiles<'a> {
    pub(super) product: Product<'a>,
    /// The tile's rows of `dy`.
    pub(super) packed: *const f32,
    pub(super) transposed: *const f32,
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
    pub(super) unsafe fn finish<V: Vector, const R: usize, const C: usize>(
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
