// SPDX-License-Identifier: MIT OR Apache-2.0
//! The walk from each sequence's beginning to its end.

use super::base::{dispatch, Isa, SharedSlice};
use super::sequences::{with_scratch, Sequences};
use super::units::Step;
use super::weights::{with_panels, Panels, Rows, Use, Weights};
use super::{split, PanelLayout, Pool};
use crate::Precision;
use std::ops::Range;

/// A recurrent layer's pass over sequences, as [`Recurrent`](crate::op::Recurrent) means it.
#[derive(Debug)]
pub(crate) struct RecurrentForward<'a> {
    pub(crate) sequences: Sequences<'a>,
    /// What both factors of products are rounded to.
    pub(crate) factors: Precision,
    /// Products of inputs and input weights, `[samples, steps, sums]`.
    pub(crate) projected: &'a [f32],
    /// `[sums, state]`.
    pub(crate) weight: Weights<'a>,
    /// At least as many as sums.
    pub(crate) bias: Option<&'a [f32]>,
    /// `[state, units]`.
    pub(crate) projection: Option<Weights<'a>>,
    /// Hidden and cell states before the first step, `[samples, state]` and `[samples, units]`.
    pub(crate) initial: [Option<&'a [f32]>; 2],
    /// Hidden states after each step, `[samples, steps, state]`.
    pub(crate) output: &'a mut [f32],
    /// Those after the last, where they are wanted, and cell states likewise.
    pub(crate) last: [Option<&'a mut [f32]>; 2],
    /// What backward needs, where it is wanted.
    pub(crate) saved: Option<&'a mut [f32]>,
}

impl RecurrentForward<'_> {
    /// Computes it with all threads of the pool.
    ///
    /// # Panics
    /// If a slice has another length.
    pub(crate) fn run(self, pool: &Pool, isa: Isa) {
        let of = self.sequences;
        let rows = of.samples * of.steps;
        assert_eq!(self.projected.len(), rows * of.sums(), "products of inputs");
        assert_eq!(self.output.len(), rows * of.state, "hidden states");
        assert!(self.saved.as_ref().is_none_or(|all| all.len() == rows * of.saved()), "saved");
        assert!(of.lengths.is_none_or(|lengths| lengths.len() == of.samples), "lengths");
        assert!(self.bias.is_none_or(|bias| bias.len() >= of.sums()), "biases");
        assert!(self.projection.is_some() || of.units == of.state, "a hidden state is the units'");
        let layout = PanelLayout { outputs: of.sums(), inputs: of.state };
        let projection =
            self.projection.map(|w| (PanelLayout { outputs: of.state, inputs: of.units }, w));
        with_panels(
            (pool, isa),
            (Use::AsIs, self.factors),
            (layout, self.weight),
            projection,
            |weight, projection| {
                let shared = Shared {
                    of,
                    isa,
                    weight,
                    projection,
                    output: SharedSlice::new(self.output),
                    last: self.last.map(|last| last.map(SharedSlice::new)),
                    saved: self.saved.map(SharedSlice::new),
                };
                let given =
                    Given { projected: self.projected, bias: self.bias, initial: self.initial };
                pool.run(&|index| {
                    for block in of.blocks(split(of.samples, pool.threads(), index)) {
                        // SAFETY: each sample is one thread's.
                        unsafe { shared.block(block, &given) };
                    }
                });
            },
        );
    }
}

/// What all blocks only read.
struct Given<'a> {
    projected: &'a [f32],
    bias: Option<&'a [f32]>,
    initial: [Option<&'a [f32]>; 2],
}

struct Shared<'a> {
    of: Sequences<'a>,
    isa: Isa,
    weight: Panels<'a>,
    projection: Option<Panels<'a>>,
    output: SharedSlice<'a, f32>,
    last: [Option<SharedSlice<'a, f32>>; 2],
    saved: Option<SharedSlice<'a, f32>>,
}

