// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layout in which weights live: panels as wide as a register tile.

use std::ops::Range;

pub(crate) use super::choice::PANEL;

/// Width of the last panel where no more outputs than this are left.
pub(crate) const HALF_PANEL: usize = 16;

/// Where the elements of a `[outputs, inputs]` weight matrix lie when it is stored in panels.
///
/// A panel holds 32 consecutive outputs as `[inputs][32]`, so the products of one input with all
/// of them read consecutive memory. Missing outputs of the last panel are stored as zeros; with 16
/// outputs or fewer it is `[inputs][16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PanelLayout {
    /// Columns of the matrix, the reduction dimension of the forward pass.
    pub(crate) inputs: usize,
    /// Rows of the matrix.
    pub(crate) outputs: usize,
}

impl PanelLayout {
    /// Elements of the stored matrix, padding included.
    pub(crate) fn len(&self) -> usize {
        self.inputs * self.padded_outputs()
    }

    /// Elements of a bias that goes with the matrix: as many outputs as are stored.
    pub(crate) fn padded_outputs(&self) -> usize {
        self.outputs.next_multiple_of(HALF_PANEL)
    }

    /// Number of panels.
    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Where the weight from an input to an output lies.
    pub(crate) fn offset(&self, output: usize, input: usize) -> usize {
        let panel = output / PANEL;
        self.panel_start(panel) + input * self.width(panel) + output % PANEL
    }

    /// Where a panel begins.
    pub(crate) fn panel_start(&self, panel: usize) -> usize {
        panel * PANEL * self.inputs
    }

    /// Outputs that a panel stores: 32, or 16 in a short last panel.
    pub(crate) fn width(&self, panel: usize) -> usize {
        (self.padded_outputs() - panel * PANEL).min(PANEL)
    }

    /// Outputs of a panel that are not padding.
    pub(crate) fn outputs_of(&self, panel: usize) -> Range<usize> {
        panel * PANEL..((panel + 1) * PANEL).min(self.outputs)
    }

    /// Copies a row-major `[outputs, inputs]` matrix into panels, padding with zeros.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn pack(&self, rows: &[f32], panels: &mut [f32]) {
        assert_eq!((rows.len(), panels.len()), (self.inputs * self.outputs, self.len()));
        panels.fill(0.0);
        for (output, row) in rows.chunks_exact(self.inputs.max(1)).enumerate() {
            for (input, &value) in row.iter().enumerate() {
                panels[self.offset(output, input)] = value;
            }
        }
    }

    /// Copies panels into a row-major `[outputs, inputs]` matrix.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn unpack(&self, panels: &[f32], rows: &mut [f32]) {
        assert_eq!((rows.len(), panels.len()), (self.inputs * self.outputs, self.len()));
        for (output, row) in rows.chunks_exact_mut(self.inputs.max(1)).enumerate() {
            for (input, value) in row.iter_mut().enumerate() {
                *value = panels[self.offset(output, input)];
            }
        }
    }
}
