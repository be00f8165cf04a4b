// SPDX-License-Identifier: MIT OR Apache-2.0
//! Products of which a mask lets only some elements pass: only those are computed.
//!
//! Each is the dot product of a row and a column. Some vectors of a row stay in registers while the
//! columns of all elements that pass are taken, for a chunk of the sum's terms at a time. The lanes
//! of a group of rows are then added up while they are near.

use super::base::{on_line, Kernel, Vector, LINE};
use super::panels::PANEL;
use super::sparse::{Ahead, Before, Beside};
use std::cell::RefCell;

/// Rows whose sums are added up at a time: they, the columns and the rows stay in a first cache.
pub(super) const GROUP: usize = 16;

/// Rows whose totals are kept between chunks.
pub(super) const BLOCK: usize = 8 * GROUP;

/// Where the vectors of columns lie.
pub(super) trait Columns: Copy {
    /// Terms of a column from `term` on, which is a multiple of a vector's lanes.
    fn at(self, column: usize, term: usize) -> *const f32;
}

/// A chunk of the terms of some rows.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The first row's first term of the chunk.
    pub(super) start: *const f32,
    pub(super) stride: usize,
}

thread_local! {
    /// Grows to the largest product and stays.
    static ROOM: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// At most 32 columns of at most [`BLOCK`] rows: what passes, and the totals of that.
pub(super) struct Masked {
    /// Bit `c` of a row is set if its column `c` passes.
    pub(super) passing: [u32; BLOCK],
    /// Where a row's totals start; those of its columns that pass follow one another.
    starts: [u32; BLOCK],
    room: Vec<f32>,
    totals: *mut f32,
    /// A vector of sums for every element of a group that passes.
    sums: *mut f32,
    extra: *mut f32,
}

impl Masked {
    /// Takes this thread's room, with some extra for the caller.
    pub(super) fn take<V: Vector>(extra: usize) -> Self {
        let mut room = ROOM.take();
        let sums = GROUP * PANEL * V::LANES;
        // Whole vectors of totals are read, past the last one.
        let totals = BLOCK * PANEL + LINE;
        let needed = sums + totals + extra + LINE;
        if room.len() < needed {
            room.resize(needed, 0.0);
        }
        let start = on_line(room.as_mut_ptr());
        Masked {
            passing: [0; BLOCK],
            starts: [0; BLOCK],
            room,
            sums: start,
            totals: start.wrapping_add(sums),
            extra: start.wrapping_add(sums + totals),
        }
    }

    /// Gives the room back.
    pub(super) fn keep(self) {
        ROOM.set(self.room);
    }

    /// The caller's part of the room, on a cache line of its own.
    pub(super) fn extra(&self) -> *mut f32 {
        self.extra
    }

    /// Makes the totals of so many rows ready for what now passes of them.
    pub(super) fn start(&mut self, rows: usize) {
        for first in (0..rows).step_by(GROUP) {
            let mut start = first * PANEL;
            for row in first..(first + GROUP).min(rows) {
                self.starts[row] = start as u32;
                start += self.passing[row].count_ones() as usize;
            }
        }
    }

    /// Adds the products of a chunk of `HELD` vectors of terms to the totals of so many rows; those of
    /// chunk 0 replace what was there. Does a part of `ahead` at each row.
    ///
    /// # Safety
    /// [`Masked::start`] was called for these rows. They and those of their columns that pass are valid
    /// for reading so many terms.
    #[inline(always)]
    pub(super) unsafe fn add_chunk<V: Vector, const HELD: usize>(
        &mut self,
        rows: usize,
        chunk: usize,
        from: Rows,
        columns: impl Columns,
        ahead: &mut Ahead,
    ) {
        for first in (0..rows).step_by(GROUP) {
            let group = first..(first + GROUP).min(rows);
            let rows = Rows { start: from.start.wrapping_add(first * from.stride), ..from };
            let totals = self.totals.wrapping_add(first * PANEL);
            let passing = &self.passing[group];
            let before = if chunk == 0 { Before::Zero } else { Before::Sums };
            let sums = self.sums;
            let visit = Visit::<_, HELD> { rows, passing, columns, sums, totals, before, ahead };
            // SAFETY: the caller's; there is a vector of sums for each element of a group, and room
            // for a total of each and a vector beyond.
            unsafe { V::enter(visit) };
        }
    }

    /// The totals of a vector of columns of a row; 0 where nothing passes.
    #[inline(always)]
    pub(super) fn total<V: Vector>(&self, row: usize, column: usize) -> V {
        let bits = self.passing[row];
        let before = (bits & ((1 << column) - 1)).count_ones();
        // SAFETY: as many totals as pass follow, and there is room for a vector behind them all.
        let values = unsafe { V::load(self.totals.add((self.starts[row] + before) as usize)) };
        values.expand(bits >> column & (u32::MAX >> (32 - V::LANES)))
    }
}

/// A group of rows times the columns that pass.
struct Visit<'a, C, const HELD: usize> {
    rows: Rows,
    passing: &'a [u32],
    columns: C,
    sums: *mut f32,
    totals: *mut f32,
    before: Before,
    ahead: &'a mut Ahead,
}

impl<C: Columns, const HELD: usize> Kernel for Visit<'_, C, HELD> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's: all terms are valid, and there is a vector of sums for each bit.
        unsafe {
            let mut sums = self.sums;
            for (row, &bits) in self.passing.iter().enumerate() {
                self.ahead.visit::<V>();
                let from = self.rows.start.add(row * self.rows.stride);
                let held: [V; HELD] =
                    std::array::from_fn(|vector| V::load(from.add(vector * V::LANES)));
                let mut bits = bits;
                while bits != 0 {
                    let column = bits.trailing_zeros() as usize;
                    // Two short chains leave a processor more to do at a time than a long one.
                    let mut halves = [V::splat(0.0); 2];
                    for vector in 0..HELD {
                        let factor = V::load(self.columns.at(column, vector * V::LANES));
                        let half = &mut halves[vector % 2];
                        *half = held[vector].mul_add(factor, *half);
                    }
                    halves[0].add(halves[1]).store(sums);
                    sums = sums.add(V::LANES);
                    bits &= bits - 1;
                }
            }
            let count: u32 = self.passing.iter().map(|bits| bits.count_ones()).sum();
            for at in (0..count as usize).step_by(V::LANES) {
                let mut total = V::sum_each(self.sums.add(at * V::LANES));
                let to = self.totals.add(at);
                if self.before == Before::Sums {
                    total = total.add(V::load(to));
                }
                total.store(to);
            }
        }
    }
}
