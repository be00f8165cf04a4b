// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boxes of elements copied by strides.

use std::ops::Range;

use super::base::SharedSlice;
use super::{split, Pool};
use crate::kernel::{Piece, Stretch};

/// Elements of a row that are copied in one go; longer rows are divided among threads.
const PART: usize = 4096;

/// Rows and columns of a block that is turned: whole cache lines on either side.
const BLOCK: usize = 16;

/// Rows of fewer elements are not worth a call.
const SHORT: usize = 16;

/// Copies each piece of `inputs` to its place in `y`. The pieces fill `y`, each element once.
///
/// # Panics
/// If a piece reaches past its input or `y`.
pub(crate) fn copy(pool: &Pool, pieces: &[Piece], inputs: &[&[f32]], y: &mut [f32]) {
    let y = SharedSlice::new(y);
    let works: Vec<Work<'_>> =
        pieces.iter().map(|piece| Work::new(piece, inputs, y.len())).collect();
    let total = works.iter().map(Work::units).sum::<usize>();
    pool.run(&|index| {
        let own = split(total, pool.threads(), index);
        let mut first = 0;
        for work in &works {
            let end = first + work.units();
            let units = own.start.max(first)..own.end.min(end);
            if !units.is_empty() {
                // SAFETY: no two pieces have an element of `y` in common, and the units of a piece,
                // which have none in common either, are each one thread's alone.
                unsafe { work.run(units.start - first..units.end - first, &y) };
            }
            first = end;
        }
    });
}

/// How the elements of a piece are walked.
struct Work<'a> {
    /// `None` for zeros.
    x: Option<&'a [f32]>,
    start: Place,
    /// The extents that are walked step by step, outermost first.
    outer: Vec<Stretch>,
    way: Way,
    /// Parts in which the rest is walked.
    parts: usize,
}

/// The rest of the walk.
enum Way {
    /// Along one extent.
    Row(Stretch),
    /// Columns, which neighbour in the input, become rows, whose elements neighbour in the result.
    Turned { columns: Stretch, rows: Stretch },
}

/// Where an element comes from and goes to.
#[derive(Clone, Copy)]
struct Place {
    from: usize,
    to: usize,
}

impl Place {
    fn after(self, steps: usize, stretch: Stretch) -> Place {
        Place { from: self.from + steps * stretch.from, to: self.to + steps * stretch.to }
    }
}

impl<'a> Work<'a> {
    fn new(piece: &Piece, inputs: &[&'a [f32]], length: usize) -> Self {
        let start = Place { from: piece.from, to: piece.to };
        let last = piece.extents.iter().fold(start, |at, s| at.after(s.extent - 1, *s));
        let x = piece.input.map(|input| inputs[input]);
        assert!(last.to < length && x.is_none_or(|x| last.from < x.len()), "a piece of tensors");
        let mut outer = piece.extents.clone();
        let row = outer.pop().unwrap_or(Stretch { extent: 1, from: 1, to: 1 });
        let turned = outer.iter().position(|stretch| stretch.from == 1);
        let way = match turned {
            Some(place) if x.is_some() && row.to == 1 && row.from > 1 => {
                Way::Turned { columns: outer.remove(place), rows: row }
            }
            _ => Way::Row(row),
        };
        let parts = match way {
            Way::Row(row) => row.extent.div_ceil(PART),
            Way::Turned { columns, .. } => columns.extent.div_ceil(BLOCK),
        };
        Work { x, start, outer, way, parts }
    }

    fn units(&self) -> usize {
        self.parts * self.outer.iter().map(|stretch| stretch.extent).product::<usize>()
    }

    /// # Safety
    /// No other access to the elements of `y` in these units exists.
    unsafe fn run(&self, units: Range<usize>, y: &SharedSlice<'_, f32>) {
        let mut part = units.start % self.parts;
        let mut walk = Walk::new(self, units.start / self.parts);
        for _ in units {
            // SAFETY: by the caller.
            unsafe {
                match self.way {
                    Way::Row(row) => self.row(row, part, walk.at, y),
                    Way::Turned { columns, rows } => self.turn(columns, rows, part, walk.at, y),
                }
            }
            part += 1;
            if part == self.parts {
                part = 0;
                walk.step();
            }
        }
    }

    /// # Safety
    /// No other access to the elements of `y` in this part of the row exists.
    #[inline]
    unsafe fn row(&self, row: Stretch, part: usize, at: Place, y: &SharedSlice<'_, f32>) {
        let at = at.after(part * PART, row);
        let count = PART.min(row.extent - part * PART);
        if row.to != 1 {
            for index in 0..count {
                let Place { from, to } = at.after(index, row);
                // SAFETY: by the caller; the element is one of the part.
                let y = unsafe { y.part(to..to + 1) };
                y[0] = self.x.map_or(0.0, |x| x[from]);
            }
            return;
        }
        // SAFETY: by the caller; neighbours in the result are the part.
        let y = unsafe { y.part(at.to..at.to + count) };
        match (self.x, row.from) {
            (None, _) => y.fill(0.0),
            (Some(x), 0) => y.fill(x[at.from]),
            (Some(x), 1) if count < SHORT => {
                y.iter_mut().zip(&x[at.from..at.from + count]).for_each(|(y, x)| *y = *x);
            }
            (Some(x), 1) => y.copy_from_slice(&x[at.from..at.from + count]),
            (Some(x), step) => {
                let values = x[at.from..].iter().step_by(step);
                y.iter_mut().zip(values).for_each(|(y, x)| *y = *x);
            }
        }
    }

    /// # Safety
    /// No other access to the elements of `y` in this part of the columns exists.
    unsafe fn turn(
        &self,
        columns: Stretch,
        rows: Stretch,
        part: usize,
        at: Place,
        y: &SharedSlice<'_, f32>,
    ) {
        let Some(x) = self.x else { return };
        let at = at.after(part * BLOCK, columns);
        let width = BLOCK.min(columns.extent - part * BLOCK);
        for top in (0..rows.extent).step_by(BLOCK) {
            let height = BLOCK.min(rows.extent - top);
            let at = at.after(top, rows);
            for column in 0..width {
                let Place { from, to } = at.after(column, columns);
                // SAFETY: by the caller; these are elements of one of the part's columns.
                let y = unsafe { y.part(to..to + height) };
                let values = x[from..].iter().step_by(rows.from);
                y.iter_mut().zip(values).for_each(|(y, x)| *y = *x);
            }
        }
    }
}

/// A way through the outer extents.
struct Walk<'w> {
    outer: &'w [Stretch],
    steps: Vec<usize>,
    at: Place,
}

impl<'w> Walk<'w> {
    /// Begins where `number` steps lead.
    fn new(work: &'w Work<'_>, number: usize) -> Self {
        let mut walk =
            Walk { outer: &work.outer, steps: vec![0; work.outer.len()], at: work.start };
        let mut rest = number;
        for (steps, stretch) in walk.steps.iter_mut().zip(walk.outer).rev() {
            *steps = rest % stretch.extent;
            rest /= stretch.extent;
            walk.at = walk.at.after(*steps, *stretch);
        }
        walk
    }

    #[inline]
    fn step(&mut self) {
        for (steps, stretch) in self.steps.iter_mut().zip(self.outer).rev() {
            *steps += 1;
            if *steps < stretch.extent {
                self.at = self.at.after(1, *stretch);
                return;
            }
            // Back to the beginning of this extent.
            *steps = 0;
            self.at.from -= (stretch.extent - 1) * stretch.from;
            self.at.to -= (stretch.extent - 1) * stretch.to;
        }
    }
}
