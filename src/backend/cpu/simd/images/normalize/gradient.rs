// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gradients of what is normalised.

use super::base::{dispatch, for_each_vector, load, store, LongSum};
use super::base::{Isa, Kernel, SharedSlice, Vector};
use super::reductions::add_chain;
use super::{each_columns, split, Groups, Matrix, Pool, Statistics, Sums, SIDE_BY_SIDE};
use std::ops::Range;

/// `dx = dy * gamma / sqrt(variance + eps)`, and the sums that are the other gradients.
///
/// # Panics
/// If lengths do not fit.
#[allow(clippy::too_many_arguments)]
pub(crate) fn normalize_gradient(
    pool: &Pool,
    isa: Isa,
    groups: Groups,
    statistics: &Statistics<'_>,
    gamma: Option<&[f32]>,
    [x, dy]: [&[f32]; 2],
    dx: &mut [f32],
    mut sums: Sums<'_>,
) {
    assert_eq!((x.len(), dx.len()), (dy.len(), dy.len()), "elements of a normalisation");
    let matrix = Matrix::new(groups, x);
    let (scale, plain) = (statistics.scales(gamma), statistics.scales(None));
    let (blocks, columns) = (matrix.blocks(), matrix.columns);
    // Of each block the sums of `dy` and of `dy * (x - mean)`: for each column, or of the row.
    let per_block = match groups {
        Groups::Columns(columns) => columns,
        Groups::Rows(_) => 1,
    };
    let mut of_blocks = vec![0.0; 2 * blocks * per_block];
    let (shared, dx) = (SharedSlice::new(&mut of_blocks), SharedSlice::new(dx));
    pool.run(&|index| {
        let blocks = split(blocks, pool.threads(), index);
        let rows = matrix.block(blocks.start).start..matrix.block(blocks.end).start;
        // SAFETY: the threads' blocks are disjoint.
        let (sums, dx) = unsafe {
            let sums = shared.part(2 * blocks.start * per_block..2 * blocks.end * per_block);
            (sums, dx.part(rows.start * columns..rows.end * columns))
        };
        let (mean, scale) = (statistics.mean, scale.as_slice());
        // SAFETY: the kernel uses slices.
        unsafe {
            dispatch(isa, BlockGradients { matrix, groups, blocks, mean, scale, dy, dx, sums })
        }
    });
    let mut store = |group: usize, of_dy: f64, of_product: f64| {
        let gamma = gamma.map_or(1.0, |gamma| f64::from(gamma[group]));
        let plain = f64::from(plain[group]);
        let normal = of_product * plain;
        let put = |to: &mut Option<&mut [f32]>, value: f64| {
            if let Some(to) = to {
                to[group] = value as f32;
            }
        };
        put(&mut sums.mean, -of_dy * gamma * plain);
        put(&mut sums.variance, -0.5 * normal * gamma * plain * plain);
        put(&mut sums.gamma, normal);
        put(&mut sums.beta, of_dy);
    };
    match groups {
        Groups::Rows(_) => {
            for (row, sums) in of_blocks.chunks_exact(2).enumerate() {
                store(row, f64::from(sums[0]), f64::from(sums[1]));
            }
        }
        Groups::Columns(columns) => {
            let mut totals = vec![0.0; 2 * columns];
            let shared = SharedSlice::new(&mut totals);
            each_columns(pool, 2 * columns, |range| {
                // SAFETY: the threads' columns are disjoint.
                let totals = unsafe { shared.part(range.clone()) };
                for sums in of_blocks.chunks_exact((2 * columns).max(1)) {
                    add_chain(totals, &sums[range.clone()]);
                }
            });
            for column in 0..columns {
                store(column, totals[column], totals[columns + column]);
            }
        }
    }
}

/// Gradients of some blocks.
struct BlockGradients<'a> {
    matrix: Matrix<'a>,
    groups: Groups,
    blocks: Range<usize>,
    mean: &'a [f32],
    scale: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    /// For each block the sums of `dy` and of `dy * (x - mean)`.
    sums: &'a mut [f32],
}

impl Kernel for BlockGradients<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        // SAFETY: the caller's.
        unsafe {
            match self.groups {
                Groups::Columns(_) => self.columns::<V>(),
                Groups::Rows(_) => self.rows::<V>(),
            }
        }
    }
}

