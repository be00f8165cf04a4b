// SPDX-License-Identifier: MIT OR Apache-2.0
//! A linear layer's gradient of its weights, with the optimiser's update in the same visit.

use super::base::{dispatch, matrix_len, on_line, Isa, Kernel, Vector, LINE};
use super::choice;
use super::dense::weight_gradient::BATCH_BLOCK;
use super::panels::PANEL;
use super::shares::share_of;
use super::sparse::weight_gradient::Sparse;
use super::tail::{GradientTail, Tail};
use super::{dense, sparse};
use super::{PanelLayout, Pool, Readers, Stores};
use std::cell::RefCell;
use std::ops::Range;

/// `dweight = dy^T * x` and `dbias = column sums of bias_dy`.
#[derive(Debug)]
pub(crate) struct WeightGradient<'a> {
    /// Where the weights lie.
    pub(crate) layout: PanelLayout,
    /// Rows of `x` and `dy`.
    pub(crate) rows: usize,
    /// `[rows, inputs]`, row-major, rows `x_stride` apart.
    pub(crate) x: &'a [f32],
    /// Distance between rows of `x`.
    pub(crate) x_stride: usize,
    /// `[rows, outputs]`, row-major, rows `dy_stride` apart.
    pub(crate) dy: &'a [f32],
    /// Distance between rows of `dy`.
    pub(crate) dy_stride: usize,
    /// What the bias' gradient sums: `dy` as it was before it was rounded to be a factor.
    pub(crate) bias_dy: &'a [f32],
    /// What becomes of the weights' gradient: slices in panels.
    pub(crate) weight: GradientTail<'a>,
    /// What becomes of the bias' gradient: slices of `padded_outputs` values.
    pub(crate) bias: Option<GradientTail<'a>>,
    /// Who reads the weights: an input gradient reads all threads' panels, a forward pass its own.
    pub(crate) readers: Readers,
}

impl<'a> WeightGradient<'a> {
    /// Checks the lengths and makes the product ready to be computed in shares.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn job(self, isa: Isa, to_others: Stores) -> WeightGradientJob<'a> {
        let PanelLayout { inputs, outputs } = self.layout;
        assert!(self.x.len() >= matrix_len(self.rows, inputs, self.x_stride), "x too short");
        let dy_len = matrix_len(self.rows, outputs, self.dy_stride);
        assert!(self.dy.len().min(self.bias_dy.len()) >= dy_len, "dy too short");
        WeightGradientJob {
            isa,
            product: Product {
                layout: self.layout,
                rows: self.rows,
                x: self.x.as_ptr(),
                x_stride: self.x_stride,
                dy: self.dy.as_ptr(),
                dy_stride: self.dy_stride,
                bias_dy: self.bias_dy.as_ptr(),
            },
            weight: Tail::new(self.weight, self.layout.len()),
            bias: self.bias.map(|bias| Tail::new(bias, self.layout.padded_outputs())),
            readers: self.readers,
            to_others,
            borrow: std::marker::PhantomData,
        }
    }

    /// Computes it with all threads of the pool.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn run(self, pool: &Pool, isa: Isa) {
        let job = self.job(isa, pool.stores(Readers::All));
        // SAFETY: the pool calls each index once.
        pool.run(&|index| unsafe { job.share(index, pool.threads()) });
    }
}

/// A checked [`WeightGradient`], to be computed in shares.
#[derive(Debug)]
pub(crate) struct WeightGradientJob<'a> {
    isa: Isa,
    pub(super) product: Product,
    pub(super) weight: Tail,
    pub(super) bias: Option<Tail>,
    readers: Readers,
    to_others: Stores,
    borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: shares read `x` and `dy`, and write disjoint parts of the tails' slices.
unsafe impl Sync for WeightGradientJob<'_> {}

impl WeightGradientJob<'_> {
    /// Computes share `index` of `shares`.
    ///
    /// # Safety
    /// No two calls with the same index, or with different `shares`, run at the same time.
    pub(crate) unsafe fn share(&self, index: usize, shares: usize) {
        let layout = self.product.layout;
        let (panels, inputs) = share_of(layout.panels(), layout.inputs, index, shares);
        let own = choice::own_inputs(self.readers, [layout.inputs, layout.outputs], shares, index);
        SCRATCH.with_borrow_mut(|scratch| {
            let block = self.product.rows.min(BATCH_BLOCK);
            // Partial sums are kept between blocks of the batch, if there is more than one.
            let partial = if self.product.rows > BATCH_BLOCK { layout.inputs * PANEL } else { 0 };
            let needed = block * PANEL + partial + LINE;
            if scratch.len() < needed {
                scratch.resize(needed, 0.0);
            }
            let packed = on_line(scratch.as_mut_ptr());
            let partial = packed.wrapping_add(block * PANEL);
            let share = Share { job: self, panels, inputs, own, packed, partial };
            // SAFETY: `job` checked the lengths; the shares' panels or inputs are disjoint; the
            // scratch is this thread's and was just made long enough.
            unsafe { dispatch(self.isa, share) }
        });
    }
}

thread_local! {
    /// One panel of a block of `dy`, then a panel of partial sums. It grows once and stays.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) layout: PanelLayout,
    pub(super) rows: usize,
    pub(super) x: *const f32,
    pub(super) x_stride: usize,
    pub(super) dy: *const f32,
    pub(super) dy_stride: usize,
    /// Strided as `dy`.
    pub(super) bias_dy: *const f32,
}

/// Some inputs of some panels.
pub(super) struct Share<'a> {
    pub(super) job: &'a WeightGradientJob<'a>,
    pub(super) panels: Range<usize>,
    pub(super) inputs: Range<usize>,
    /// Inputs whose weights no other thread reads.
    own: Range<usize>,
    pub(super) packed: *mut f32,
    pub(super) partial: *mut f32,
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: `job` checked the lengths; the share lies inside the product.
        unsafe {
            match Sparse::choose::<V>(&self) {
                Some(factor) => sparse::weight_gradient::run::<V>(&self, factor),
                None => dense::weight_gradient::run::<V>(&self),
            }
        }
        V::fence();
    }
}

impl Share<'_> {
    /// How the weights of some inputs are stored.
    pub(super) fn stores(&self, inputs: &Range<usize>) -> Stores {
        match self.own.start <= inputs.start && inputs.end <= self.own.end {
            true => Stores::Cached,
            false => self.job.to_others,
        }
    }
}
