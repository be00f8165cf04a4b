// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows and elements chosen by integers, and the sums that are their gradients. Each sum is taken in
//! the order of the indices by one thread, so it does not depend on their number.

use super::base::SharedSlice;
use super::{split, Pool};
use crate::kernel::Picks;

/// The row that an index names, if there is one.
#[inline]
fn row(index: i32, rows: usize) -> Option<usize> {
    usize::try_from(index).ok().filter(|&row| row < rows)
}

/// `y[o, p, :] = x[o, index[p], :]`; NaN where there is no such row.
///
/// # Panics
/// If lengths differ from the extents.
pub(crate) fn take(pool: &Pool, picks: Picks, x: &[f32], index: &[i32], y: &mut [f32]) {
    let Picks { outer, rows, inner, picks } = picks;
    let lengths = (outer * rows * inner, picks, outer * picks * inner);
    assert_eq!((x.len(), index.len(), y.len()), lengths, "tensors of a choice");
    let y = SharedSlice::new(y);
    pool.run(&|thread| {
        let own = split(outer * picks, pool.threads(), thread);
        // SAFETY: the threads' ranges are disjoint.
        let y = unsafe { y.part(own.start * inner..own.end * inner) };
        for (number, y) in own.zip(y.chunks_exact_mut(inner.max(1))) {
            match row(index[number % picks], rows) {
                Some(row) => {
                    y.copy_from_slice(&x[(number / picks * rows + row) * inner..][..inner]);
                }
                None => y.fill(f32::NAN),
            }
        }
    });
}

/// `dx[o, r, :]`, the sum of `dy[o, p, :]` over the places `p` with `index[p] = r`; 0 for the row that is
/// padding.
///
/// # Panics
/// If lengths differ from the extents.
pub(crate) fn take_gradient(
    pool: &Pool,
    (picks, padding): (Picks, Option<usize>),
    index: &[i32],
    dy: &[f32],
    dx: &mut [f32],
) {
    let Picks { outer, rows, inner, picks } = picks;
    let lengths = (picks, outer * picks * inner, outer * rows * inner);
    assert_eq!((index.len(), dy.len(), dx.len()), lengths, "tensors of a choice's gradient");
    let dx = SharedSlice::new(dx);
    pool.run(&|thread| {
        let own = split(outer * rows, pool.threads(), thread);
        // SAFETY: the threads' ranges are disjoint.
        let dx = unsafe { dx.part(own.start * inner..own.end * inner) };
        dx.fill(0.0);
        if own.is_empty() || picks == 0 {
            return;
        }
        for block in own.start / rows..=(own.end - 1) / rows {
            for (place, &index) in index.iter().enumerate() {
                let row = row(index, rows).filter(|&row| Some(row) != padding);
                let target = row.map(|row| block * rows + row);
                let Some(target) = target.filter(|target| own.contains(target)) else { continue };
                let dx = &mut dx[(target - own.start) * inner..][..inner];
                let dy = &dy[(block * picks + place) * inner..][..inner];
                dx.iter_mut().zip(dy).for_each(|(sum, part)| *sum += part);
            }
        }
    });
}

/// `y[o, p, i] = x[o, index[o, p, i], i]`; NaN where there is no such element.
///
/// # Panics
/// If lengths differ from the extents.
pub(crate) fn gather(pool: &Pool, picks: Picks, x: &[f32], index: &[i32], y: &mut [f32]) {
    let Picks { outer, rows, inner, picks } = picks;
    let count = outer * picks * inner;
    let lengths = (outer * rows * inner, count, count);
    assert_eq!((x.len(), index.len(), y.len()), lengths, "tensors of a choice");
    let y = SharedSlice::new(y);
    pool.run(&|thread| {
        let own = split(outer * picks, pool.threads(), thread);
        let elements = own.start * inner..own.end * inner;
        // SAFETY: the threads' ranges are disjoint.
        let y = unsafe { y.part(elements.clone()) };
        let lines =
            y.chunks_exact_mut(inner.max(1)).zip(index[elements].chunks_exact(inner.max(1)));
        for (number, (y, index)) in own.zip(lines) {
            let x = &x[number / picks * rows * inner..][..rows * inner];
            for (place, (y, &index)) in y.iter_mut().zip(index).enumerate() {
                *y = row(index, rows).map_or(f32::NAN, |row| x[row * inner + place]);
            }
        }
    });
}

/// `dx[o, r, i]`, the sum of `dy[o, p, i]` over the places `p` with `index[o, p, i] = r`.
///
/// # Panics
/// If lengths differ from the extents.
pub(crate) fn gather_gradient(
    pool: &Pool,
    picks: Picks,
    index: &[i32],
    dy: &[f32],
    dx: &mut [f32],
) {
    let Picks { outer, rows, inner, picks } = picks;
    let count = outer * picks * inner;
    let lengths = (count, count, outer * rows * inner);
    assert_eq!((index.len(), dy.len(), dx.len()), lengths, "tensors of a choice's gradient");
    let dx = SharedSlice::new(dx);
    pool.run(&|thread| {
        let own = split(outer, pool.threads(), thread);
        // SAFETY: the threads' ranges are disjoint.
        let dx = unsafe { dx.part(own.start * rows * inner..own.end * rows * inner) };
        dx.fill(0.0);
        for block in own.clone() {
            let dx = &mut dx[(block - own.start) * rows * inner..][..rows * inner];
            let places = block * picks * inner..(block + 1) * picks * inner;
            let parts = index[places.clone()].iter().zip(&dy[places]);
            for (place, (&index, part)) in parts.enumerate() {
                if let Some(row) = row(index, rows) {
                    dx[row * inner + place % inner] += part;
                }
            }
        }
    });
}
