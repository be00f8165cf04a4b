// SPDX-License-Identifier: MIT OR Apache-2.0
//! From sums, as tiles leave them, to the weights' gradient in its own order.

use super::base::{dispatch, Isa, Kernel, Vector};
use super::products::Tail;
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

/// Adds the parts of each weight's gradient up and hands it to the tail. `place` says where the sums of
/// an element of an output's weights lie.
pub(crate) fn finish(
    pool: &Pool,
    isa: Isa,
    shape: &ConvShape,
    parts: &Parts,
    tail: &Tail,
    place: impl Fn(usize, usize) -> usize + Sync,
) {
    let len = shape.weight_len() / shape.outputs.max(1);
    pool.run(&|index| {
        with_room(&ROW, len, |row| {
            for output in split(shape.outputs, pool.threads(), index) {
                // SAFETY: the scratch is this thread's; every place lies in every part.
                let row = unsafe {
                    for at in 0..len {
                        let sum = parts.sums.add(place(output, at));
                        let later = (1..parts.count).map(|part| *sum.add(part * parts.len));
                        *row.add(at) = later.fold(*sum, |sum, part| sum + part);
                    }
                    std::slice::from_raw_parts(row, len)
                };
                // SAFETY: the output's weights are this thread's.
                unsafe { dispatch(isa, Apply { tail, offset: output * len, row }) }
            }
        });
    });
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
