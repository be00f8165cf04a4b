// SPDX-License-Identifier: MIT OR Apache-2.0
//! Means and variances of the rows or columns of a matrix, what is normalised with them, and its
//! gradients. An image that lies channels-last is a matrix of pixels by channels.
//!
//! Columns are summed in blocks of rows that fit into the first cache, each around its own mean; blocks
//! are added up in order in `f64`. They are cut by shape alone, so sums do not depend on threads.

use super::base::{dispatch, for_each_vector, load, store, LongSum};
use super::base::{Isa, Kernel, SharedSlice, Vector};
use super::reductions::add_chain;
use super::{split, split_by, Pool, APART};
use std::ops::Range;

/// Elements of a block of rows, and the most rows that are summed in one chain.
const BLOCK_ELEMENTS: usize = 4096;
const BLOCK_ROWS: usize = 256;

/// Which elements of a matrix belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Those of a column, of so many.
    Columns(usize),
    /// Those of a row of so many columns.
    Rows(usize),
}

/// A learned factor and addend for each group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine<'a> {
    /// The factors.
    pub(crate) gamma: &'a [f32],
    /// The addends; not used by gradients.
    pub(crate) beta: &'a [f32],
}

/// What is normalised with: one number per group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics<'a> {
    /// Mean of each group.
    pub(crate) mean: &'a [f32],
    /// Variance of each group.
    pub(crate) variance: &'a [f32],
    /// Added to the variance.
    pub(crate) eps: f64,
}

/// Gradients that are summed over each group, those that are asked for.
#[derive(Debug, Default)]
pub(crate) struct Sums<'a> {
    /// With respect to the mean.
    pub(crate) mean: Option<&'a mut [f32]>,
    /// With respect to the variance.
    pub(crate) variance: Option<&'a mut [f32]>,
    /// With respect to the factor.
    pub(crate) gamma: Option<&'a mut [f32]>,
    /// With respect to the addend.
    pub(crate) beta: Option<&'a mut [f32]>,
}

impl Groups {
    fn columns(self) -> usize {
        match self {
            Groups::Columns(columns) | Groups::Rows(columns) => columns,
        }
    }

    /// Rows of a block: one for groups that are rows.
    fn block_rows(self) -> usize {
        match self {
            Groups::Columns(columns) => {
                (BLOCK_ELEMENTS / columns.max(1)).clamp(BLOCK_ROWS / 16, BLOCK_ROWS)
            }
            Groups::Rows(_) => 1,
        }
    }
}

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

/// `y = (x - mean) / sqrt(variance + eps) * gamma + beta`
///
/// # Panics
/// If lengths do not fit.
pub(crate) fn normalize(
    pool: &Pool,
    isa: Isa,
    groups: Groups,
    statistics: &Statistics<'_>,
    affine: Option<Affine<'_>>,
    x: &[f32],
    y: &mut [f32],
) {
    let scale = statistics.scales(affine.map(|affine| affine.gamma));
    let zeros = vec![0.0; if affine.is_some() { 0 } else { scale.len() }];
    let shift = affine.map_or(zeros.as_slice(), |affine| &affine.beta[..scale.len()]);
    let lines = Lines { centre: statistics.mean, scale: &scale, shift };
    lines.apply(pool, isa, groups, x, y);
}

/// `dx = (d_mean + 2 * d_variance * (x - mean)) / elements of a group`
///
/// # Panics
/// If lengths do not fit.
pub(crate) fn statistics_gradient(
    pool: &Pool,
    isa: Isa,
    groups: Groups,
    mean: &[f32],
    [d_mean, d_variance]: [&[f32]; 2],
    x: &[f32],
    dx: &mut [f32],
) {
    let matrix = Matrix::new(groups, x);
    let count = match groups {
        Groups::Columns(_) => matrix.rows,
        Groups::Rows(_) => matrix.columns,
    } as f64;
    let per_element = |factor: f64, sums: &[f32]| -> Vec<f32> {
        sums.iter().map(|&sum| (factor * f64::from(sum) / count) as f32).collect()
    };
    let (scale, shift) = (per_element(2.0, d_variance), per_element(1.0, d_mean));
    Lines { centre: mean, scale: &scale, shift: &shift }.apply(pool, isa, groups, x, dx);
}

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

impl Statistics<'_> {
    /// What centred elements of each group are multiplied by.
    fn scales(&self, gamma: Option<&[f32]>) -> Vec<f32> {
        let scale = |(group, &variance): (usize, &f32)| {
            let gamma = gamma.map_or(1.0, |gamma| f64::from(gamma[group]));
            (gamma / (f64::from(variance) + self.eps).sqrt()) as f32
        };
        self.variance.iter().enumerate().map(scale).collect()
    }
}

/// Splits columns among the threads by whole cache lines.
fn each_columns(pool: &Pool, columns: usize, each: impl Fn(Range<usize>) + Sync) {
    pool.run(&|index| {
        each(split_by(APART / size_of::<f32>(), columns, pool.threads(), index));
    });
}

/// A matrix in blocks of rows.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    x: &'a [f32],
    rows: usize,
    columns: usize,
    block_rows: usize,
}

