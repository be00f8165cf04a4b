// SPDX-License-Identifier: MIT OR Apache-2.0
//! The backward pass of ReLU with dropout, alone.

use super::base::{dispatch, for_each_vector, load, store, Isa, Kernel, SharedSlice, Vector};
use super::{split_by, Pool};

/// The backward pass of ReLU followed by dropout: where `y` is not 0, times `scale`; else 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskNonZero<'a> {
    /// The layer's output, `[rows, inputs]` with the stride of `dx`.
    pub(crate) y: &'a [f32],
    /// The scale of the dropout, 1 for ReLU alone.
    pub(crate) scale: f32,
}

/// Elements at whose multiples threads' parts begin.
const STRETCH: usize = 128;

/// `dx = y != 0 ? dy * scale : 0`, the backward pass of ReLU with dropout, alone.
///
/// # Panics
/// If lengths differ.
pub(crate) fn mask_non_zero(
    pool: &Pool,
    isa: Isa,
    mask: &MaskNonZero<'_>,
    dy: &[f32],
    dx: &mut [f32],
) {
    assert_eq!((dy.len(), dx.len()), (mask.y.len(), mask.y.len()), "lengths of a mask");
    let dx = SharedSlice::new(dx);
    pool.run(&|index| {
        let range = split_by(STRETCH, dy.len(), pool.threads(), index);
        // SAFETY: the threads' ranges are disjoint.
        let dx = unsafe { dx.part(range.clone()) };
        let part = Masked { y: &mask.y[range.clone()], scale: mask.scale, dy: &dy[range], dx };
        // SAFETY: the kernel uses slices.
        unsafe { dispatch(isa, part) }
    });
}

struct Masked<'a> {
    y: &'a [f32],
    scale: f32,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Masked<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (scale, zero) = (V::splat(self.scale), V::splat(0.0));
        // SAFETY: all three slices have this length.
        unsafe {
            for_each_vector!(V, self.dx.len(), |at, lanes| {
                let active = load::<V>(self.y.as_ptr().add(at), lanes).differs(zero);
                let value = load::<V>(self.dy.as_ptr().add(at), lanes).mul(scale);
                store(V::select(active, value, zero), self.dx.as_mut_ptr().add(at), lanes);
            });
        }
    }
}
