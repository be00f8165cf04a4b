// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matrix products of odd or rare shapes, and batches of them, by the `gemm` crate, which runs on one
//! thread: its own parallel split would make sums depend on their number.

use super::base::SharedSlice;
use super::{split, Pool};

/// Distances in elements between neighbours of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strides {
    /// From a row to the next.
    pub(crate) row: isize,
    /// From a column to the next.
    pub(crate) column: isize,
}

/// Rows of a product that one thread computes in one go. They are the same however many threads there
/// are, so results are, too.
const ROWS: usize = 128;

/// `c = a * b` for each pair of a batch of matrices of `[rows, inner]` and `[inner, columns]`, which
/// lie one behind the other; `c` is row-major.
///
/// # Panics
/// If a slice does not have as many elements as its matrices.
pub(crate) fn matmul(
    pool: &Pool,
    batch: usize,
    [rows, inner, columns]: [usize; 3],
    (a, a_strides): (&[f32], Strides),
    (b, b_strides): (&[f32], Strides),
    c: &mut [f32],
) {
    let lengths = (batch * rows * inner, batch * inner * columns, batch * rows * columns);
    assert_eq!((a.len(), b.len(), c.len()), lengths, "factors and result of a product");
    let in_bounds = |strides: Strides, m: usize, n: usize| {
        strides == Strides { row: n as isize, column: 1 }
            || strides == Strides { row: 1, column: m as isize }
    };
    assert!(in_bounds(a_strides, rows, inner) && in_bounds(b_strides, inner, columns), "strides");
    let parts = rows.div_ceil(ROWS);
    let c = SharedSlice::new(c);
    pool.run(&|thread| {
        for part in split(batch * parts, pool.threads(), thread) {
            let (pair, first) = (part / parts, part % parts * ROWS);
            let count = ROWS.min(rows - first);
            let start = pair * rows + first;
            // SAFETY: each part is one thread's alone, and its results are these rows.
            let c = unsafe { c.part(start * columns..(start + count) * columns) };
            let a = &a[pair * rows * inner..][..rows * inner];
            let b = &b[pair * inner * columns..][..inner * columns];
            // SAFETY: each matrix is dense in one of the two orders, as checked above, so every
            // element that its strides reach lies in its slice; the rows of `a` from `first` on
            // begin `first` steps into it. Without elements nothing is read.
            unsafe {
                gemm::gemm(
                    count,
                    columns,
                    inner,
                    c.as_mut_ptr(),
                    1,
                    columns as isize,
                    false,
                    a.as_ptr().wrapping_offset(first as isize * a_strides.row),
                    a_strides.column,
                    a_strides.row,
                    b.as_ptr(),
                    b_strides.column,
                    b_strides.row,
                    0.0_f32,
                    1.0_f32,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
        }
    });
}
