// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows become columns, a block at a time.

use super::base::{dispatch, Isa, Kernel, SharedSlice, Vector};
use super::{split, Pool};

/// Rows and columns of a block: its rows are whole cache lines on either side.
const BLOCK: usize = 16;

/// Rows and columns that are turned in registers.
const SQUARE: usize = 8;

/// Transposes each of `matrices` matrices of `rows` by `columns`.
///
/// # Panics
/// If lengths differ from the extents.
pub(crate) fn transpose(
    pool: &Pool,
    isa: Isa,
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
            let columns = Columns { x: &x[start..start + rows * columns], columns, first, y };
            // SAFETY: the kernel uses slices.
            unsafe { dispatch(isa, columns) }
        }
    });
}

/// Columns of a matrix from the first on, as rows of `y`.
struct Columns<'a> {
    x: &'a [f32],
    columns: usize,
    first: usize,
    y: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Columns { x, columns, first, y } = self;
        let rows = x.len() / columns;
        let width = y.len() / rows;
        let mut top = 0;
        // Lines that lie apart by a power of two compete for a few places of the nearest cache. So those
        // on the side where they lie further apart are used up eight at a time.
        let most = if columns < rows { BLOCK } else { SQUARE };
        while top + SQUARE <= rows && width == BLOCK {
            let height = if top + most <= rows { most } else { SQUARE };
            for left in [0, SQUARE] {
                for top in (top..top + height).step_by(SQUARE) {
                    let from =
                        &x[top * columns + first + left..][..(SQUARE - 1) * columns + SQUARE];
                    let to = &mut y[left * rows + top..][..(SQUARE - 1) * rows + SQUARE];
                    // SAFETY: the slices end with the square's last row.
                    unsafe { V::transpose_8x8(from.as_ptr(), columns, to.as_mut_ptr(), rows) };
                }
            }
            top += height;
        }
        for row in top..rows {
            for column in 0..width {
                y[column * rows + row] = x[row * columns + first + column];
            }
        }
    }
}
