// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extents that are reduced along neighbours: one number of each row.

use super::{fold_parts, offset, Fold, Kernel, Outer, Over, SharedSlice, To, Vector};
use std::marker::PhantomData;
use std::ops::Range;

/// Elements that are folded in f32, in so many lanes.
const CHUNK: usize = 1024;
const LANES: usize = 32;

/// Chunks of a part, the least that a thread takes.
const PART: usize = 64;

/// `length` neighbours, of every row that belongs to a result.
pub(super) fn fold<F: Fold>(over: Over<'_>, outer: &Outer, length: usize, y: &mut [f32]) {
    let chunks = outer.reduced_count() * length.div_ceil(CHUNK);
    let parts = chunks.div_ceil(PART);
    let results = outer.kept_count();
    let rows = |items: Range<usize>, to| Rows::<F> {
        x: over.x,
        outer,
        length,
        results,
        items,
        to,
        fold: PhantomData,
    };
    if parts == 1 {
        let y = SharedSlice::new(y);
        over.divide(results, |items| rows(items, To::Results(y)));
        return;
    }
    let mut folded = vec![0.0; parts * results];
    let shared = SharedSlice::new(&mut folded);
    over.divide(parts * results, |items| rows(items, To::Parts(shared)));
    fold_parts::<F>(&folded, y);
}

/// Some items: part `item / results` of result `item % results`.
struct Rows<'a, F> {
    x: &'a [f32],
    outer: &'a Outer,
    length: usize,
    results: usize,
    items: Range<usize>,
    to: To<'a>,
    fold: PhantomData<F>,
}

impl<F: Fold> Kernel for Rows<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let chunks = self.length.div_ceil(CHUNK);
        let all = self.outer.reduced_count() * chunks;
        for item in self.items.clone() {
            let (part, result) = (item / self.results, item % self.results);
            let first = offset(&self.outer.kept, result);
            let mut total = f64::from(F::NOTHING);
            for index in part * PART..((part + 1) * PART).min(all) {
                let row = first + offset(&self.outer.reduced, index / chunks);
                let from = row + index % chunks * CHUNK;
                let to = (from + CHUNK).min(row + self.length);
                total = F::f64(total, chunk::<F>(&self.x[from..to]));
            }
            // SAFETY: no other thread has this item.
            unsafe {
                match self.to {
                    To::Results(y) => y.part(item..item + 1)[0] = total as f32,
                    To::Parts(parts) => parts.part(item..item + 1)[0] = total,
                }
            }
        }
    }
}

/// Neighbours, lane by lane and then the lanes.
#[inline(always)]
fn chunk<F: Fold>(values: &[f32]) -> f64 {
    let wide = |total, &value: &f32| F::f64(total, f64::from(value));
    if values.len() < LANES {
        return values.iter().fold(f64::from(F::NOTHING), wide);
    }
    let mut lanes = [F::NOTHING; LANES];
    let mut groups = values.chunks_exact(LANES);
    for group in groups.by_ref() {
        for lane in 0..LANES {
            lanes[lane] = F::f32(lanes[lane], group[lane]);
        }
    }
    for (lane, &value) in groups.remainder().iter().enumerate() {
        lanes[lane] = F::f32(lanes[lane], value);
    }
    lanes.iter().fold(f64::from(F::NOTHING), wide)
}
