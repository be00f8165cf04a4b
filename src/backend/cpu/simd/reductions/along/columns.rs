// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extents that are reduced across rows: as many numbers as a row has.

use super::{fold_parts, offset, Fold, Kernel, Outer, Over, SharedSlice, To, Vector, MANY_RESULTS};
use std::marker::PhantomData;
use std::ops::Range;

/// Columns that are folded side by side, in the nearest cache.
const COLUMNS: usize = 256;

/// Rows that are folded in f32. Equal terms are all rounded to one side, so chains are short.
const CHAIN: usize = 64;

/// Elements of a part, about: the least that a thread takes.
const PART: usize = 1 << 16;

/// Matrices of `[rows, columns]`, all that belong to a result.
pub(super) fn fold<F: Fold>(
    over: Over<'_>,
    outer: &Outer,
    [rows, columns]: [usize; 2],
    y: &mut [f32],
) {
    // Short rows are taken several at a time.
    let together = (COLUMNS / 2 / columns).clamp(1, rows);
    let tiles = columns.div_ceil(COLUMNS);
    let wide_rows = outer.reduced_count() * rows.div_ceil(together);
    let part = match outer.kept_count() * tiles {
        MANY_RESULTS.. => wide_rows,
        _ => (PART / (together * columns).min(COLUMNS)).next_multiple_of(CHAIN),
    };
    let parts = wide_rows.div_ceil(part);
    let items = outer.kept_count() * tiles * parts;
    let shape = Shape { rows, columns, together, part, parts, tiles, results: y.len() };
    let kernel = |items: Range<usize>, to| Columns::<F> {
        x: over.x,
        outer,
        shape,
        items,
        to,
        fold: PhantomData,
    };
    if parts == 1 {
        let y = SharedSlice::new(y);
        over.divide(items, |items| kernel(items, To::Results(y)));
        return;
    }
    let mut folded = vec![0.0; parts * y.len()];
    let shared = SharedSlice::new(&mut folded);
    over.divide(items, |items| kernel(items, To::Parts(shared)));
    fold_parts::<F>(&folded, y);
}

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    /// Rows of the matrix in a row as it is folded.
    together: usize,
    /// Such rows in a part.
    part: usize,
    parts: usize,
    /// Groups of columns.
    tiles: usize,
    results: usize,
}

/// Some items: for each outer result, each tile of columns, each part of the rows.
struct Columns<'a, F> {
    x: &'a [f32],
    outer: &'a Outer,
    shape: Shape,
    items: Range<usize>,
    to: To<'a>,
    fold: PhantomData<F>,
}

impl<F: Fold> Kernel for Columns<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Shape { columns, together, parts, tiles, results, .. } = self.shape;
        let (mut totals, mut chain) = ([0.0; COLUMNS], [0.0; COLUMNS]);
        for item in self.items.clone() {
            let (part, rest) = (item % parts, item / parts);
            let (tile, kept) = (rest % tiles, rest / tiles);
            let first = tile * COLUMNS;
            // Rows that are taken together are narrower than a tile.
            let own = (columns - first).min(COLUMNS);
            let width = if together > 1 { together * columns } else { own };
            let totals = &mut totals[..width];
            totals.fill(f64::from(F::NOTHING));
            let base = offset(&self.outer.kept, kept) + first;
            self.fold_part(base, part, totals, &mut chain[..width]);
            for row in 1..together {
                for column in 0..columns {
                    totals[column] = F::f64(totals[column], totals[row * columns + column]);
                }
            }
            let at = kept * columns + first;
            // SAFETY: no other thread has this item.
            unsafe {
                match self.to {
                    To::Results(y) => {
                        let y = y.part(at..at + own).iter_mut();
                        y.zip(&*totals).for_each(|(y, &total)| *y = total as f32);
                    }
                    To::Parts(folded) => {
                        let at = part * results + at;
                        folded.part(at..at + own).copy_from_slice(&totals[..own]);
                    }
                }
            }
        }
    }
}

impl<F: Fold> Columns<'_, F> {
    /// The rows of a part, in chains of f32 that end in f64.
    #[inline(always)]
    fn fold_part(&self, base: usize, part: usize, totals: &mut [f64], chain: &mut [f32]) {
        let Shape { rows, columns, together, part: length, .. } = self.shape;
        let per_matrix = rows.div_ceil(together);
        let count = self.outer.reduced_count() * per_matrix;
        let end = ((part + 1) * length).min(count);
        for start in (part * length..end).step_by(CHAIN) {
            chain.fill(F::NOTHING);
            for index in start..(start + CHAIN).min(end) {
                let (matrix, row) = (index / per_matrix, index % per_matrix * together);
                let from = base + offset(&self.outer.reduced, matrix) + row * columns;
                // The last rows of a matrix may be fewer.
                let width = match together {
                    1 => chain.len(),
                    _ => together.min(rows - row) * columns,
                };
                let values = &self.x[from..from + width];
                for (folded, &value) in chain.iter_mut().zip(values) {
                    *folded = F::f32(*folded, value);
                }
            }
            for (total, &folded) in totals.iter_mut().zip(&*chain) {
                *total = F::f64(*total, f64::from(folded));
            }
        }
    }
}
