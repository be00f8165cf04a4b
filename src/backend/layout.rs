// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a backend keeps a parameter's elements; everything outside backends sees row-major.

use std::ops::Range;

use super::cpu::PanelLayout;
use crate::graph::{ParamRole, ParamSpec};
use crate::plan::Bytes;
use crate::{DType, Shape};

/// A parameter's place: in the arenas of values, gradients and moments if it is trained, else in that
/// of the state.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// First byte among values, gradients and averages.
    pub start: Bytes,
    /// First byte among moments, which frozen parameters have none of.
    pub moments: Bytes,
    /// Layout of the elements.
    pub layout: Layout,
    /// What changes the parameter, which says where it lies.
    pub role: ParamRole,
}

/// A place for each parameter, one behind the other among those of its role, and the sizes of an
/// arena of trained parameters and of that of the state.
pub fn slots(
    specs: &[ParamSpec],
    alignment: usize,
    layout: impl Fn(&ParamSpec) -> Layout,
) -> (Vec<Slot>, [Bytes; 2]) {
    let mut ends = [0, 0];
    let mut slots = Vec::with_capacity(specs.len());
    for spec in specs {
        let layout = match spec.role {
            ParamRole::Trained => layout(spec),
            ParamRole::State => Layout::RowMajor,
        };
        let end = match spec.role {
            ParamRole::Trained => &mut ends[0],
            ParamRole::State => &mut ends[1],
        };
        let start = Bytes(*end);
        slots.push(Slot { start, moments: start, layout, role: spec.role });
        let bytes = layout.elements(&spec.shape) * spec.dtype.bytes();
        *end = (*end + bytes).next_multiple_of(alignment);
    }
    (slots, ends.map(Bytes))
}

/// The same places where moments are kept of some trained parameters alone, and the size of an arena
/// of moments. Those of others are nowhere.
pub(crate) fn with_moments(
    slots: &[Slot],
    specs: &[ParamSpec],
    alignment: usize,
    keeps: impl Fn(usize) -> bool,
) -> (Vec<Slot>, Bytes) {
    let mut end = 0;
    let mut placed = slots.to_vec();
    for (index, (slot, spec)) in placed.iter_mut().zip(specs).enumerate() {
        slot.moments = Bytes(end);
        if slot.role == ParamRole::Trained && keeps(index) {
            let bytes = slot.layout.elements(&spec.shape) * spec.dtype.bytes();
            end = (end + bytes).next_multiple_of(alignment);
        }
    }
    (placed, Bytes(end))
}

/// Counters as the words in which arenas hold them.
pub fn words_of(counters: &[i64]) -> Vec<f32> {
    let words = |count: &i64| [*count as u32, (*count as u64 >> 32) as u32].map(f32::from_bits);
    counters.iter().flat_map(words).collect()
}

/// The counters in words of an arena.
pub fn counters_of(words: &[f32]) -> Vec<i64> {
    let count =
        |pair: &[f32]| (u64::from(pair[0].to_bits()) | u64::from(pair[1].to_bits()) << 32) as i64;
    words.chunks_exact(DType::I64.bytes() / DType::F32.bytes()).map(count).collect()
}

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

/// Consecutive elements of a parameter whose places in memory are consecutive too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The elements, counted row-major.
    pub(crate) values: Range<usize>,
    /// Their places, padding included.
    pub(crate) stored: Range<usize>,
    /// Places per column of a panel; `None` if the places are in the order of the elements.
    panel: Option<usize>,
}

impl Layout {
    /// A parameter's elements block by block, in row-major order. A panel is one block; of other
    /// layouts a block has at most `most` elements.
    pub(crate) fn blocks(self, shape: &Shape, most: usize) -> Vec<Block> {
        match self {
            Layout::RowMajor | Layout::Padded(_) => {
                let (elements, most) = (shape.elements(), most.max(1));
                let starts = (0..elements).step_by(most);
                let block = |range: Range<usize>| Block {
                    values: range.clone(),
                    stored: range,
                    panel: None,
                };
                starts.map(|start| block(start..(start + most).min(elements))).collect()
            }
            Layout::Panels => {
                let panels = panels(shape);
                let block = |panel| {
                    let (rows, start) = (panels.outputs_of(panel), panels.panel_start(panel));
                    let width = panels.width(panel);
                    Block {
                        values: rows.start * panels.inputs..rows.end * panels.inputs,
                        stored: start..start + width * panels.inputs,
                        panel: Some(width),
                    }
                };
                (0..panels.panels()).map(block).collect()
            }
        }
    }
}

impl Block {
    /// The block's places in parts of about `most`.
    pub(crate) fn parts(&self, most: usize) -> impl Iterator<Item = Range<usize>> {
        let column = self.panel.unwrap_or(1);
        let step = (most / column).max(1) * column;
        let Range { start, end } = self.stored;
        (start..end).step_by(step).map(move |from| from..(from + step).min(end))
    }

    /// Which of the block's elements lies at which place of a part: pairs of indices, both counted
    /// from 0, without the places that are padding.
    pub(crate) fn pairs(&self, part: &Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let before = part.start - self.stored.start;
        let width = self.panel.unwrap_or(1);
        let columns = (self.stored.len() / width).max(1);
        let rows = self.values.len() / columns;
        let in_panel = self.panel.is_some();
        (0..part.len()).filter_map(move |place| {
            let (column, row) = ((before + place) / width, (before + place) % width);
            match in_panel {
                false => Some((before + place, place)),
                true => (row < rows).then_some((row * columns + column, place)),
            }
        })
    }
}

/// The panels of a matrix `[outputs, inputs]`; backends keep nothing else in panels.
fn panels(shape: &Shape) -> PanelLayout {
    PanelLayout { outputs: shape.rows(), inputs: shape.last() }
}
