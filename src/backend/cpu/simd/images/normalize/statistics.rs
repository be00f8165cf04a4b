// SPDX-License-Identifier: MIT OR Apache-2.0
//! Means and variances.

use super::base::{dispatch, for_each_vector, load, store, LongSum};
use super::base::{Isa, Kernel, SharedSlice, Vector};
use super::{each_columns, split, Groups, Matrix, Pool, SIDE_BY_SIDE};
use std::ops::Range;

/// Mean and biased variance of each group.
///
/// # Panics
/// If there are fewer means or variances than groups.
pub(crate) fn statistics(
    pool: &Pool,
    isa: Isa,
    groups: Groups,
    x: &[f32],
    mean: &mut [f32],
    variance: &mut [f32],
) {
    let matrix = Matrix::new(groups, x);
    let blocks = matrix.blocks();
    if let Groups::Rows(_) = groups {
        let (mean, variance) = (SharedSlice::new(mean), SharedSlice::new(variance));
        pool.run(&|index| {
            let rows = split(matrix.rows, pool.threads(), index);
            // SAFETY: the threads' rows are disjoint.
            let (mean, variance) =
                unsafe { (mean.part(rows.clone()), variance.part(rows.clone())) };
            // SAFETY: the kernel uses slices.
            unsafe { dispatch(isa, RowMoments { matrix, rows, mean, variance }) }
        });
        return;
    }
    let columns = matrix.columns;
    // The mean of each block, and the sum of squares around it.
    let mut moments = vec![0.0; 2 * blocks * columns];
    let shared = SharedSlice::new(&mut moments);
    pool.run(&|index| {
        let blocks = split(blocks, pool.threads(), index);
        // SAFETY: the threads' blocks are disjoint.
        let moments = unsafe { shared.part(2 * blocks.start * columns..2 * blocks.end * columns) };
        // SAFETY: the kernel uses slices.
        unsafe { dispatch(isa, BlockMoments { matrix, blocks, moments }) }
    });
    let (mean, variance) = (SharedSlice::new(mean), SharedSlice::new(variance));
    each_columns(pool, columns, |range| {
        // SAFETY: the threads' columns are disjoint.
        let (mean, variance) = unsafe { (mean.part(range.clone()), variance.part(range.clone())) };
        let of_block = |block: usize, which: usize| {
            let start = (2 * block + which) * columns;
            &moments[start + range.start..start + range.end]
        };
        let mut means = vec![0.0f64; range.len()];
        let mut squares = vec![0.0f64; range.len()];
        for block in 0..blocks {
            let share = matrix.block(block).len() as f64 / matrix.rows as f64;
            let own = means.iter_mut().zip(of_block(block, 0));
            own.for_each(|(mean, &own)| *mean += share * f64::from(own));
        }
        for block in 0..blocks {
            let count = matrix.block(block).len() as f64;
            let own = of_block(block, 0).iter().zip(of_block(block, 1));
            for ((sum, mean), (&own, &around)) in squares.iter_mut().zip(&means).zip(own) {
                let off = f64::from(own) - mean;
                *sum += f64::from(around) + count * off * off;
            }
        }
        mean.iter_mut().zip(&means).for_each(|(to, &mean)| *to = mean as f32);
        let variances = squares.iter().map(|sum| (sum / matrix.rows as f64) as f32);
        variance.iter_mut().zip(variances).for_each(|(to, variance)| *to = variance);
    });
}

/// Mean and sum of squares of the columns of some blocks.
struct BlockMoments<'a> {
    matrix: Matrix<'a>,
    blocks: Range<usize>,
    /// For each block both, of all columns.
    moments: &'a mut [f32],
}

impl Kernel for BlockMoments<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let columns = self.matrix.columns;
        let of_blocks = self.moments.chunks_exact_mut((2 * columns).max(1));
        for (block, moments) in self.blocks.clone().zip(of_blocks) {
            let rows = self.matrix.block(block);
            let (means, squares) = moments.split_at_mut(columns);
            let to = [means.as_mut_ptr(), squares.as_mut_ptr()];
            // SAFETY: rows, means and squares have so many columns.
            unsafe {
                let mut at = 0;
                while at + SIDE_BY_SIDE * V::LANES <= columns {
                    self.matrix.moments::<V, SIDE_BY_SIDE>(&rows, at, V::LANES, to);
                    at += SIDE_BY_SIDE * V::LANES;
                }
                while at < columns {
                    let lanes = V::LANES.min(columns - at);
                    self.matrix.moments::<V, 1>(&rows, at, lanes, to);
                    at += lanes;
                }
            }
        }
    }
}

impl Matrix<'_> {
    /// Mean and sum of squares around it of some rows, of `N` vectors of columns from `at` on.
    ///
    /// # Safety
    /// The rows, and what `to` points to, have these columns; with more than one vector all lanes.
    #[inline(always)]
    unsafe fn moments<V: Vector, const N: usize>(
        &self,
        rows: &Range<usize>,
        at: usize,
        lanes: usize,
        to: [*mut f32; 2],
    ) {
        let count = V::splat(rows.len() as f32);
        let (mut mean, mut square) = ([V::splat(0.0); N], [V::splat(0.0); N]);
        // SAFETY: the caller's.
        unsafe {
            for row in rows.clone() {
                let from = self.row(row).as_ptr().add(at);
                for (vector, sum) in mean.iter_mut().enumerate() {
                    *sum = sum.add(load(from.add(vector * V::LANES), lanes));
                }
            }
            for sum in &mut mean {
                *sum = sum.div(count);
            }
            for row in rows.clone() {
                let from = self.row(row).as_ptr().add(at);
                for vector in 0..N {
                    let off = load::<V>(from.add(vector * V::LANES), lanes).sub(mean[vector]);
                    square[vector] = off.mul_add(off, square[vector]);
                }
            }
            for vector in 0..N {
                store(mean[vector], to[0].add(at + vector * V::LANES), lanes);
                store(square[vector], to[1].add(at + vector * V::LANES), lanes);
            }
        }
    }
}

/// Mean and variance of some rows.
struct RowMoments<'a> {
    matrix: Matrix<'a>,
    rows: Range<usize>,
    mean: &'a mut [f32],
    variance: &'a mut [f32],
}

impl Kernel for RowMoments<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let to = self.mean.iter_mut().zip(self.variance);
        for (row, (mean, variance)) in self.rows.zip(to) {
            let values = self.matrix.row(row);
            let count = values.len() as f32;
            let mut sum = LongSum::<V>::new();
            for_each_vector!(V, values.len(), |at, lanes| {
                // SAFETY: lanes stop at the row's end.
                sum.add(unsafe { load(values.as_ptr().add(at), lanes) });
            });
            *mean = sum.sum() / count;
            let centre = V::splat(*mean);
            let mut sum = LongSum::<V>::new();
            for_each_vector!(V, values.len(), |at, lanes| {
                // SAFETY: lanes stop at the row's end.
                let off = unsafe { load::<V>(values.as_ptr().add(at), lanes) }.sub(centre);
                let square = off.mul(off);
                match lanes == V::LANES {
                    true => sum.add(square),
                    false => {
                        let real = V::mask((1u32 << lanes) - 1);
                        sum.add(V::select(real, square, V::splat(0.0)));
                    }
                }
            });
            *variance = sum.sum() / count;
        }
    }
}
