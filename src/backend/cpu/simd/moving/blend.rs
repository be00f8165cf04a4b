// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weighted sums along the middle extent of a tensor of three.

use super::base::{dispatch, for_each_vector, load, store, Isa, Kernel, SharedSlice, Vector};
use super::{split, Pool};
use crate::op::{Blend, Term};

/// `y[o, p, :]`, the sum of `weight * x[o, from, :]` over the terms of place `p`, in their order.
///
/// # Panics
/// If lengths differ from the extents.
pub(crate) fn blend(
    pool: &Pool,
    isa: Isa,
    blend: &Blend,
    [outer, inner]: [usize; 2],
    x: &[f32],
    y: &mut [f32],
) {
    let places = blend.places.len();
    let lengths = (outer * blend.extent * inner, outer * places * inner);
    assert_eq!((x.len(), y.len()), lengths, "tensors of weighted sums");
    let y = SharedSlice::new(y);
    pool.run(&|thread| {
        let rows = split(outer * places, pool.threads(), thread);
        // SAFETY: the threads' ranges are disjoint.
        let y = unsafe { y.part(rows.start * inner..rows.end * inner) };
        let part = Part { blend, first: rows.start, inner, x, y };
        // SAFETY: the kernel uses slices.
        unsafe { dispatch(isa, part) }
    });
}

/// Rows of one thread.
struct Part<'a> {
    blend: &'a Blend,
    first: usize,
    inner: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Part { blend, first, inner, x, y } = self;
        let places = blend.places.len();
        for (row, y) in y.chunks_exact_mut(inner.max(1)).enumerate() {
            let (block, place) = ((first + row) / places, (first + row) % places);
            let x = &x[block * blend.extent * inner..][..blend.extent * inner];
            sums::<V>(&blend.places[place], inner, x, y);
        }
        V::fence();
    }
}

/// One row of sums; `x` is `[extent, inner]`.
#[inline(always)]
fn sums<V: Vector>(terms: &[Term], inner: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(y.len(), inner, "a row");
    assert!(terms.iter().all(|term| (term.from + 1) * inner <= x.len()), "a term's place");
    // SAFETY: offsets stay below `inner`; each term's row lies in `x`, just checked.
    unsafe {
        for_each_vector!(V, inner, |at, lanes| {
            let mut sum = V::splat(0.0);
            for term in terms {
                let value = load::<V>(x.as_ptr().add(term.from * inner + at), lanes);
                sum = value.mul_add(V::splat(term.weight as f32), sum);
            }
            store(sum, y.as_mut_ptr().add(at), lanes);
        });
    }
}
