// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a backend keeps a parameter's elements; everything outside backends sees row-major.

use crate::Shape;

/// Order of a parameter's elements in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row-major, as PyTorch has it.
    RowMajor,
}

impl Layout {
    /// Number of elements that a parameter of this shape takes, padding included.
    pub fn elements(self, shape: &Shape) -> usize {
        match self {
            Layout::RowMajor => shape.elements(),
        }
    }

    /// Row-major elements in this layout.
    pub fn pack(self, _shape: &Shape, values: &[f32]) -> Vec<f32> {
        match self {
            Layout::RowMajor => values.to_vec(),
        }
    }

    /// Elements of this layout, row-major.
    pub fn unpack(self, _shape: &Shape, stored: &[f32]) -> Vec<f32> {
        match self {
            Layout::RowMajor => stored.to_vec(),
        }
    }
}
