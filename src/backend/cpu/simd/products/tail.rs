// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a gradient: it is stored, added up, or updates the parameter while it is near.

use super::base::{for_each_vector, load, store, Vector, LINE};
use super::optimiser::{Target, UpdateRule, Updated};
use super::Stores;

/// What becomes of a gradient; slices lie as the parameter does, padding included.
#[derive(Debug)]
pub(crate) enum GradientTail<'a> {
    /// It replaces what the slice holds.
    Overwrite(&'a mut [f32]),
    /// It is added to what the slice holds.
    Accumulate(&'a mut [f32]),
    /// It is multiplied by a scale and updates the parameter, and is stored nowhere.
    Update {
        /// How parameters follow.
        rule: UpdateRule,
        /// Factor of the gradient.
        scale: f32,
        /// Parameter and state.
        updated: Updated<'a>,
    },
}

/// A [`GradientTail`] whose parts several threads write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tail {
    Overwrite(*mut f32),
    Accumulate(*mut f32),
    Update(Target),
}

// SAFETY: the pointers come from exclusively borrowed slices, and every user of a `Tail` hands its
// threads disjoint parts of them.
unsafe impl Sync for Tail {}

impl Tail {
    /// # Panics
    /// If a slice has another length.
    pub(crate) fn new(tail: GradientTail<'_>, count: usize) -> Self {
        let checked = |slice: &mut [f32]| {
            assert_eq!(slice.len(), count, "gradient's length");
            slice.as_mut_ptr()
        };
        match tail {
            GradientTail::Overwrite(to) => Tail::Overwrite(checked(to)),
            GradientTail::Accumulate(to) => Tail::Accumulate(checked(to)),
            GradientTail::Update { rule, scale, updated } => {
                Tail::Update(Target::new(&rule, scale, updated, count))
            }
        }
    }

    /// Parameters are stored as is asked for, gradients near. Ends with [`Vector::fence`].
    ///
    /// # Safety
    /// The elements from `offset` on are in bounds and no other thread uses them.
    #[inline(always)]
    pub(crate) unsafe fn apply<V: Vector>(&self, offset: usize, gradient: &[f32], stores: Stores) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Tail::Overwrite(to) => {
                    let to = to.add(offset);
                    std::ptr::copy_nonoverlapping(gradient.as_ptr(), to, gradient.len());
                }
                Tail::Accumulate(to) => {
                    for_each_vector!(V, gradient.len(), |at, lanes| {
                        let (to, added) = (to.add(offset + at), gradient.as_ptr().add(at));
                        store(load::<V>(to, lanes).add(load(added, lanes)), to, lanes);
                    });
                }
                Tail::Update(target) => target.at(offset).apply::<V>(gradient, stores),
            }
        }
    }

    /// Asks for what [`Tail::apply`] needs of `count` elements.
    #[inline(always)]
    pub(super) fn prefetch<V: Vector>(&self, offset: usize, count: usize) {
        match self {
            Tail::Update(target) => target.prefetch::<V>(offset, count),
            Tail::Overwrite(to) | Tail::Accumulate(to) => {
                for line in (0..count).step_by(LINE) {
                    V::prefetch(to.wrapping_add(offset + line));
                }
            }
        }
    }
}