impl Shared<'_> {
    /// Takes a block of samples through time.
    ///
    /// # Safety
    /// No other call has any of the samples at the same time.
    unsafe fn block(&self, block: Range<usize>, given: &Given<'_>) {
        let Sequences { steps, units, state, .. } = self.of;
        let (sums, saved_width, rows) = (self.of.sums(), self.of.saved(), block.len());
        let timing = self.of.timing(block.clone());
        let of_steps = |width: usize| block.start * steps * width..block.end * steps * width;
        let of_samples = |width: usize| block.start * width..block.end * width;
        let x = &given.projected[of_steps(sums)];
        // SAFETY: the caller's, for all results.
        let (output, mut saved, [last_hidden, last_cell]) = unsafe {
            let last = [(&self.last[0], state), (&self.last[1], units)];
            (
                self.output.part(of_steps(state)),
                self.saved.as_ref().map(|all| all.part(of_steps(saved_width))),
                last.map(|(all, width)| all.as_ref().map(|all| all.part(of_samples(width)))),
            )
        };
        clear_padding(output, state, steps, timing.lengths());
        if let Some(saved) = &mut saved {
            clear_padding(saved, saved_width, steps, timing.lengths());
        }
        let projected_units = if self.projection.is_some() { rows * units } else { 0 };
        let projected_states = if self.projection.is_some() { rows * state } else { 0 };
        let room = [rows * sums, rows * state, rows * units, projected_units, projected_states];
        with_scratch(room, |[products, hidden, cells, made, states]| {
            begin(hidden, given.initial[0], of_samples(state));
            begin(cells, given.initial[1], of_samples(units));
            for count in 0..timing.longest() {
                let time = timing.time(count);
                let rows = timing.range(time);
                let sums_of_rows = rows.start * sums..rows.end * sums;
                if count == 0 && given.initial[0].is_none() {
                    products[sums_of_rows].fill(0.0); // states are still zeros
                } else {
                    let x = Rows { values: &hidden[rows.start * state..], stride: state };
                    self.weight.multiply(self.isa, rows.len(), x, &mut products[sums_of_rows]);
                }
                let is_projected = self.projection.is_some();
                let step = Step {
                    cell: self.of.cell,
                    units,
                    timing: &timing,
                    time,
                    rows: rows.clone(),
                    x,
                    products,
                    bias: given.bias,
                    hidden: if is_projected { &mut *made } else { &mut *hidden },
                    cells,
                    output: (!is_projected).then_some(&mut *output),
                    saved: saved.as_deref_mut(),
                    steps,
                };
                // SAFETY: it checks its slices row by row.
                unsafe { dispatch(self.isa, step) };
                if let Some(projection) = &self.projection {
                    let x = Rows { values: &made[rows.start * units..], stride: units };
                    let y = &mut states[rows.start * state..rows.end * state];
                    projection.multiply(self.isa, rows.len(), x, y);
                    for row in rows.filter(|&row| timing.is_in(row, time)) {
                        let new = &states[row * state..][..state];
                        hidden[row * state..][..state].copy_from_slice(new);
                        output[(row * steps + time) * state..][..state].copy_from_slice(new);
                    }
                }
            }
            for (last, now) in [(last_hidden, hidden), (last_cell, cells)] {
                if let Some(last) = last {
                    last.copy_from_slice(now);
                }
            }
        });
    }
}

/// States before the first step.
pub(super) fn begin(state: &mut [f32], initial: Option<&[f32]>, range: Range<usize>) {
    match initial {
        Some(initial) => state.copy_from_slice(&initial[range]),
        None => state.fill(0.0),
    }
}

/// Zeros past the end of each sample's sequence, in rows of `width` per step.
pub(super) fn clear_padding(values: &mut [f32], width: usize, steps: usize, lengths: &[usize]) {
    for (row, &length) in lengths.iter().enumerate() {
        values[(row * steps + length) * width..(row + 1) * steps * width].fill(0.0);
    }
}