impl BlockGradients<'_> {
    /// # Safety
    /// As the kernel.
    #[inline(always)]
    unsafe fn columns<V: Vector>(&mut self) {
        let columns = self.matrix.columns;
        let first = self.matrix.block(self.blocks.start).start;
        let of_blocks = self.sums.chunks_exact_mut((2 * columns).max(1));
        for (block, sums) in self.blocks.clone().zip(of_blocks) {
            let (of_dy, of_product) = sums.split_at_mut(columns);
            let rows = self.matrix.block(block);
            let (x, dy) =
                (&self.matrix.x[rows.start * columns..], &self.dy[rows.start * columns..]);
            let block = Block {
                rows: rows.len(),
                columns,
                lines: [self.mean.as_ptr(), self.scale.as_ptr()],
                from: [x.as_ptr(), dy.as_ptr()],
                dx: self.dx[(rows.start - first) * columns..].as_mut_ptr(),
                sums: [of_dy.as_mut_ptr(), of_product.as_mut_ptr()],
            };
            // SAFETY: the block has so many rows and columns, and there is a number for each column.
            unsafe {
                let mut at = 0;
                while at + SIDE_BY_SIDE * V::LANES <= columns {
                    block.run::<V, SIDE_BY_SIDE>(at, V::LANES);
                    at += SIDE_BY_SIDE * V::LANES;
                }
                while at < columns {
                    let lanes = V::LANES.min(columns - at);
                    block.run::<V, 1>(at, lanes);
                    at += lanes;
                }
            }
        }
    }

    /// # Safety
    /// As the kernel.
    #[inline(always)]
    unsafe fn rows<V: Vector>(&mut self) {
        let columns = self.matrix.columns;
        let of_rows = self.sums.chunks_exact_mut(2).zip(self.dx.chunks_exact_mut(columns.max(1)));
        for (row, (sums, dx)) in self.blocks.clone().zip(of_rows) {
            let x = self.matrix.row(row);
            let dy = &self.dy[row * columns..(row + 1) * columns];
            let (mean, scale) = (V::splat(self.mean[row]), V::splat(self.scale[row]));
            let (mut of_dy, mut of_product) = (LongSum::<V>::new(), LongSum::<V>::new());
            for_each_vector!(V, columns, |at, lanes| {
                // SAFETY: the slices have so many elements. Lanes behind the last have no `dy`.
                unsafe {
                    let dy = load::<V>(dy.as_ptr().add(at), lanes);
                    let centred = load::<V>(x.as_ptr().add(at), lanes).sub(mean);
                    store(dy.mul(scale), dx.as_mut_ptr().add(at), lanes);
                    of_dy.add(dy);
                    of_product.add(dy.mul(centred));
                }
            });
            (sums[0], sums[1]) = (of_dy.sum(), of_product.sum());
        }
    }
}

/// Rows whose columns are summed up.
struct Block {
    rows: usize,
    columns: usize,
    /// Mean and scale of each column.
    lines: [*const f32; 2],
    /// `x` and `dy`.
    from: [*const f32; 2],
    dx: *mut f32,
    /// Of each column the sums of `dy` and of `dy * (x - mean)`.
    sums: [*mut f32; 2],
}

impl Block {
    /// `N` vectors of columns from `column` on.
    ///
    /// # Safety
    /// All that is pointed to has these columns; with more than one vector all lanes.
    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize>(&self, column: usize, lanes: usize) {
        let [x, dy] = self.from;
        let (mut mean, mut scale) = ([V::splat(0.0); N], [V::splat(0.0); N]);
        let (mut sum, mut product) = ([V::splat(0.0); N], [V::splat(0.0); N]);
        // SAFETY: the caller's.
        unsafe {
            for vector in 0..N {
                let at = column + vector * V::LANES;
                mean[vector] = load(self.lines[0].add(at), lanes);
                scale[vector] = load(self.lines[1].add(at), lanes);
            }
            for row in 0..self.rows {
                for vector in 0..N {
                    let at = row * self.columns + column + vector * V::LANES;
                    let dy = load::<V>(dy.add(at), lanes);
                    let centred = load::<V>(x.add(at), lanes).sub(mean[vector]);
                    store(dy.mul(scale[vector]), self.dx.add(at), lanes);
                    sum[vector] = sum[vector].add(dy);
                    product[vector] = dy.mul_add(centred, product[vector]);
                }
            }
            for vector in 0..N {
                let at = column + vector * V::LANES;
                store(sum[vector], self.sums[0].add(at), lanes);
                store(product[vector], self.sums[1].add(at), lanes);
            }
        }
    }
}
