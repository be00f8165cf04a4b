// SPDX-License-Identifier: MIT OR Apache-2.0
//! The walk back from each sequence's end to its beginning.

use super::base::{dispatch, Isa, SharedSlice};
use super::forward::{begin, clear_padding};
use super::sequences::{with_scratch, Sequences, Timing};
use super::slopes::StepBack;
use super::weights::{with_panels, Panels, Rows, Use, Weights};
use super::{split, PanelLayout, Pool};
use crate::op::Cell;
use crate::Precision;
use std::ops::Range;

/// The gradient of a recurrent layer's pass, as [`Recurrent`](crate::op::Recurrent) means it.
#[derive(Debug)]
pub(crate) struct RecurrentBackward<'a> {
    pub(crate) sequences: Sequences<'a>,
    /// What both factors of products are rounded to.
    pub(crate) factors: Precision,
    /// `[sums, state]`.
    pub(crate) weight: Weights<'a>,
    /// `[state, units]`.
    pub(crate) projection: Option<Weights<'a>>,
    /// Hidden and cell states before the first step.
    pub(crate) initial: [Option<&'a [f32]>; 2],
    /// What the forward pass yielded: hidden states after each step, and what it saved.
    pub(crate) output: &'a [f32],
    pub(crate) saved: &'a [f32],
    /// Gradients of hidden states after each step, of the last hidden and of the last cell states.
    pub(crate) upstream: [Option<&'a [f32]>; 3],
    /// Results, as the operation has them.
    pub(crate) slopes: Slopes<&'a mut [f32]>,
}

/// The results, where they are wanted.
#[derive(Debug)]
pub(crate) struct Slopes<T> {
    pub(crate) projected: T,
    pub(crate) previous: Option<T>,
    pub(crate) hidden: Option<T>,
    pub(crate) cell: Option<T>,
    /// Of a GRU.
    pub(crate) recurrent: Option<T>,
    /// With a projection, as what follows.
    pub(crate) output: Option<T>,
    pub(crate) unprojected: Option<T>,
}

impl<T> Slopes<T> {
    fn map<U>(self, to: impl Fn(T) -> U) -> Slopes<U> {
        Slopes {
            projected: to(self.projected),
            previous: self.previous.map(&to),
            hidden: self.hidden.map(&to),
            cell: self.cell.map(&to),
            recurrent: self.recurrent.map(&to),
            output: self.output.map(&to),
            unprojected: self.unprojected.map(&to),
        }
    }
}

impl RecurrentBackward<'_> {
    /// Computes it with all threads of the pool.
    ///
    /// # Panics
    /// If a slice has another length.
    pub(crate) fn run(self, pool: &Pool, isa: Isa) {
        let of = self.sequences;
        let rows = of.samples * of.steps;
        assert_eq!(self.slopes.projected.len(), rows * of.sums(), "gradients of products");
        assert_eq!(self.output.len(), rows * of.state, "hidden states");
        assert_eq!(self.saved.len(), rows * of.saved(), "what was saved");
        assert!(of.lengths.is_none_or(|lengths| lengths.len() == of.samples), "lengths");
        assert!(self.projection.is_some() || of.units == of.state, "a hidden state is the units'");
        let layout = PanelLayout { outputs: of.sums(), inputs: of.state };
        let projection =
            self.projection.map(|w| (PanelLayout { outputs: of.state, inputs: of.units }, w));
        with_panels(
            (pool, isa),
            (Use::Turned, self.factors),
            (layout, self.weight),
            projection,
            |weight, projection| {
                let given = Given {
                    initial: self.initial,
                    output: self.output,
                    saved: self.saved,
                    upstream: self.upstream,
                };
                let slopes = self.slopes.map(SharedSlice::new);
                let shared = Shared { of, isa, weight, projection, given, slopes };
                pool.run(&|index| {
                    for block in of.blocks(split(of.samples, pool.threads(), index)) {
                        // SAFETY: each sample is one thread's.
                        unsafe { shared.block(block) };
                    }
                });
            },
        );
    }
}

