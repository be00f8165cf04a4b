// SPDX-License-Identifier: MIT OR Apache-2.0
//! What units make of their sums in a step.

use super::base::{for_each_vector, load, store, Kernel, Vector};
use super::math;
use super::sequences::Timing;
use crate::op::Cell;
use std::ops::Range;

/// A step of a block of samples. Slices begin with the block's first sample.
pub(super) struct Step<'a> {
    pub(super) cell: Cell,
    pub(super) units: usize,
    pub(super) timing: &'a Timing,
    pub(super) time: usize,
    /// Those from the first to the last that take part.
    pub(super) rows: Range<usize>,
    /// Products of the inputs, `[samples][steps][sums]`.
    pub(super) x: &'a [f32],
    /// Products of the hidden states, `[samples][sums]`, and what is added to them.
    pub(super) products: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    /// The hidden state before the step, then that after it, `[samples][units]`.
    pub(super) hidden: &'a mut [f32],
    /// The cell state, of an LSTM.
    pub(super) cells: &'a mut [f32],
    /// The hidden state once more, `[samples][steps][units]`.
    pub(super) output: Option<&'a mut [f32]>,
    /// What backward needs, `[samples][steps][saved]`.
    pub(super) saved: Option<&'a mut [f32]>,
    /// Steps between samples.
    pub(super) steps: usize,
}

/// What one sample's units read and write.
struct Row<'a> {
    x: &'a [f32],
    products: &'a [f32],
    bias: Option<&'a [f32]>,
    hidden: &'a mut [f32],
    output: Option<&'a mut [f32]>,
    saved: Option<&'a mut [f32]>,
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let (units, sums) = (self.units, self.cell.gates() * self.units);
        let saved = self.cell.saved() * units;
        for row in self.rows.clone() {
            if !self.timing.is_in(row, self.time) {
                continue;
            }
            let step = row * self.steps + self.time;
            let each = Row {
                x: &self.x[step * sums..][..sums],
                products: &self.products[row * sums..][..sums],
                bias: self.bias.map(|bias| &bias[..sums]),
                hidden: &mut self.hidden[row * units..][..units],
                output: self.output.as_deref_mut().map(|all| &mut all[step * units..][..units]),
                saved: self.saved.as_deref_mut().map(|all| &mut all[step * saved..][..saved]),
            };
            // SAFETY: every slice has as many blocks of units as the cell reads and writes.
            unsafe {
                match self.cell {
                    Cell::Lstm => lstm::<V>(each, &mut self.cells[row * units..][..units]),
                    Cell::Gru => gru::<V>(each),
                    Cell::Tanh | Cell::Relu => elman::<V>(each, self.cell),
                }
            }
        }
    }
}

impl Row<'_> {
    /// The recurrent part of a block's sums.
    ///
    /// # Safety
    /// The block has `lanes` units from `at` on.
    #[inline(always)]
    unsafe fn recurrent<V: Vector>(&self, block: usize, at: usize, lanes: usize) -> V {
        let at = block * self.hidden.len() + at;
        // SAFETY: the caller's; a bias is as long as the products.
        unsafe {
            let product = load::<V>(self.products.as_ptr().add(at), lanes);
            match self.bias {
                Some(bias) => product.add(load::<V>(bias.as_ptr().add(at), lanes)),
                None => product,
            }
        }
    }

    /// The input's part of a block's sums.
    ///
    /// # Safety
    /// As [`Row::recurrent`].
    #[inline(always)]
    unsafe fn input<V: Vector>(&self, block: usize, at: usize, lanes: usize) -> V {
        // SAFETY: the caller's.
        unsafe { load::<V>(self.x.as_ptr().add(block * self.hidden.len() + at), lanes) }
    }

    /// A block's sums.
    ///
    /// # Safety
    /// As [`Row::recurrent`].
    #[inline(always)]
    unsafe fn sum<V: Vector>(&self, block: usize, at: usize, lanes: usize) -> V {
        // SAFETY: the caller's.
        unsafe { self.input::<V>(block, at, lanes).add(self.recurrent(block, at, lanes)) }
    }

    /// Saves a block's values, if anything is saved.
    ///
    /// # Safety
    /// As [`Row::recurrent`], for what is saved.
    #[inline(always)]
    unsafe fn save<V: Vector, const N: usize>(&mut self, at: usize, lanes: usize, values: [V; N]) {
        let units = self.hidden.len();
        if let Some(saved) = &mut self.saved {
            for (block, value) in values.into_iter().enumerate() {
                // SAFETY: the caller's.
                unsafe { store(value, saved.as_mut_ptr().add(block * units + at), lanes) };
            }
        }
    }

    /// The new hidden state.
    ///
    /// # Safety
    /// As [`Row::recurrent`].
    #[inline(always)]
    unsafe fn put<V: Vector>(&mut self, at: usize, lanes: usize, value: V) {
        // SAFETY: the caller's.
        unsafe {
            store(value, self.hidden.as_mut_ptr().add(at), lanes);
            if let Some(output) = &mut self.output {
                store(value, output.as_mut_ptr().add(at), lanes);
            }
        }
    }
}

/// # Safety
/// The row has four blocks of sums and five of saved values.
#[inline(always)]
unsafe fn lstm<V: Vector>(mut row: Row<'_>, cells: &mut [f32]) {
    for_each_vector!(V, cells.len(), |at, lanes| {
        // SAFETY: the caller's; `lanes` stops at the last unit.
        unsafe {
            let i = math::sigmoid(row.sum::<V>(0, at, lanes));
            let f = math::sigmoid(row.sum::<V>(1, at, lanes));
            let g = math::tanh(row.sum::<V>(2, at, lanes));
            let o = math::sigmoid(row.sum::<V>(3, at, lanes));
            let cell = load::<V>(cells.as_ptr().add(at), lanes);
            let cell = f.mul_add(cell, i.mul(g));
            store(cell, cells.as_mut_ptr().add(at), lanes);
            row.put(at, lanes, o.mul(math::tanh(cell)));
            row.save(at, lanes, [i, f, g, o, cell]);
        }
    });
}

/// # Safety
/// The row has three blocks of sums and four of saved values.
#[inline(always)]
unsafe fn gru<V: Vector>(mut row: Row<'_>) {
    for_each_vector!(V, row.hidden.len(), |at, lanes| {
        // SAFETY: the caller's; `lanes` stops at the last unit.
        unsafe {
            let r = math::sigmoid(row.sum::<V>(0, at, lanes));
            let z = math::sigmoid(row.sum::<V>(1, at, lanes));
            let h = row.recurrent::<V>(2, at, lanes);
            let n = math::tanh(r.mul_add(h, row.input(2, at, lanes)));
            let before = load::<V>(row.hidden.as_ptr().add(at), lanes);
            row.put(at, lanes, z.mul_add(before.sub(n), n));
            row.save(at, lanes, [r, z, n, h]);
        }
    });
}

/// # Safety
/// The row has one block of sums.
#[inline(always)]
unsafe fn elman<V: Vector>(mut row: Row<'_>, cell: Cell) {
    for_each_vector!(V, row.hidden.len(), |at, lanes| {
        // SAFETY: the caller's; `lanes` stops at the last unit.
        unsafe {
            let sum = row.sum::<V>(0, at, lanes);
            let value = match cell {
                Cell::Relu => V::splat(0.0).max(sum),
                _ => math::tanh(sum),
            };
            row.put(at, lanes, value);
        }
    });
}
