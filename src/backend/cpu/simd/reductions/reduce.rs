// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums in a fixed order, scaling and copies.

use super::base::{dispatch, for_each_vector, load, matrix_len, store};
use super::base::{Isa, Kernel, SharedSlice, Vector};
use super::{split, split_by, Pool, APART};

/// Elements summed by themselves. The cut depends on nothing but the length, so neither do sums.
const CHUNK: usize = 4096;

/// The sum of squares, in f64, the same for every number of threads.
pub(crate) fn sum_of_squares(pool: &Pool, isa: Isa, x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(CHUNK)];
    let shared = SharedSlice::new(&mut sums);
    pool.run(&|index| {
        let chunks = split(shared.len(), pool.threads(), index);
        // SAFETY: the threads' chunks are disjoint.
        let sums = unsafe { shared.part(chunks.clone()) };
        let x = &x[chunks.start * CHUNK..(chunks.end * CHUNK).min(x.len())];
        // SAFETY: the kernel uses slices.
        unsafe { dispatch(isa, Squares { x, sums }) }
    });
    sums.iter().sum()
}

struct Squares<'a> {
    x: &'a [f32],
    sums: &'a mut [f64],
}

impl Kernel for Squares<'_> {
    type Output = ();

    /// Plain lanes, so that all instruction sets add in the same order.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (chunk, sum) in self.x.chunks(CHUNK).zip(self.sums) {
            let mut lanes = [0.0f64; 16];
            let mut groups = chunk.chunks_exact(16);
            for group in groups.by_ref() {
                for lane in 0..16 {
                    lanes[lane] += f64::from(group[lane]) * f64::from(group[lane]);
                }
            }
            for (lane, &value) in groups.remainder().iter().enumerate() {
                lanes[lane] += f64::from(value) * f64::from(value);
            }
            *sum = lanes.iter().sum();
        }
    }
}

/// Rows that a column's sum takes in one chain of f32. Longer sums are sums of chains, in f64: as one
/// chain their error would grow with the root of the rows, which may be all pixels of a batch.
pub(crate) const COLUMN_CHAIN: usize = 256;

/// The sum of each column of a matrix with rows `stride` apart, in the order of the rows.
///
/// # Panics
/// If the matrix is shorter than its rows.
pub(crate) fn column_sums(
    pool: &Pool,
    isa: Isa,
    rows: usize,
    stride: usize,
    matrix: &[f32],
    sums: &mut [f32],
) {
    assert!(matrix.len() >= matrix_len(rows, sums.len(), stride), "rows");
    let shared = SharedSlice::new(sums);
    pool.run(&|index| {
        let columns = split_by(APART / size_of::<f32>(), shared.len(), pool.threads(), index);
        // SAFETY: the threads' columns are disjoint.
        let sums = unsafe { shared.part(columns.clone()) };
        let matrix = matrix.as_ptr().wrapping_add(columns.start);
        // SAFETY: the matrix holds these columns in every row.
        unsafe { dispatch(isa, Columns { rows, stride, matrix, sums }) }
    });
}

/// `matrix` is valid for reading `sums.len()` values at each row's start.
struct Columns<'a> {
    rows: usize,
    stride: usize,
    matrix: *const f32,
    sums: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (index, sums) in self.sums.chunks_mut(COLUMNS).enumerate() {
            let matrix = self.matrix.wrapping_add(index * COLUMNS);
            let mut totals = [0.0; COLUMNS];
            for first in (0..self.rows).step_by(COLUMN_CHAIN) {
                let mut chain = [0.0; COLUMNS];
                for row in first..(first + COLUMN_CHAIN).min(self.rows) {
                    // SAFETY: the row holds as many values as there are sums.
                    unsafe { add_to::<V>(&mut chain, matrix.add(row * self.stride), sums.len()) };
                }
                add_chain(&mut totals, &chain);
            }
            sums.iter_mut().zip(totals).for_each(|(sum, total)| *sum = total as f32);
        }
    }
}

/// Adds the sums of a chain to those of earlier ones.
#[inline(always)]
pub(crate) fn add_chain(totals: &mut [f64], chain: &[f32]) {
    totals.iter_mut().zip(chain).for_each(|(total, &sum)| *total += f64::from(sum));
}

/// Columns that are summed up at a time: whole cache lines of each row.
const COLUMNS: usize = 256;

/// Adds the first `count` values.
///
/// # Safety
/// `values` is valid for reading `count` values, and there are as many sums.
#[inline(always)]
unsafe fn add_to<V: Vector>(sums: &mut [f32], values: *const f32, count: usize) {
    for_each_vector!(V, count, |at, lanes| {
        // SAFETY: the caller's.
        unsafe {
            let to = sums.as_mut_ptr().add(at);
            store(load::<V>(to, lanes).add(load(values.add(at), lanes)), to, lanes);
        }
    });
}
