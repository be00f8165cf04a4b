// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matrix products of odd or rare shapes, by the `gemm` crate.

/// Distances in elements between neighbours of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strides {
    /// From a row to the next.
    pub(crate) row: isize,
    /// From a column to the next.
    pub(crate) column: isize,
}

/// `c = a * b` for matrices of `[rows, inner]` and `[inner, columns]`; `c` is row-major.
///
/// It runs on the calling thread, since the crate's parallel split would make sums depend on the
/// number of threads.
///
/// # Panics
/// If a slice does not have as many elements as its matrix.
pub(crate) fn matmul(
    [rows, inner, columns]: [usize; 3],
    (a, a_strides): (&[f32], Strides),
    (b, b_strides): (&[f32], Strides),
    c: &mut [f32],
) {
    let lengths = (rows * inner, inner * columns, rows * columns);
    assert_eq!((a.len(), b.len(), c.len()), lengths, "factors and result of a product");
    let in_bounds = |strides: Strides, m: usize, n: usize| {
        strides == Strides { row: n as isize, column: 1 }
            || strides == Strides { row: 1, column: m as isize }
    };
    assert!(in_bounds(a_strides, rows, inner) && in_bounds(b_strides, inner, columns), "strides");
    // SAFETY: each matrix is dense in one of the two orders, as just checked, so every element that
    // its strides reach lies in its slice; `c` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            c.as_mut_ptr(),
            1,
            columns as isize,
            false,
            a.as_ptr(),
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
