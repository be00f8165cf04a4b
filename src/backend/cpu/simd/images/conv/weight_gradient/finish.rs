// SPDX-License-Identifier: MIT OR Apache-2.0
//! From sums, as tiles leave them, to the weights' gradient in its own order.

use super::base::{dispatch, Isa, Kernel, Vector};
use super::products::{Tail, HALF_PANEL};
use super::{split, with_room, ConvShape, Pool, Stores};
use std::cell::RefCell;

thread_local! {
    /// The weights' gradient of one output.
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Sums of the parts of a batch, one behind the other.
pub(crate) struct Parts {
    pub(crate) count: usize,
    pub(crate) len: usize,
    pub(crate) sums: *const f32,
}

// SAFETY: threads only read them.
unsafe impl Sync for Parts {}

/// What becomes of the gradients of the weights, row-major, and of the bias.
pub(crate) struct Tails {
    pub(crate) weight: Tail,
    pub(crate) bias: Option<Tail>,
}

impl Parts {
    /// An element's sum over all parts.
    ///
    /// # Safety
    /// The place lies in every part.
    unsafe fn total(&self, place: usize) -> f32 {
        // SAFETY: the caller's.
        let of = |part: usize| unsafe { *self.sums.add(part * self.len + place) };
        (1..self.count).fold(of(0), |sum, part| sum + of(part))
    }
}

/// Adds the parts of each gradient up and hands it to its tail. `place` says where the sums of an
/// element of an output's weights lie, `bias_place` where those of its bias do.
pub(crate) fn finish(
    pool: &Pool,
    isa: Isa,
    shape: &ConvShape,
    (parts, tails): (&Parts, &Tails),
    place: impl Fn(usize, usize) -> usize + Sync,
    bias_place: impl Fn(usize) -> usize + Sync,
) {
    let len = shape.weight_len() / shape.outputs.max(1);
    pool.run(&|index| {
        with_room(&ROW, len.max(bias_len(shape)), |row| {
            for output in split(shape.outputs, pool.threads(), index) {
                // SAFETY: the scratch is this thread's; every place lies in every part.
                let row = unsafe {
                    for at in 0..len {
                        *row.add(at) = parts.total(place(output, at));
                    }
                    std::slice::from_raw_parts(row, len)
                };
                // SAFETY: the output's weights are this thread's.
                unsafe { dispatch(isa, Apply { tail: &tails.weight, offset: output * len, row }) }
            }
            if let (0, Some(tail)) = (index, &tails.bias) {
                // SAFETY: as above; the bias is the first thread's.
                unsafe {
                    row.write_bytes(0, bias_len(shape));
                    for output in 0..shape.outputs {
                        *row.add(output) = parts.total(bias_place(output));
                    }
                    let row = std::slice::from_raw_parts(row, bias_len(shape));
                    dispatch(isa, Apply { tail, offset: 0, row });
                }
            }
        });
    });
}

/// Elements of a bias, padding behind included.
pub(crate) fn bias_len(shape: &ConvShape) -> usize {
    shape.outputs.next_multiple_of(HALF_PANEL)
}

struct Apply<'a> {
    tail: &'a Tail,
    offset: usize,
    row: &'a [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe { self.tail.apply::<V>(self.offset, self.row, Stores::Cached) }
    }
}
