// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradients of units in a step.

use super::base::{for_each_vector, load, store, Kernel, Vector};
use super::math;
use super::sequences::Timing;
use crate::op::Cell;
use std::ops::Range;

/// A step of a block of samples, backwards. Slices begin with the block's first sample.
pub(super) struct StepBack<'a> {
    pub(super) cell: Cell,
    pub(super) units: usize,
    pub(super) timing: &'a Timing,
    pub(super) time: usize,
    /// Those from the first to the last that take part.
    pub(super) rows: Range<usize>,
    /// Steps between samples.
    pub(super) steps: usize,
    /// What was saved, `[samples][steps][saved]`.
    pub(super) saved: &'a [f32],
    /// Hidden states after each step, `[samples][steps][units]`; an LSTM does without.
    pub(super) output: &'a [f32],
    /// Before the first step the cell states of an LSTM, the hidden states of a GRU, `[samples][units]`.
    pub(super) initial: Option<&'a [f32]>,
    /// Gradients of the hidden states, `[samples][steps][units]`, if they have any of their own.
    pub(super) dy: Option<&'a [f32]>,
    /// The gradient that the next step brought; then that which this step's units pass on past their
    /// sums, `[samples][units]`.
    pub(super) dh: &'a mut [f32],
    /// The gradient of the cell state after the step, then of that before it.
    pub(super) dc: &'a mut [f32],
    /// Gradients of the inputs' products, `[samples][steps][sums]`.
    pub(super) dx: &'a mut [f32],
    /// Those of the recurrent products of this step, of a GRU, `[samples][sums]`.
    pub(super) recurrent: &'a mut [f32],
}

/// What one sample's units read and write.
struct Row<'a> {
    saved: &'a [f32],
    dy: Option<&'a [f32]>,
    dh: &'a mut [f32],
    dx: &'a mut [f32],
}

impl Kernel for StepBack<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (units, sums) = (self.units, self.cell.gates() * self.units);
        let saved = self.cell.saved() * units;
        for row in self.rows.clone() {
            if !self.timing.is_in(row, self.time) {
                continue;
            }
            let step = row * self.steps + self.time;
            let each = Row {
                saved: &self.saved[step * saved..][..saved],
                dy: self.dy.map(|all| &all[step * units..][..units]),
                dh: &mut self.dh[row * units..][..units],
                dx: &mut self.dx[step * sums..][..sums],
            };
            let step_before =
                self.timing.before(row, self.time).map(|time| row * self.steps + time);
            let initial = self.initial.map(|all| &all[row * units..][..units]);
            let y = match self.cell {
                Cell::Lstm => &[], // whose projected states have another width
                _ => &self.output[step * units..][..units],
            };
            // SAFETY: every slice has as many blocks of units as the cell reads and writes.
            unsafe {
                match self.cell {
                    Cell::Lstm => {
                        let of_step = |step| &self.saved[step * saved + 4 * units..][..units];
                        let before = step_before.map(of_step).or(initial);
                        lstm::<V>(each, before, &mut self.dc[row * units..][..units]);
                    }
                    Cell::Gru => {
                        let before = step_before.map(|step| &self.output[step * units..][..units]);
                        let recurrent = &mut self.recurrent[row * sums..][..sums];
                        gru::<V>(each, before.or(initial), recurrent);
                    }
                    Cell::Tanh => elman::<V>(each, y, |y, dy| {
                        let one = V::splat(1.0);
                        dy.mul(one.sub(y).mul(one.add(y)))
                    }),
                    Cell::Relu => elman::<V>(each, y, |y, dy| {
                        let zero = V::splat(0.0);
                        V::select(y.differs(zero), dy, zero)
                    }),
                }
            }
        }
    }
}

impl Row<'_> {
    /// The gradient of the hidden state after the step.
    ///
    /// # Safety
    /// There are `lanes` units from `at` on.
    #[inline(always)]
    unsafe fn gradient<V: Vector>(&self, at: usize, lanes: usize) -> V {
        // SAFETY: the caller's; both slices are as long as there are units.
        unsafe {
            let dh = load::<V>(self.dh.as_ptr().add(at), lanes);
            match self.dy {
                Some(dy) => dh.add(load(dy.as_ptr().add(at), lanes)),
                None => dh,
            }
        }
    }

    /// A saved value.
    ///
    /// # Safety
    /// As [`Row::gradient`], for the block.
    #[inline(always)]
    unsafe fn saved<V: Vector>(&self, block: usize, at: usize, lanes: usize) -> V {
        // SAFETY: the caller's.
        unsafe { load(self.saved.as_ptr().add(block * self.dh.len() + at), lanes) }
    }

    /// Gradients of the sums, and what is passed on past them.
    ///
    /// # Safety
    /// As [`Row::gradient`], for as many blocks.
    #[inline(always)]
    unsafe fn put<V: Vector, const N: usize>(
        &mut self,
        at: usize,
        lanes: usize,
        sums: [V; N],
        passed: V,
    ) {
        let units = self.dh.len();
        // SAFETY: the caller's.
        unsafe {
            for (block, value) in sums.into_iter().enumerate() {
                store(value, self.dx.as_mut_ptr().add(block * units + at), lanes);
            }
            store(passed, self.dh.as_mut_ptr().add(at), lanes);
        }
    }
}