/// What blocks only read.
struct Given<'a> {
    initial: [Option<&'a [f32]>; 2],
    output: &'a [f32],
    saved: &'a [f32],
    upstream: [Option<&'a [f32]>; 3],
}

struct Shared<'a> {
    of: Sequences<'a>,
    isa: Isa,
    /// Turned, both.
    weight: Panels<'a>,
    projection: Option<Panels<'a>>,
    given: Given<'a>,
    slopes: Slopes<SharedSlice<'a, f32>>,
}

impl<'a> Shared<'a> {
    /// Takes a block of samples back through time.
    ///
    /// # Safety
    /// No other call has any of the samples at the same time.
    unsafe fn block(&self, block: Range<usize>) {
        let Sequences { steps, units, state, cell, .. } = self.of;
        let (sums, rows) = (self.of.sums(), block.len());
        let timing = self.of.timing(block.clone());
        let of_steps = |width: usize| block.start * steps * width..block.end * steps * width;
        let of_samples = |width: usize| block.start * width..block.end * width;
        // SAFETY: the caller's, for all results.
        let slopes = unsafe { self.part(&block) };
        let Slopes { projected: dx, previous, hidden, cell: of_cell, .. } = slopes;
        let (mut recurrent, mut total) = (slopes.recurrent, slopes.output);
        let mut unprojected = slopes.unprojected;
        let output = &self.given.output[of_steps(state)];
        let saved = &self.given.saved[of_steps(self.of.saved())];
        let initial_hidden = self.given.initial[0].map(|all| &all[of_samples(state)]);
        let initial_cell = self.given.initial[1].map(|all| &all[of_samples(units)]);
        let dy = self.given.upstream[0].map(|all| &all[of_steps(state)]);
        clear_padding(dx, sums, steps, timing.lengths());
        for (all, width) in [(&mut recurrent, sums), (&mut total, state), (&mut unprojected, units)]
        {
            if let Some(all) = all {
                clear_padding(all, width, steps, timing.lengths());
            }
        }
        if let Some(previous) = previous {
            write_previous(previous, output, initial_hidden, (state, steps), &timing);
        }
        let of_projection = |count| if self.projection.is_some() { count } else { 0 };
        let of_gru = if cell == Cell::Gru { rows * sums } else { 0 };
        let room = [
            rows * state,
            rows * units,
            rows * state,
            of_gru,
            of_projection(rows * state),
            of_projection(rows * units),
        ];
        with_scratch(room, |[dh, dc, brought, now, totals, made]| {
            begin(dh, self.given.upstream[1], of_samples(state));
            begin(dc, self.given.upstream[2], of_samples(units));
            for count in (0..timing.longest()).rev() {
                let time = timing.time(count);
                let rows = timing.range(time);
                let active =
                    |rows: &Range<usize>| rows.clone().filter(|&row| timing.is_in(row, time));
                if let Some(projection) = &self.projection {
                    for row in active(&rows) {
                        let of_row = row * state..(row + 1) * state;
                        let sum = &mut totals[of_row.clone()];
                        sum.copy_from_slice(&dh[of_row.clone()]);
                        dh[of_row].fill(0.0);
                        let step = (row * steps + time) * state;
                        if let Some(dy) = dy {
                            sum.iter_mut().zip(&dy[step..]).for_each(|(sum, dy)| *sum += dy);
                        }
                        if let Some(total) = &mut total {
                            total[step..][..state].copy_from_slice(sum);
                        }
                    }
                    let x = Rows { values: &totals[rows.start * state..], stride: state };
                    let y = &mut made[rows.start * units..rows.end * units];
                    projection.multiply(self.isa, rows.len(), x, y);
                }
                let is_projected = self.projection.is_some();
                let step = StepBack {
                    cell,
                    units,
                    timing: &timing,
                    time,
                    rows: rows.clone(),
                    steps,
                    saved,
                    output,
                    initial: if cell == Cell::Lstm { initial_cell } else { initial_hidden },
                    dy: dy.filter(|_| !is_projected),
                    dh: if is_projected { &mut *made } else { &mut *dh },
                    dc,
                    dx,
                    recurrent: now,
                };
                // SAFETY: it checks its slices row by row.
                unsafe { dispatch(self.isa, step) };
                for row in active(&rows) {
                    let step = row * steps + time;
                    if let Some(recurrent) = &mut recurrent {
                        recurrent[step * sums..][..sums]
                            .copy_from_slice(&now[row * sums..][..sums]);
                    }
                    if let Some(unprojected) = &mut unprojected {
                        let saved = &saved[step * self.of.saved()..][3 * units..5 * units];
                        let (o, c) = saved.split_at(units);
                        let to = &mut unprojected[step * units..][..units];
                        for ((to, o), c) in to.iter_mut().zip(o).zip(c) {
                            *to = o * c.tanh();
                        }
                    }
                }
                if count == 0 && hidden.is_none() {
                    continue; // nobody asks for what comes before the first step
                }
                let x = match cell {
                    Cell::Gru => Rows { values: &now[rows.start * sums..], stride: sums },
                    _ => Rows {
                        values: &dx[(rows.start * steps + time) * sums..],
                        stride: steps * sums,
                    },
                };
                let y = &mut brought[rows.start * state..rows.end * state];
                self.weight.multiply(self.isa, rows.len(), x, y);
                for row in active(&rows) {
                    let of_row = row * state..(row + 1) * state;
                    let sum = dh[of_row.clone()].iter_mut();
                    sum.zip(&brought[of_row]).for_each(|(sum, brought)| *sum += brought);
                }
            }
            for (slope, now) in [(hidden, dh), (of_cell, dc)] {
                if let Some(slope) = slope {
                    slope.copy_from_slice(now);
                }
            }
        });
    }

