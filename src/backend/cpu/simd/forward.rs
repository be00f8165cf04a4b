// SPDX-License-Identifier: MIT OR Apache-2.0
//! A linear layer's forward pass: product, bias, activation and dropout in one visit of the output.

use super::activation::{activate_in_place, Activation};
use super::dropout::Dropout;
use super::isa::{dispatch, Kernel};
use super::keep::{keep_runs, KeepSchedule};
use super::panels::PANEL;
use super::sparse::is_sparse;
use super::tile::{accumulate, for_each_packed, next_tile_rows, tile_rows};
use super::tile::{Factors, Tiled, MAX_TILE_ROWS};
use super::vector::{store_as, Vector};
use super::{masked_forward, sparse_forward, split, Isa, PanelLayout, Pool, Readers, Stores};
use std::ops::Range;

/// What the products are added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// Nothing.
    Zero,
    /// A bias of `padded_outputs` values.
    Bias(&'a [f32]),
}

/// `y = dropout(activation(x * weight^T + start))`.
#[derive(Debug)]
pub(crate) struct Forward<'a> {
    /// Where the weights lie.
    pub(crate) layout: PanelLayout,
    /// Rows of `x` and `y`.
    pub(crate) rows: usize,
    /// `[rows, inputs]`, row-major, rows `x_stride` apart.
    pub(crate) x: &'a [f32],
    /// Distance between rows of `x`, at least `inputs`.
    pub(crate) x_stride: usize,
    /// The weights in panels.
    pub(crate) weight: &'a [f32],
    /// What the products are added to.
    pub(crate) start: Start<'a>,
    /// Applied to the sum.
    pub(crate) activation: Activation,
    /// Applied last. Elements are output columns; see [`Dropout`] for several rows per sample.
    pub(crate) dropout: Option<Dropout>,
    /// `[rows, outputs]`, row-major, rows `y_stride` apart.
    pub(crate) y: &'a mut [f32],
    /// Distance between rows of `y`, at least `outputs`.
    pub(crate) y_stride: usize,
}

impl<'a> Forward<'a> {
    /// Checks the lengths and makes the product ready to be computed in shares.
    ///
    /// # Panics
    /// If a slice is too short.
    pub(crate) fn job(self, isa: Isa, stores: Stores) -> ForwardJob<'a> {
        let PanelLayout { inputs, outputs } = self.layout;
        assert!(self.x.len() >= matrix_len(self.rows, inputs, self.x_stride), "x too short");
        assert!(self.y.len() >= matrix_len(self.rows, outputs, self.y_stride), "y too short");
        assert_eq!(self.weight.len(), self.layout.len(), "weights in panels");
        if let Start::Bias(bias) = self.start {
            assert_eq!(bias.len(), self.layout.padded_outputs(), "padded bias");
        }
        ForwardJob {
            isa,
            rows: self.rows,
            product: Product {
                layout: self.layout,
                x: self.x.as_ptr(),
                x_stride: self.x_stride,
                weight: self.weight.as_ptr(),
                start: self.start,
                activation: self.activation,
                y: self.y.as_mut_ptr(),
                y_stride: self.y_stride,
                stores,
            },
            dropout: self.dropout,
            borrow: std::marker::PhantomData,
        }
    }

    /// Computes it with all threads of the pool.
    ///
    /// # Panics
    /// If a slice is too short.
    pub(crate) fn run(self, pool: &Pool, isa: Isa) {
        // The next layer's outputs depend on all of this one's, whichever thread computed them.
        let job = self.job(isa, pool.stores(Readers::All));
        // SAFETY: the pool calls each index once.
        pool.run(&|index| unsafe { job.share(index, pool.threads()) });
    }
}

/// A checked [`Forward`], to be computed in shares.
#[derive(Debug)]
pub(crate) struct ForwardJob<'a> {
    isa: Isa,
    rows: usize,
    product: Product<'a>,
    dropout: Option<Dropout>,
    borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: shares read `x`, the weights and the bias, and write disjoint tiles of `y`.
unsafe impl Sync for ForwardJob<'_> {}

impl ForwardJob<'_> {
    /// Computes share `index` of `shares`. A thread that always takes the same share finds its
    /// panels in its own cache.
    ///
    /// # Safety
    /// No two calls with the same index, or with different `shares`, run at the same time.
    pub(crate) unsafe fn share(&self, index: usize, shares: usize) {
        let (panels, rows) = share_of(self.product.layout.panels(), self.rows, index, shares);
        let masks = self.dropout.as_ref().map(|dropout| (dropout, KeepSchedule::new(&dropout.key)));
        // SAFETY: `job` checked the lengths; the shares' tiles are disjoint.
        unsafe {
            dispatch(
                self.isa,
                Share { product: self.product, masks, panels, rows, all_rows: self.rows },
            )
        }
    }
}

/// Elements that a strided matrix spans.
pub(super) fn matrix_len(rows: usize, columns: usize, stride: usize) -> usize {
    assert!(stride >= columns, "rows of {columns} elements overlap at stride {stride}");
    match rows {
        0 => 0,
        _ => (rows - 1) * stride + columns,
    }
}

/// Splits panels among the shares, or rows where panels would leave a share idle or overloaded.
pub(super) fn share_of(
    panels: usize,
    rows: usize,
    index: usize,
    shares: usize,
) -> (Range<usize>, Range<usize>) {
    if !go_round(panels, shares) && rows >= MAX_TILE_ROWS * shares {
        (0..panels, split(rows, shares, index))
    } else {
        (split(panels, shares, index), 0..rows)
    }
}

