// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows become columns, a block at a time.

use super::base::SharedSlice;
use super::{split, Pool};

/// Rows and columns of a block: its rows are whole cache lines on either side.
const BLOCK: usize = 16;

/// Transposes each of `matrices` matrices of `rows` by `columns`.
///
/// # Panics
/// If lengths differ from the extents.
pub(crate) fn transpose(
    pool: &Pool,
    [matrices, rows, columns]: [usize; 3],
    x: &[f32],
    y: &mut [f32],
) {
    assert_eq!(x.len(), matrices * rows * columns, "elements of matrices");
    assert_eq!(x.len(), y.len(), "input and output of a transposition");
    if x.is_empty() {
        return;
    }
    let blocks = columns.div_ceil(BLOCK);
    let y = SharedSlice::new(y);
    pool.run(&|index| {
        for block in split(matrices * blocks, pool.threads(), index) {
            let (matrix, first) = (block / blocks, block % blocks * BLOCK);
            let width = BLOCK.min(columns - first);
            let start = matrix * rows * columns;
            let range = start + first * rows..start + (first + width) * rows;
            // SAFETY: each block of columns of each matrix is some thread's alone, and its results
            // are these rows of `y`.
            let y = unsafe { y.part(range) };
            of_columns(&x[start..start + rows * columns], columns, first, y);
        }
    });
}

/// Columns from `first` on as rows of `y`.
fn of_columns(x: &[f32], columns: usize, first: usize, y: &mut [f32]) {
    let rows = x.len() / columns;
    for top in (0..rows).step_by(BLOCK) {
        let bottom = rows.min(top + BLOCK);
        for (column, y) in y.chunks_exact_mut(rows).enumerate() {
            for (row, y) in (top..bottom).zip(&mut y[top..bottom]) {
                *y = x[row * columns + first + column];
            }
        }
    }
}
