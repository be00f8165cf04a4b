// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where cache lines begin, and how far matrices reach.

/// Elements of a cache line of 64 bytes, and of the widest vector. No machine's lines are shorter:
/// memory that is walked in such steps misses none.
pub(crate) const LINE: usize = 16;

/// Moves a pointer to the next cache line, at most [`LINE`] - 1 elements on: a vector that
/// straddles two lines takes as long to load as two.
pub(crate) fn on_line(pointer: *mut f32) -> *mut f32 {
    pointer.wrapping_add(pointer.align_offset(4 * LINE))
}

/// Elements that a strided matrix spans.
pub(crate) fn matrix_len(rows: usize, columns: usize, stride: usize) -> usize {
    assert!(stride >= columns, "rows of {columns} elements overlap at stride {stride}");
    match rows {
        0 => 0,
        _ => (rows - 1) * stride + columns,
    }
}