/// Whether panels can be split among the shares about evenly.
pub(super) fn go_round(panels: usize, shares: usize) -> bool {
    panels.is_multiple_of(shares) || panels >= 4 * shares
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Product<'a> {
    pub(super) layout: PanelLayout,
    pub(super) x: *const f32,
    pub(super) x_stride: usize,
    pub(super) weight: *const f32,
    start: Start<'a>,
    activation: Activation,
    y: *mut f32,
    y_stride: usize,
    stores: Stores,
}

/// Some panels of some rows.
pub(super) struct Share<'a> {
    pub(super) product: Product<'a>,
    masks: Option<(&'a Dropout, KeepSchedule)>,
    pub(super) panels: Range<usize>,
    pub(super) rows: Range<usize>,
    pub(super) all_rows: usize,
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Product { layout, x, x_stride, .. } = self.product;
        // SAFETY: `job` checked the lengths.
        unsafe {
            if is_sparse::<V>(x, x_stride, [self.all_rows, layout.inputs], layout.outputs) {
                sparse_forward::run::<V>(&self);
            } else if masked_forward::pays::<V>(&self) {
                masked_forward::run::<V>(&self);
            } else {
                self.dense::<V>();
            }
        }
        V::fence();
    }
}

impl Share<'_> {
    /// Multiplies all of the input, zeros included.
    ///
    /// # Safety
    /// As the share's own kernel.
    #[inline(always)]
    unsafe fn dense<V: Vector>(&self) {
        let Product { layout, x, x_stride, .. } = self.product;
        // SAFETY: the share lies inside the product.
        unsafe {
            for_each_packed::<V>(x, x_stride, self.rows.clone(), layout.inputs, |rows, packed| {
                for panel in self.panels.clone() {
                    self.panel::<V>(panel, rows.clone(), packed);
                }
            });
        }
    }

    /// One panel of a block of rows.
    ///
    /// # Safety
    /// `packed` holds the block.
    #[inline(always)]
    unsafe fn panel<V: Vector>(&self, panel: usize, block: Range<usize>, packed: *const f32) {
        let layout = self.product.layout;
        let width = layout.width(panel);
        // The next panel comes into the second cache while this one is used, part by part; not the
        // next thread's, which would have to take it back.
        let next = self.product.weight.wrapping_add(layout.panel_start(panel + 1));
        let has_next = panel + 1 < self.panels.end;
        let lines = (layout.inputs * width / 16).div_ceil(block.len().div_ceil(V::TILE_ROWS));
        let ahead_step = match has_next {
            true => 16 * lines.div_ceil((layout.inputs / 4).max(1)),
            false => 0,
        };
        let mut row = block.start;
        while row < block.end {
            let rows = next_tile_rows::<V>(block.end - row);
            let mut bits = [u32::MAX; MAX_TILE_ROWS];
            let scale = self.keep_bits::<V>(row, panel, &mut bits[..rows.next_multiple_of(4)]);
            let done = row - block.start;
            let tiles = Tiles {
                product: self.product,
                packed: packed.wrapping_add(done * layout.inputs),
                masks: scale.map(|scale| (&bits, scale)),
                width,
                ahead: next.wrapping_add(done / V::TILE_ROWS * lines * 16),
                ahead_step,
            };
            // SAFETY: the share lies inside the product.
            unsafe { tile_rows::<V, _>(tiles, row, rows, panel * PANEL, width) };
            row += rows;
        }
    }

    /// The fraction of elements that dropout keeps, if there is dropout.
    pub(super) fn kept(&self) -> Option<f32> {
        self.masks.as_ref().map(|(dropout, _)| dropout.kept())
    }

    /// The keep bits of consecutive rows of one panel, a multiple of four, and the scale, if there is
    /// dropout. Rows past the last one are nobody's.
    #[inline(always)]
    pub(super) fn keep_bits<V: Vector>(
        &self,
        row: usize,
        panel: usize,
        bits: &mut [u32],
    ) -> Option<f32> {
        let (dropout, schedule) = self.masks.as_ref()?;
        let (outputs, column) = (self.product.layout.outputs, panel * PANEL);
        for (four, bits) in bits.chunks_exact_mut(4).enumerate() {
            let runs = [0, 1, 2, 3]
                .map(|index: usize| dropout.run(row + 4 * four + index, outputs, column));
            bits.copy_from_slice(&keep_runs::<V>(schedule, &runs));
        }
        Some(dropout.scale())
    }
}

/// The tiles of one panel, and what they share.
#[derive(Clone, Copy)]
pub(super) struct Tiles<'a> {
    pub(super) product: Product<'a>,
    /// The tile's rows of `x`.
    pub(super) packed: *const f32,
    /// The keep bits of the panel's 32 columns for each row of the tile, and the scale.
    pub(super) masks: Option<(&'a [u32; MAX_TILE_ROWS], f32)>,
    pub(super) width: usize,
    pub(super) ahead: *const f32,
    pub(super) ahead_step: usize,
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
    pub(super) unsafe fn start<V: Vector, const R: usize, const C: usize>(
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
    pub(super) unsafe fn finish<V: Vector, const R: usize, const C: usize>(
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
