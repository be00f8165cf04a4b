// SPDX-License-Identifier: MIT OR Apache-2.0
//! Softmax and its logarithm over rows.

use super::base::{dispatch, for_each_vector, load, store};
use super::base::{Isa, Kernel, LongSum, SharedSlice, Vector};
use super::elementwise::exp;
use super::{split, Pool};

/// `y = softmax(x)` for every row of `columns` elements.
///
/// # Panics
/// If lengths differ or are not whole rows.
pub(crate) fn softmax_rows(pool: &Pool, isa: Isa, columns: usize, x: &[f32], y: &mut [f32]) {
    rows(pool, isa, Kind::Softmax, columns, x, y);
}

/// `y = log(softmax(x))` for every row of `columns` elements.
///
/// # Panics
/// If lengths differ or are not whole rows.
pub(crate) fn log_softmax_rows(pool: &Pool, isa: Isa, columns: usize, x: &[f32], y: &mut [f32]) {
    rows(pool, isa, Kind::LogSoftmax, columns, x, y);
}

#[derive(Clone, Copy)]
enum Kind {
    Softmax,
    LogSoftmax,
}

fn rows(pool: &Pool, isa: Isa, kind: Kind, columns: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "input and output of softmax");
    if x.is_empty() {
        return;
    }
    assert!(x.len().is_multiple_of(columns), "softmax over whole rows");
    let count = x.len() / columns;
    let y = SharedSlice::new(y);
    pool.run(&|index| {
        let rows = split(count, pool.threads(), index);
        let range = rows.start * columns..rows.end * columns;
        // SAFETY: the threads' rows are disjoint.
        let y = unsafe { y.part(range.clone()) };
        // SAFETY: the kernel uses slices of one length.
        unsafe { dispatch(isa, Rows { kind, columns, x: &x[range], y }) }
    });
}

struct Rows<'a> {
    kind: Kind,
    columns: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let rows = self.x.chunks_exact(self.columns).zip(self.y.chunks_exact_mut(self.columns));
        for (x, y) in rows {
            let largest = largest::<V>(x);
            let sum = exponentials::<V>(x, largest, y);
            match self.kind {
                Kind::Softmax => map::<V>(y, 1.0 / sum, 0.0),
                Kind::LogSoftmax => {
                    y.copy_from_slice(x);
                    // Two additions: folded into one, a large maximum would swallow the logarithm.
                    map::<V>(y, 1.0, -largest);
                    map::<V>(y, 1.0, -sum.ln());
                }
            }
        }
    }
}

/// The largest value of a row; NaN if it has one.
#[inline(always)]
pub(super) fn largest<V: Vector>(row: &[f32]) -> f32 {
    let mut most = V::splat(f32::NEG_INFINITY);
    let mut whole = 0;
    while whole + V::LANES <= row.len() {
        // SAFETY: the vector lies in the row.
        let value = unsafe { V::load(row.as_ptr().add(whole)) };
        // A NaN on either side stays: `max` returns its second operand then.
        most = V::select(most.differs(most), most, most.max(value));
        whole += V::LANES;
    }
    let lanes = most.lanes();
    let rest = row[whole..].iter().chain(&lanes[..V::LANES]);
    rest.fold(
        f32::NEG_INFINITY,
        |most, &value| if most > value || most.is_nan() { most } else { value },
    )
}

/// `y = e^(x - shift)`; returns the sum.
#[inline(always)]
pub(super) fn exponentials<V: Vector>(x: &[f32], shift: f32, y: &mut [f32]) -> f32 {
    let shift_by = V::splat(shift);
    let mut sum = LongSum::<V>::new();
    for_each_vector!(V, y.len(), |at, lanes| {
        // SAFETY: both slices have the length of a row.
        unsafe {
            let value = exp(load::<V>(x.as_ptr().add(at), lanes).sub(shift_by));
            store(value, y.as_mut_ptr().add(at), lanes);
            // Reloaded, so that lanes past a short end count as 0.
            sum.add(if lanes == V::LANES { value } else { load(y.as_ptr().add(at), lanes) });
        }
    });
    sum.sum()
}

/// `y = y * factor + addend`.
#[inline(always)]
fn map<V: Vector>(y: &mut [f32], factor: f32, addend: f32) {
    for_each_vector!(V, y.len(), |at, lanes| {
        // SAFETY: the vector lies in the row.
        unsafe {
            let to = y.as_mut_ptr().add(at);
            let value = load::<V>(to, lanes).mul_add(V::splat(factor), V::splat(addend));
            store(value, to, lanes);
        }
    });
}
