// SPDX-License-Identifier: MIT OR Apache-2.0
//! A linear layer's forward pass: product, bias, activation and dropout in one visit of the output.

use super::base::{dispatch, matrix_len, Isa, KeepSchedule, Kernel, Vector};
use super::elementwise::Activation;
use super::panels::PANEL;
use super::random::{keep_runs, Dropout};
use super::shares::share_of;
use super::sparse::is_sparse;
use super::{dense, sparse};
use super::{PanelLayout, Pool, Readers, Stores};
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

impl ForwardJob<'_> {
    /// Computes all of it on this thread and multiplies zeros too: for products inside of other loops.
    pub(crate) fn dense(self) {
        let (panels, rows) = (0..self.product.layout.panels(), 0..self.rows);
        let masks = self.dropout.as_ref().map(|dropout| (dropout, KeepSchedule::new(&dropout.key)));
        let share = Share { product: self.product, masks, panels, rows, all_rows: self.rows };
        // SAFETY: `job` checked the lengths; nobody else has a share.
        unsafe { dispatch(self.isa, Dense(share)) }
    }
}

/// A share that multiplies all of its input.
struct Dense<'a>(Share<'a>);

impl Kernel for Dense<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe { dense::forward::run::<V>(&self.0) }
        V::fence();
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Product<'a> {
    pub(super) layout: PanelLayout,
    pub(super) x: *const f32,
    pub(super) x_stride: usize,
    pub(super) weight: *const f32,
    pub(super) start: Start<'a>,
    pub(super) activation: Activation,
    pub(super) y: *mut f32,
    pub(super) y_stride: usize,
    pub(super) stores: Stores,
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
                sparse::forward::run::<V>(&self);
            } else {
                dense::forward::run::<V>(&self);
            }
        }
        V::fence();
    }
}

impl Share<'_> {
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
