// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums and extremes along extents.
//!
//! What is added up in which order follows from the extents alone: elements in lanes or in short chains
//! of f32, these in f64, in parts of a fixed length, which are added up in their order. Threads
//! divide results and parts, so no bit depends on their number; nor on the instruction set, since the
//! lanes are the text's and not the machine's.

mod columns;
mod places;
mod rows;

use std::ops::Range;

use super::base::{dispatch, Isa, Kernel, SharedSlice, Vector};
use super::{choice, split, Pool};
use crate::kernel::{Extent, Reduce, Reducer};
use crate::op::Extremum;

/// Reduces `x` to `y`; integers are stored by their bits.
///
/// # Panics
/// If a slice is not as long as the extents say.
pub(crate) fn reduce(pool: &Pool, isa: Isa, reduce: &Reduce, x: &[f32], y: &mut [f32]) {
    assert_eq!((x.len(), y.len()), (reduce.elements(), reduce.results()), "a reduced tensor");
    if y.is_empty() {
        return;
    }
    let over = Over { pool, isa, x };
    match reduce.function {
        Reducer::Sum => over.fold::<Add>(&reduce.extents, y),
        Reducer::Extreme(Extremum::Max) => over.fold::<Larger>(&reduce.extents, y),
        Reducer::Extreme(Extremum::Min) => over.fold::<Smaller>(&reduce.extents, y),
        Reducer::Place(Extremum::Max) => over.places::<Larger>(&reduce.extents, y),
        Reducer::Place(Extremum::Min) => over.places::<Smaller>(&reduce.extents, y),
    }
}

/// Results that threads can divide evenly enough, whatever their number.
const MANY_RESULTS: usize = 64;

/// What several elements become.
trait Fold: Copy + Send + Sync {
    /// What no element becomes.
    const NOTHING: f32;

    fn f32(a: f32, b: f32) -> f32;
    fn f64(a: f64, b: f64) -> f64;
}

/// An extreme, of which one is more extreme than another.
trait Extreme: Fold {
    fn is_beyond(a: f32, b: f32) -> bool;
}

#[derive(Clone, Copy)]
struct Add;

#[derive(Clone, Copy)]
struct Larger;

#[derive(Clone, Copy)]
struct Smaller;

impl Fold for Add {
    const NOTHING: f32 = 0.0;

    #[inline(always)]
    fn f32(a: f32, b: f32) -> f32 {
        a + b
    }

    #[inline(always)]
    fn f64(a: f64, b: f64) -> f64 {
        a + b
    }
}

/// NaN in either operand stays.
macro_rules! extreme {
    ($name:ident, $nothing:expr, $compare:tt) => {
        impl Fold for $name {
            const NOTHING: f32 = $nothing;

            #[inline(always)]
            fn f32(a: f32, b: f32) -> f32 {
                if (a $compare b) | a.is_nan() { a } else { b }
            }

            #[inline(always)]
            fn f64(a: f64, b: f64) -> f64 {
                if (a $compare b) | a.is_nan() { a } else { b }
            }
        }

        impl Extreme for $name {
            #[inline(always)]
            fn is_beyond(a: f32, b: f32) -> bool {
                a $compare b
            }
        }
    };
}
extreme!(Larger, f32::NEG_INFINITY, >);
extreme!(Smaller, f32::INFINITY, <);

/// What is reduced, and with what.
#[derive(Clone, Copy)]
struct Over<'a> {
    pool: &'a Pool,
    isa: Isa,
    x: &'a [f32],
}

impl Over<'_> {
    fn fold<F: Fold>(self, extents: &[Extent], y: &mut [f32]) {
        match *extents {
            _ if self.x.is_empty() => y.fill(F::NOTHING),
            [ref outer @ .., Extent::Reduced(length)] => {
                rows::fold::<F>(self, &Outer::of(outer, length), length, y);
            }
            [ref outer @ .., Extent::Reduced(rows), Extent::Kept(columns)] => {
                columns::fold::<F>(self, &Outer::of(outer, rows * columns), [rows, columns], y);
            }
            // Nothing is reduced.
            _ => y.copy_from_slice(self.x),
        }
    }

    fn places<F: Extreme>(self, extents: &[Extent], y: &mut [f32]) {
        let size = |extents: &[Extent]| extents.iter().map(|extent| extent.size()).product();
        let is_reduced = |extent: &Extent| matches!(extent, Extent::Reduced(_));
        let axis = extents.iter().position(is_reduced).unwrap_or(0);
        let [outer, inner] = [&extents[..axis], &extents[axis + 1..]].map(size);
        places::find::<F>(self, [outer, extents[axis].size(), inner], y);
    }

    /// Runs a kernel for parts of `count` items, in one thread if there is little to read.
    fn divide<K: Kernel<Output = ()>>(self, count: usize, part: impl Fn(Range<usize>) -> K + Sync) {
        // SAFETY: the kernels here are made of slices and of parts of results that are theirs alone.
        let run = |items: Range<usize>| unsafe { dispatch(self.isa, part(items)) };
        match choice::is_short(self.x.len()) {
            true => run(0..count),
            false => self.pool.run(&|index| run(split(count, self.pool.threads(), index))),
        }
    }
}

/// The extents outside of the innermost ones.
#[derive(Clone, Debug, Default)]
struct Outer {
    /// Extent and distance of neighbours in `x`, outermost first.
    kept: Vec<(usize, usize)>,
    reduced: Vec<(usize, usize)>,
}

impl Outer {
    /// `inside` is the number of elements within.
    fn of(extents: &[Extent], inside: usize) -> Self {
        let (mut outer, mut stride) = (Outer::default(), inside);
        for extent in extents.iter().rev() {
            match *extent {
                Extent::Kept(size) => outer.kept.insert(0, (size, stride)),
                Extent::Reduced(size) => outer.reduced.insert(0, (size, stride)),
            }
            stride *= extent.size();
        }
        outer
    }

    fn kept_count(&self) -> usize {
        self.kept.iter().map(|(extent, _)| extent).product()
    }

    fn reduced_count(&self) -> usize {
        self.reduced.iter().map(|(extent, _)| extent).product()
    }
}

/// Where an index over some extents lies.
#[inline(always)]
fn offset(extents: &[(usize, usize)], mut index: usize) -> usize {
    if let [(_, stride)] = *extents {
        return index * stride;
    }
    let mut offset = 0;
    for &(extent, stride) in extents.iter().rev() {
        offset += index % extent * stride;
        index /= extent;
    }
    offset
}

/// Where items go; parts one behind the other, each as long as the result. No other thread has the
/// same items.
#[derive(Clone, Copy)]
enum To<'a> {
    Results(SharedSlice<'a, f32>),
    Parts(SharedSlice<'a, f64>),
}

/// Adds up the parts of each result, one part after the other.
fn fold_parts<F: Fold>(parts: &[f64], y: &mut [f32]) {
    let mut totals = vec![f64::from(F::NOTHING); y.len()];
    for part in parts.chunks_exact(y.len()) {
        totals.iter_mut().zip(part).for_each(|(total, &part)| *total = F::f64(*total, part));
    }
    y.iter_mut().zip(totals).for_each(|(y, total)| *y = total as f32);
}
