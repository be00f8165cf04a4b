// SPDX-License-Identifier: MIT OR Apache-2.0
//! A linear layer's gradient of its input, from the weights as they lie for the forward pass.

use super::base::{dispatch, matrix_len, on_line, Isa, Kernel, Vector, LINE};
use super::panels::PANEL;
use super::shares::share_of;
use super::sparse::is_sparse;
use super::{dense, sparse};
use super::{PanelLayout, Pool, Readers, Stores};
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
            if is_sparse::<V>(dy, dy_stride, [self.all_rows, layout.outputs], layout.inputs) {
                sparse::input_gradient::run::<V>(&self);
            } else {
                dense::input_gradient::run::<V>(&self);
            }
        }
        V::fence();
    }
}
