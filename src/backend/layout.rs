// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a backend keeps a parameter's elements; everything outside backends sees row-major.

use super::cpu::PanelLayout;
use crate::Shape;

/// Order of a parameter's elements in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row-major, as PyTorch has it.
    RowMajor,
    /// Row-major with zeros behind, up to a multiple of this many elements.
    Padded(usize),
    /// The matrix of a linear layer in panels as wide as the CPU's register tile.
    Panels,
}

impl Layout {
    /// Number of elements that a parameter of this shape takes, padding included.
    pub fn elements(self, shape: &Shape) -> usize {
        match self {
            Layout::RowMajor => shape.elements(),
            Layout::Padded(multiple) => shape.elements().next_multiple_of(multiple),
            Layout::Panels => panels(shape).len(),
        }
    }

    /// Row-major elements in this layout.
    pub fn pack(self, shape: &Shape, values: &[f32]) -> Vec<f32> {
        let mut stored = values.to_vec();
        match self {
            Layout::RowMajor => {}
            Layout::Padded(_) => stored.resize(self.elements(shape), 0.0),
            Layout::Panels => {
                stored = vec![0.0; self.elements(shape)];
                panels(shape).pack(values, &mut stored);
            }
        }
        stored
    }

    /// Elements of this layout, row-major.
    pub fn unpack(self, shape: &Shape, stored: &[f32]) -> Vec<f32> {
        let mut values = stored[..shape.elements()].to_vec();
        if self == Layout::Panels {
            panels(shape).unpack(stored, &mut values);
        }
        values
    }
}

/// The panels of a matrix `[outputs, inputs]`; backends keep nothing else in panels.
fn panels(shape: &Shape) -> PanelLayout {
    PanelLayout { outputs: shape.rows(), inputs: shape.last() }
}