/// # Safety
/// The row has four blocks of sums and five of saved values.
#[inline(always)]
unsafe fn lstm<V: Vector>(mut row: Row<'_>, before: Option<&[f32]>, dc: &mut [f32]) {
    let one = V::splat(1.0);
    for_each_vector!(V, dc.len(), |at, lanes| {
        // SAFETY: the caller's; `lanes` stops at the last unit.
        unsafe {
            let dy = row.gradient::<V>(at, lanes);
            let (i, f) = (row.saved::<V>(0, at, lanes), row.saved::<V>(1, at, lanes));
            let (g, o) = (row.saved::<V>(2, at, lanes), row.saved::<V>(3, at, lanes));
            let c = row.saved::<V>(4, at, lanes);
            let reached = math::tanh(c);
            let before = or_zero::<V>(before, at, lanes);
            let through = dy.mul(o).mul(one.sub(reached).mul(one.add(reached)));
            let dc_after = load::<V>(dc.as_ptr().add(at), lanes).add(through);
            let di = dc_after.mul(g).mul(i.mul(one.sub(i)));
            let df = dc_after.mul(before).mul(f.mul(one.sub(f)));
            let dg = dc_after.mul(i).mul(one.sub(g).mul(one.add(g)));
            let d_o = dy.mul(reached).mul(o.mul(one.sub(o)));
            store(dc_after.mul(f), dc.as_mut_ptr().add(at), lanes);
            row.put(at, lanes, [di, df, dg, d_o], V::splat(0.0));
        }
    });
}

/// # Safety
/// The row has three blocks of sums and four of saved values.
#[inline(always)]
unsafe fn gru<V: Vector>(mut row: Row<'_>, before: Option<&[f32]>, recurrent: &mut [f32]) {
    let one = V::splat(1.0);
    let units = row.dh.len();
    for_each_vector!(V, units, |at, lanes| {
        // SAFETY: the caller's; `lanes` stops at the last unit.
        unsafe {
            let dy = row.gradient::<V>(at, lanes);
            let (r, z) = (row.saved::<V>(0, at, lanes), row.saved::<V>(1, at, lanes));
            let (n, h) = (row.saved::<V>(2, at, lanes), row.saved::<V>(3, at, lanes));
            let before = or_zero::<V>(before, at, lanes);
            let dn = dy.mul(one.sub(z)).mul(one.sub(n).mul(one.add(n)));
            let dr = dn.mul(h).mul(r.mul(one.sub(r)));
            let dz = dy.mul(before.sub(n)).mul(z.mul(one.sub(z)));
            for (block, value) in [dr, dz, dn.mul(r)].into_iter().enumerate() {
                store(value, recurrent.as_mut_ptr().add(block * units + at), lanes);
            }
            row.put(at, lanes, [dr, dz, dn], dy.mul(z));
        }
    });
}

/// States before a step, zeros if there are none.
///
/// # Safety
/// The states are as many as units, and there are `lanes` units from `at` on.
#[inline(always)]
unsafe fn or_zero<V: Vector>(states: Option<&[f32]>, at: usize, lanes: usize) -> V {
    match states {
        // SAFETY: the caller's.
        Some(states) => unsafe { load(states.as_ptr().add(at), lanes) },
        None => V::splat(0.0),
    }
}

/// # Safety
/// The row and `y` have one block of sums.
#[inline(always)]
unsafe fn elman<V: Vector>(mut row: Row<'_>, y: &[f32], slope: impl Fn(V, V) -> V) {
    for_each_vector!(V, row.dh.len(), |at, lanes| {
        // SAFETY: the caller's; `lanes` stops at the last unit.
        unsafe {
            let y = load::<V>(y.as_ptr().add(at), lanes);
            let dy = row.gradient::<V>(at, lanes);
            row.put(at, lanes, [slope(y, dy)], V::splat(0.0));
        }
    });
}