    /// The results of some samples.
    ///
    /// # Safety
    /// As [`Shared::block`].
    unsafe fn part(&self, block: &Range<usize>) -> Slopes<&'a mut [f32]> {
        let Sequences { steps, units, state, .. } = self.of;
        let sums = self.of.sums();
        let part = |all: &SharedSlice<'a, f32>, width: usize| {
            // SAFETY: the caller's.
            unsafe { all.part(block.start * width..block.end * width) }
        };
        let optional =
            |all: &Option<SharedSlice<'a, f32>>, width| all.as_ref().map(|all| part(all, width));
        Slopes {
            projected: part(&self.slopes.projected, steps * sums),
            previous: optional(&self.slopes.previous, steps * state),
            hidden: optional(&self.slopes.hidden, state),
            cell: optional(&self.slopes.cell, units),
            recurrent: optional(&self.slopes.recurrent, steps * sums),
            output: optional(&self.slopes.output, steps * state),
            unprojected: optional(&self.slopes.unprojected, steps * units),
        }
    }
}

/// The hidden state before each step: that after the step before, or the initial one.
fn write_previous(
    previous: &mut [f32],
    output: &[f32],
    initial: Option<&[f32]>,
    (state, steps): (usize, usize),
    timing: &Timing,
) {
    clear_padding(previous, state, steps, timing.lengths());
    for (row, &length) in timing.lengths().iter().enumerate() {
        for time in 0..length {
            let to = &mut previous[(row * steps + time) * state..][..state];
            match (timing.before(row, time), initial) {
                (Some(before), _) => {
                    to.copy_from_slice(&output[(row * steps + before) * state..][..state]);
                }
                (None, Some(initial)) => to.copy_from_slice(&initial[row * state..][..state]),
                (None, None) => to.fill(0.0),
            }
        }
    }
}
