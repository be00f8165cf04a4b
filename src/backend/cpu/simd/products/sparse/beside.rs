// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done beside a product with a sparse factor: weights are updated while it waits for loads.

use super::super::tail::Tail;
use super::super::Stores;
use super::base::Vector;

/// Work that is done in small parts, one whenever a product has done a row.
pub(super) trait Beside {
    /// Does the next part.
    ///
    /// # Safety
    /// What the implementation asks for.
    unsafe fn visit<V: Vector>(&mut self);
}

/// No work.
#[derive(Debug)]
pub(super) struct Nothing;

impl Beside for Nothing {
    #[inline(always)]
    unsafe fn visit<V: Vector>(&mut self) {}
}

/// Gradients whose tail is run while the next ones are computed, to keep divisions and square roots
/// out of the way of the products.
#[derive(Debug)]
pub(super) struct Pending<'a> {
    tail: &'a Tail,
    slices: [Slice; 2],
    count: usize,
}

/// A gradient and where it belongs.
#[derive(Clone, Copy, Debug)]
struct Slice {
    offset: usize,
    start: *const f32,
    len: usize,
    stores: Stores,
}

/// Elements of a gradient that are handed to the tail at a time: a few vectors, which a processor
/// can look past to the next products.
const PART: usize = 64;

impl<'a> Pending<'a> {
    pub(super) fn new(tail: &'a Tail) -> Self {
        let none = Slice { offset: 0, start: std::ptr::null(), len: 0, stores: Stores::Cached };
        Pending { tail, slices: [none; 2], count: 0 }
    }

    /// Adds a gradient of `len` elements from `start` on, which belong at `offset` and are stored as
    /// is asked for. There are at most two at a time.
    ///
    /// # Safety
    /// They stay valid and unchanged until [`Pending::finish`]; no other thread uses their targets.
    pub(super) unsafe fn add(
        &mut self,
        offset: usize,
        start: *const f32,
        len: usize,
        stores: Stores,
    ) {
        self.slices[self.count] = Slice { offset, start, len, stores };
        self.count += 1;
    }

    /// Hands all that is left to the tail. Ends with [`Vector::fence`].
    #[inline(always)]
    pub(super) fn finish<V: Vector>(&mut self) {
        while self.count > 0 {
            self.part::<V>(usize::MAX);
        }
    }

    #[inline(always)]
    fn part<V: Vector>(&mut self, most: usize) {
        let Slice { offset, start, len, stores } = &mut self.slices[self.count - 1];
        let now = most.min(*len);
        // SAFETY: by `add`.
        unsafe {
            let gradient = std::slice::from_raw_parts(*start, now);
            self.tail.apply::<V>(*offset, gradient, *stores);
        }
        (*offset, *start, *len) = (*offset + now, start.wrapping_add(now), *len - now);
        if *len == 0 {
            self.count -= 1;
        }
    }
}

impl Beside for Pending<'_> {
    #[inline(always)]
    unsafe fn visit<V: Vector>(&mut self) {
        if self.count > 0 {
            self.part::<V>(PART);
        }
    }
}
