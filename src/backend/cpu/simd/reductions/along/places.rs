// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where extremes are.

use super::{Extreme, Kernel, Over, SharedSlice, Vector, MANY_RESULTS};
use std::marker::PhantomData;
use std::ops::Range;

/// Columns that are looked through side by side.
const COLUMNS: usize = 256;

/// Elements of a part, about: the least that a thread takes.
const PART: usize = 1 << 16;

/// The first place of an extreme along the second extent, as the bits of an integer.
pub(super) fn find<F: Extreme>(over: Over<'_>, [outer, extent, inner]: [usize; 3], y: &mut [f32]) {
    let tiles = inner.div_ceil(COLUMNS);
    let part = match outer * tiles {
        MANY_RESULTS.. => extent,
        _ => (PART / inner.min(COLUMNS)).min(extent),
    };
    let parts = extent.div_ceil(part);
    let shape = Shape { extent, inner, part, tiles, results: y.len() };
    let mut extremes = vec![0.0; parts * y.len()];
    let mut places = vec![0; parts * y.len()];
    let (of_parts, at) = (SharedSlice::new(&mut extremes), SharedSlice::new(&mut places));
    over.divide(outer * tiles * parts, |items| Places::<F> {
        x: over.x,
        shape,
        items,
        extremes: of_parts,
        places: at,
        fold: PhantomData,
    });
    for (result, y) in y.iter_mut().enumerate() {
        let mut best = result;
        for other in (result..extremes.len()).step_by(shape.results).skip(1) {
            if replaces::<F>(extremes[other], extremes[best]) {
                best = other;
            }
        }
        *y = f32::from_bits(places[best]);
    }
}

#[derive(Clone, Copy)]
struct Shape {
    extent: usize,
    inner: usize,
    /// Rows in a part.
    part: usize,
    /// Groups of columns.
    tiles: usize,
    results: usize,
}

/// Some items: for each part of the rows, each matrix, each tile of columns. The parts lie one behind
/// the other, each as long as the result.
struct Places<'a, F> {
    x: &'a [f32],
    shape: Shape,
    items: Range<usize>,
    extremes: SharedSlice<'a, f32>,
    places: SharedSlice<'a, u32>,
    fold: PhantomData<F>,
}

impl<F: Extreme> Kernel for Places<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Shape { extent, inner, part, tiles, results } = self.shape;
        for item in self.items.clone() {
            let (tile, rest) = (item % tiles, item / tiles);
            let matrices = results / inner;
            let (matrix, number) = (rest % matrices, rest / matrices);
            let rows = number * part..((number + 1) * part).min(extent);
            let columns = tile * COLUMNS..((tile + 1) * COLUMNS).min(inner);
            let start = matrix * extent * inner;
            let at = number * results + matrix * inner;
            let to = at + columns.start..at + columns.end;
            // SAFETY: no other thread has this item.
            let (extremes, places) =
                unsafe { (self.extremes.part(to.clone()), self.places.part(to)) };
            if inner == 1 {
                let (extreme, place) = of_row::<F>(&self.x[start + rows.start..start + rows.end]);
                (extremes[0], places[0]) = (extreme, rows.start as u32 + place);
                continue;
            }
            extremes.fill(F::NOTHING);
            places.fill(rows.start as u32);
            for row in rows {
                let start = start + row * inner;
                let values = &self.x[start + columns.start..start + columns.end];
                let best = extremes.iter_mut().zip(places.iter_mut());
                for ((extreme, place), &value) in best.zip(values) {
                    let is_new = replaces::<F>(value, *extreme);
                    *extreme = if is_new { value } else { *extreme };
                    *place = if is_new { row as u32 } else { *place };
                }
            }
        }
    }
}

/// Whether a value takes the place of the most extreme one before it.
#[inline(always)]
fn replaces<F: Extreme>(value: f32, extreme: f32) -> bool {
    !extreme.is_nan() & (value.is_nan() | F::is_beyond(value, extreme))
}

/// The extreme, and the number of the first element that is it.
#[inline(always)]
fn of_row<F: Extreme>(values: &[f32]) -> (f32, u32) {
    const LANES: usize = 32;
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
    let extreme = lanes.into_iter().fold(F::NOTHING, F::f32);
    let is_it = |&value: &f32| (value == extreme) | (value.is_nan() & extreme.is_nan());
    // Whole groups first: comparing many at a time is faster than stopping at the first.
    let group =
        values.chunks(LANES).position(|group| group.iter().filter(|v| is_it(v)).count() > 0);
    let first = group.unwrap_or(0) * LANES;
    let place = values[first..].iter().position(is_it).unwrap_or(0);
    (extreme, (first + place) as u32)
}
