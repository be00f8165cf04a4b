// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights in the panels that products take, as they lie or turned, and rounded to what products take.

use super::base::{dispatch, Isa, Kernel, SharedSlice, Vector};
use super::{split, Activation, Forward, PanelLayout, Pool, Start, Stores};
use crate::Precision;
use std::cell::RefCell;

/// A weight matrix `[outputs, inputs]` in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weights<'a> {
    /// In panels, as backends keep those of linear maps.
    Panels(&'a [f32]),
    /// Row-major.
    Rows(&'a [f32]),
}

/// A matrix in panels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels<'a> {
    pub(super) layout: PanelLayout,
    /// Rounded to the precision of products.
    pub(super) values: &'a [f32],
    precision: Precision,
}

/// Which way a matrix is multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Use {
    /// `x * weight^T`.
    AsIs,
    /// `dy * weight`.
    Turned,
}

thread_local! {
    /// Matrices that had to be brought into panels. They grow to the largest layer and stay.
    static BROUGHT: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    /// Rows that had to be rounded, likewise.
    static ROUNDED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body` with a matrix, and another if there is one, in panels, whose products round both factors.
pub(super) fn with_panels(
    (pool, isa): (&Pool, Isa),
    (direction, precision): (Use, Precision),
    weight: (PanelLayout, Weights<'_>),
    other: Option<(PanelLayout, Weights<'_>)>,
    body: impl FnOnce(Panels<'_>, Option<Panels<'_>>),
) {
    BROUGHT.with_borrow_mut(|[first, second]| {
        let bring = |(layout, weights), room| {
            bring((pool, isa), (direction, precision), layout, weights, room)
        };
        body(bring(weight, first), other.map(|other| bring(other, second)));
    });
}

fn bring<'a>(
    (pool, isa): (&Pool, Isa),
    (direction, precision): (Use, Precision),
    layout: PanelLayout,
    weights: Weights<'a>,
    room: &'a mut Vec<f32>,
) -> Panels<'a> {
    let count = layout.outputs * layout.inputs;
    let in_panels = match (direction, weights) {
        (Use::AsIs, Weights::Panels(values)) if precision == Precision::F32 => {
            return Panels { layout, values, precision };
        }
        (Use::AsIs, _) => layout,
        (Use::Turned, _) => PanelLayout { outputs: layout.inputs, inputs: layout.outputs },
    };
    let needed = in_panels.len();
    if room.len() < needed {
        room.resize(needed, 0.0);
    }
    let room = &mut room[..needed];
    match (direction, weights) {
        (Use::AsIs, Weights::Rows(rows)) => layout.pack(&rows[..count], room),
        (Use::AsIs, Weights::Panels(panels)) => room.copy_from_slice(panels),
        (Use::Turned, weights) => turn((pool, isa), layout, weights, room),
    }
    if precision != Precision::F32 {
        room.iter_mut().for_each(|value| *value = precision.round(*value));
    }
    Panels { layout: in_panels, values: room, precision }
}

/// Writes the panels of the transposed matrix.
fn turn((pool, isa): (&Pool, Isa), layout: PanelLayout, weights: Weights<'_>, to: &mut [f32]) {
    match weights {
        Weights::Panels(values) => assert_eq!(values.len(), layout.len(), "weights in panels"),
        Weights::Rows(rows) => assert_eq!(rows.len(), layout.outputs * layout.inputs, "weights"),
    }
    let turned = PanelLayout { outputs: layout.inputs, inputs: layout.outputs };
    let to = SharedSlice::new(to);
    pool.run(&|index| {
        for panel in split(turned.panels(), pool.threads(), index) {
            let start = turned.panel_start(panel);
            let range = start..start + turned.inputs * turned.width(panel);
            // SAFETY: each panel is one thread's.
            let to = unsafe { to.part(range) };
            // SAFETY: the lengths were just checked.
            unsafe { dispatch(isa, Turn { layout, turned, weights, panel, to }) }
        }
    });
}

/// One panel of the transposed matrix.
struct Turn<'a> {
    layout: PanelLayout,
    turned: PanelLayout,
    weights: Weights<'a>,
    panel: usize,
    /// `[outputs][width]`.
    to: &'a mut [f32],
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let inputs = self.turned.outputs_of(self.panel);
        let width = self.turned.width(self.panel);
        if inputs.len() < width {
            self.to.fill(0.0);
        }
        let values = match self.weights {
            Weights::Panels(values) => values,
            Weights::Rows(rows) => {
                let from = rows.chunks_exact(self.layout.inputs.max(1));
                for (to, from) in self.to.chunks_exact_mut(width).zip(from) {
                    to[..inputs.len()].copy_from_slice(&from[inputs.clone()]);
                }
                return;
            }
        };
        for panel in 0..self.layout.panels() {
            let outputs = self.layout.outputs_of(panel);
            let stride = self.layout.width(panel);
            let from = &values[self.layout.panel_start(panel) + inputs.start * stride..];
            let to = &mut self.to[outputs.start * width..];
            let [whole_inputs, whole_outputs] = [inputs.len(), outputs.len()].map(|n| n / 8 * 8);
            for input in (0..whole_inputs).step_by(8) {
                for output in (0..whole_outputs).step_by(8) {
                    let (from, to) =
                        (&from[input * stride + output..], &mut to[output * width + input..]);
                    debug_assert!(from.len() >= 7 * stride + 8 && to.len() >= 7 * width + 8);
                    // SAFETY: both panels hold the block of 8 by 8.
                    unsafe { V::transpose_8x8(from.as_ptr(), stride, to.as_mut_ptr(), width) };
                }
            }
            for input in 0..inputs.len() {
                let done = if input < whole_inputs { whole_outputs } else { 0 };
                for output in done..outputs.len() {
                    to[output * width + input] = from[input * stride + output];
                }
            }
        }
    }
}

/// Rows of a matrix in memory.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

impl Panels<'_> {
    /// Products of rows with all panels, on this thread and whatever their values: `y` holds them one
    /// behind the other.
    pub(super) fn multiply(&self, isa: Isa, rows: usize, x: Rows<'_>, y: &mut [f32]) {
        if self.precision == Precision::F32 {
            return self.multiply_as_is(isa, rows, x, y);
        }
        let width = self.layout.inputs;
        ROUNDED.with_borrow_mut(|room| {
            room.clear();
            for row in x.values.chunks(x.stride.max(1)).take(rows) {
                room.extend(row[..width].iter().map(|&value| self.precision.round(value)));
            }
            self.multiply_as_is(isa, rows, Rows { values: room, stride: width }, y);
        });
    }

    fn multiply_as_is(&self, isa: Isa, rows: usize, x: Rows<'_>, y: &mut [f32]) {
        let forward = Forward {
            layout: self.layout,
            rows,
            x: x.values,
            x_stride: x.stride,
            weight: self.values,
            start: Start::Zero,
            activation: Activation::None,
            dropout: None,
            y,
            y_stride: self.layout.outputs,
        };
        forward.job(isa, Stores::Cached).dense();
    }
}