impl<'a> Matrix<'a> {
    fn new(groups: Groups, x: &'a [f32]) -> Self {
        let columns = groups.columns();
        let rows = x.len().checked_div(columns).unwrap_or(0);
        assert_eq!(rows * columns, x.len(), "whole rows");
        Matrix { x, rows, columns, block_rows: groups.block_rows() }
    }

    fn blocks(&self) -> usize {
        self.rows.div_ceil(self.block_rows)
    }

    /// Rows of a block.
    fn block(&self, number: usize) -> Range<usize> {
        let row = |number: usize| (number * self.block_rows).min(self.rows);
        row(number)..row(number + 1)
    }

    fn row(&self, row: usize) -> &'a [f32] {
        &self.x[row * self.columns..(row + 1) * self.columns]
    }
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
            let count = V::splat(rows.len() as f32);
            let (means, squares) = moments.split_at_mut(columns);
            for_each_vector!(V, columns, |at, lanes| {
                // SAFETY: rows, means and squares have so many columns.
                unsafe {
                    let value = |row| load::<V>(self.matrix.row(row).as_ptr().add(at), lanes);
                    let mut sum = V::splat(0.0);
                    for row in rows.clone() {
                        sum = sum.add(value(row));
                    }
                    let mean = sum.div(count);
                    let mut square = V::splat(0.0);
                    for row in rows.clone() {
                        let off = value(row).sub(mean);
                        square = off.mul_add(off, square);
                    }
                    store(mean, means.as_mut_ptr().add(at), lanes);
                    store(square, squares.as_mut_ptr().add(at), lanes);
                }
            });
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

/// `(x - centre) * scale + shift`, with numbers for each group.
#[derive(Clone, Copy)]
struct Lines<'a> {
    centre: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
}

impl Lines<'_> {
    fn apply(&self, pool: &Pool, isa: Isa, groups: Groups, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "elements of a normalisation");
        let matrix = Matrix::new(groups, x);
        let count = match groups {
            Groups::Columns(columns) => columns,
            Groups::Rows(_) => matrix.rows,
        };
        let least = self.centre.len().min(self.scale.len()).min(self.shift.len());
        assert!(least >= count, "a number for each group");
        let y = SharedSlice::new(y);
        pool.run(&|index| {
            let rows = split(matrix.rows, pool.threads(), index);
            // SAFETY: the threads' rows are disjoint.
            let y = unsafe { y.part(rows.start * matrix.columns..rows.end * matrix.columns) };
            // SAFETY: the kernel uses slices.
            unsafe { dispatch(isa, Applied { lines: *self, groups, matrix, rows, y }) }
        });
    }
}

/// Some rows of [`Lines::apply`].
struct Applied<'a> {
    lines: Lines<'a>,
    groups: Groups,
    matrix: Matrix<'a>,
    rows: Range<usize>,
    y: &'a mut [f32],
}

impl Kernel for Applied<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Lines { centre, scale, shift } = self.lines;
        let columns = self.matrix.columns;
        for (row, y) in self.rows.clone().zip(self.y.chunks_exact_mut(columns.max(1))) {
            let x = self.matrix.row(row);
            // SAFETY: the row has so many columns, and there is a number for each group.
            unsafe {
                match self.groups {
                    Groups::Columns(_) => for_each_vector!(V, columns, |at, lanes| {
                        let number = |of: &[f32]| load::<V>(of.as_ptr().add(at), lanes);
                        let centred = load::<V>(x.as_ptr().add(at), lanes).sub(number(centre));
                        let value = centred.mul_add(number(scale), number(shift));
                        store(value, y.as_mut_ptr().add(at), lanes);
                    }),
                    Groups::Rows(_) => {
                        let number = |of: &[f32]| V::splat(of[row]);
                        let [centre, scale, shift] = [number(centre), number(scale), number(shift)];
                        for_each_vector!(V, columns, |at, lanes| {
                            let centred = load::<V>(x.as_ptr().add(at), lanes).sub(centre);
                            let value = centred.mul_add(scale, shift);
                            store(value, y.as_mut_ptr().add(at), lanes);
                        });
                    }
                }
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
            let dx = self.dx[(rows.start - first) * columns..].as_mut_ptr();
            for_each_vector!(V, columns, |column, lanes| {
                // SAFETY: the block has so many rows and columns, and there is a number for each column.
                unsafe {
                    let mean = load::<V>(self.mean.as_ptr().add(column), lanes);
                    let scale = load::<V>(self.scale.as_ptr().add(column), lanes);
                    let (mut sum, mut product) = (V::splat(0.0), V::splat(0.0));
                    for row in 0..rows.len() {
                        let at = row * columns + column;
                        let dy = load::<V>(dy.as_ptr().add(at), lanes);
                        let centred = load::<V>(x.as_ptr().add(at), lanes).sub(mean);
                        store(dy.mul(scale), dx.add(at), lanes);
                        sum = sum.add(dy);
                        product = dy.mul_add(centred, product);
                    }
                    store(sum, of_dy.as_mut_ptr().add(column), lanes);
                    store(product, of_product.as_mut_ptr().add(column), lanes);
                }
            });
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
