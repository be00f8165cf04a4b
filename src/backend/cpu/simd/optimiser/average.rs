// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moving averages, alone and in an optimiser's tail: the same bits in both.

use super::base::{dispatch, for_each_vector, load, store, Isa, Kernel, Vector};
use super::{split_by, Pool};

/// Averages that move towards the values beside them.
#[derive(Debug)]
pub(crate) struct Average<'a> {
    /// The averages, as many as there are values.
    pub(crate) averages: &'a mut [f32],
    /// How far they go: 1 is all the way.
    pub(crate) weight: f32,
}

/// Moves averages towards `values`, on all threads of the pool.
///
/// # Panics
/// If lengths differ.
pub(crate) fn average(pool: &Pool, isa: Isa, values: &[f32], average: Average<'_>) {
    let Average { averages, weight } = average;
    assert_eq!(averages.len(), values.len(), "values and averages differ in length");
    let target = AverageTarget { averages: averages.as_mut_ptr(), weight };
    pool.run(&|index| {
        let range = split_by(64, values.len(), pool.threads(), index);
        let (target, values) = (target.at(range.start), &values[range]);
        // SAFETY: the threads' ranges are disjoint and within the slices, which are equally long.
        unsafe { dispatch(isa, Apply { target, values }) }
    });
}

/// Averages from some element on; null for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct AverageTarget {
    pub(super) averages: *mut f32,
    weight: f32,
}

// SAFETY: the pointer comes from an exclusively borrowed slice, and every user hands its threads
// disjoint ranges of it.
unsafe impl Sync for AverageTarget {}

impl AverageTarget {
    /// # Panics
    /// If there are averages, and not `count`.
    pub(super) fn new(average: Option<Average<'_>>, count: usize) -> Self {
        let Some(Average { averages, weight }) = average else {
            return AverageTarget { averages: std::ptr::null_mut(), weight: 1.0 };
        };
        assert_eq!(averages.len(), count, "parameters and averages differ in length");
        AverageTarget { averages: averages.as_mut_ptr(), weight }
    }

    /// The averages from `offset` elements further on.
    pub(super) fn at(self, offset: usize) -> Self {
        match self.averages.is_null() {
            true => self,
            false => AverageTarget { averages: self.averages.wrapping_add(offset), ..self },
        }
    }

    /// Moves the averages of `lanes` elements, if there are any.
    ///
    /// # Safety
    /// The elements from `at` on are in bounds and no other thread uses them.
    #[inline(always)]
    pub(super) unsafe fn follow<V: Vector>(self, at: usize, value: V, lanes: usize) {
        if self.averages.is_null() {
            return;
        }
        // SAFETY: the caller's.
        unsafe {
            let place = self.averages.add(at);
            let old = load::<V>(place, lanes);
            let way = value.sub(old);
            let new = match self.weight {
                1.0 => value,
                weight if weight < 0.5 => V::splat(weight).mul_add(way, old),
                weight => V::splat(weight - 1.0).mul_add(way, value),
            };
            store(new, place, lanes);
        }
    }
}

/// One thread's part.
struct Apply<'a> {
    target: AverageTarget,
    values: &'a [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for_each_vector!(V, self.values.len(), |at, lanes| {
            // SAFETY: the caller's.
            unsafe {
                let value = load::<V>(self.values.as_ptr().add(at), lanes);
                self.target.follow::<V>(at, value, lanes);
            }
        });
    }
}
