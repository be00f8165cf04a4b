// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mutable slice whose disjoint parts several threads write.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice shared by the threads of one run, which write disjoint elements of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: all access goes through unsafe methods whose callers promise that no two threads touch
// the same element; then it is as if each thread held a mutable borrow of its own elements.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Takes the whole slice for as long as the threads may write it.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        SharedSlice { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where an element lies. Whoever writes there keeps to elements that no other thread touches.
    pub(crate) fn at(&self, index: usize) -> *mut T {
        self.start.wrapping_add(index)
    }

    /// Mutable access to a part.
    ///
    /// # Safety
    /// While the part is borrowed, no other access to any of its elements exists.
    ///
    /// # Panics
    /// If the range reaches past the end.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part of a shared slice");
        // SAFETY: in bounds, just checked, of a slice borrowed for 'a; exclusive by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
