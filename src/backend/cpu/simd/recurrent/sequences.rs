// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a batch of sequences is, and who takes part in which step.

use super::base::LINE;
use crate::op::{Cell, Direction};
use std::cell::RefCell;
use std::ops::Range;

/// Samples that a thread takes through time together, a multiple of the rows of every register tile:
/// the sums of 48 samples of 256 LSTM units are 192 KiB.
const BLOCK: usize = 48;

/// A batch of sequences in a recurrent layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequences<'a> {
    pub(crate) cell: Cell,
    pub(crate) direction: Direction,
    pub(crate) samples: usize,
    pub(crate) steps: usize,
    pub(crate) units: usize,
    /// Elements of a hidden state.
    pub(crate) state: usize,
    /// Steps of each sample, if not all have all. Others than there are count as the nearest.
    pub(crate) lengths: Option<&'a [i32]>,
}

impl Sequences<'_> {
    /// Sums of a sample in a step.
    pub(super) fn sums(&self) -> usize {
        self.cell.gates() * self.units
    }

    /// What is saved of a sample in a step.
    pub(super) fn saved(&self) -> usize {
        self.cell.saved() * self.units
    }

    /// Some samples in blocks.
    pub(super) fn blocks(&self, samples: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let end = samples.end;
        samples.step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
    }

    /// How long the sequences of a block are.
    pub(super) fn timing(&self, block: Range<usize>) -> Timing {
        let mut lengths = [self.steps; BLOCK];
        if let Some(given) = self.lengths {
            for (length, &given) in lengths.iter_mut().zip(&given[block.clone()]) {
                *length = usize::try_from(given).unwrap_or(0).min(self.steps);
            }
        }
        Timing { rows: block.len(), lengths, direction: self.direction }
    }
}

/// How long the sequences of a block are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    rows: usize,
    lengths: [usize; BLOCK],
    direction: Direction,
}

impl Timing {
    /// The length of each sample.
    pub(super) fn lengths(&self) -> &[usize] {
        &self.lengths[..self.rows]
    }

    /// Steps of the longest.
    pub(super) fn longest(&self) -> usize {
        self.lengths().iter().copied().max().unwrap_or(0)
    }

    /// The step that is made after a number of others.
    pub(super) fn time(&self, count: usize) -> usize {
        match self.direction {
            Direction::Forward => count,
            Direction::Reverse => self.longest() - 1 - count,
        }
    }

    /// Whether a sample takes part in a step.
    pub(super) fn is_in(&self, row: usize, time: usize) -> bool {
        self.lengths[row] > time
    }

    /// The samples from the first to the last that take part in a step.
    pub(super) fn range(&self, time: usize) -> Range<usize> {
        let first = (0..self.rows).find(|&row| self.is_in(row, time)).unwrap_or(self.rows);
        let last = (first..self.rows).rev().find(|&row| self.is_in(row, time));
        first..last.map_or(first, |last| last + 1)
    }

    /// The step that a sample makes before another, if it is not its first.
    pub(super) fn before(&self, row: usize, time: usize) -> Option<usize> {
        match self.direction {
            Direction::Forward => time.checked_sub(1),
            Direction::Reverse => Some(time + 1).filter(|&before| before < self.lengths[row]),
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body` with slices of these lengths, each on cache lines of its own, from this thread's
/// buffer, which grows and stays. They hold whatever was left there.
pub(super) fn with_scratch<const N: usize>(
    lengths: [usize; N],
    body: impl FnOnce([&mut [f32]; N]),
) {
    SCRATCH.with_borrow_mut(|scratch| {
        let needed = lengths.iter().map(|length| length.next_multiple_of(LINE)).sum::<usize>();
        if scratch.len() < needed + LINE {
            scratch.resize(needed + LINE, 0.0);
        }
        // A pointer that cannot be aligned begins anywhere.
        let start = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let mut rest = &mut scratch[start..];
        body(lengths.map(|length| {
            let (own, others) =
                std::mem::take(&mut rest).split_at_mut(length.next_multiple_of(LINE));
            rest = others;
            &mut own[..length]
        }));
    });
}
