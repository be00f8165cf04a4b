// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout of whole columns of each sample's matrix: of channels, where they are innermost.

use super::base::{
    dispatch, for_each_vector, load, store, Isa, KeepSchedule, Kernel, SharedSlice, Vector,
};
use super::choice::STREAMED_ELEMENTS;
use super::keep::{keep_runs, Run};
use super::{split_by, Pool};
use crate::philox::MaskKey;
use std::ops::Range;

/// Columns of one set of mask bits: four runs of 32.
const STRETCH: usize = 128;

/// A matrix for each sample, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Rows of a sample: pixels.
    pub(crate) rows_per_sample: usize,
    /// Columns, each kept or dropped as a whole: channels.
    pub(crate) columns: usize,
}

/// `y = dropout(x)` over samples that are matrices whose columns are dropped; on the gradient it is the
/// backward pass. `first_sample` is the index of the first in the global batch.
///
/// # Panics
/// If lengths differ or are not whole samples.
pub(crate) fn dropout_columns(
    pool: &Pool,
    isa: Isa,
    key: &MaskKey,
    first_sample: u32,
    matrix: Columns,
    x: &[f32],
    y: &mut [f32],
) {
    assert_eq!(x.len(), y.len(), "input and output of dropout");
    if x.is_empty() {
        return;
    }
    let Columns { rows_per_sample, columns } = matrix;
    assert!(x.len().is_multiple_of(rows_per_sample * columns), "dropout of a part of a sample");
    let y = SharedSlice::new(y);
    pool.run(&|index| {
        let rows = split_by(1, x.len() / columns, pool.threads(), index);
        let range = rows.start * columns..rows.end * columns;
        let part = Part {
            schedule: KeepSchedule::new(key),
            scale: key.scale(),
            first_sample,
            matrix,
            first_row: rows.start,
            is_large: x.len() >= STREAMED_ELEMENTS,
            x: &x[range.clone()],
            // SAFETY: the threads' ranges are disjoint.
            y: unsafe { y.part(range) },
        };
        // SAFETY: the kernel uses slices.
        unsafe { dispatch(isa, part) }
    });
}

/// One thread's rows.
struct Part<'a> {
    schedule: KeepSchedule,
    scale: f32,
    first_sample: u32,
    matrix: Columns,
    /// Number of the first row among those of all samples.
    first_row: usize,
    is_large: bool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let Columns { rows_per_sample, columns } = self.matrix;
        let rows = self.x.len() / columns;
        let mut row = 0;
        while row < rows {
            let number = self.first_row + row;
            let sample = self.first_sample.wrapping_add((number / rows_per_sample) as u32);
            let end = rows.min(row + rows_per_sample - number % rows_per_sample);
            match columns {
                1 => self.whole::<V>(row..end, sample),
                _ => self.by_columns::<V>(row..end, sample),
            }
            row = end;
        }
        V::fence();
    }
}

impl Part<'_> {
    /// Rows of one sample, of which some columns are kept.
    #[inline(always)]
    fn by_columns<V: Vector>(&mut self, rows: Range<usize>, sample: u32) {
        let columns = self.matrix.columns;
        for column in (0..columns).step_by(STRETCH) {
            let bits = self.bits::<V>(sample, column);
            let count = (columns - column).min(STRETCH);
            for row in rows.clone() {
                self.stretch::<V>(row * columns + column, count, &bits);
            }
        }
    }

    /// Rows of one element each: all of a sample is kept or nothing.
    #[inline(always)]
    fn whole<V: Vector>(&mut self, rows: Range<usize>, sample: u32) {
        let is_kept = self.bits::<V>(sample, 0)[0] & 1 == 1;
        let bits = [if is_kept { u32::MAX } else { 0 }; 4];
        for start in rows.clone().step_by(STRETCH) {
            self.stretch::<V>(start, (rows.end - start).min(STRETCH), &bits);
        }
    }

    /// The keep bits of [`STRETCH`] columns.
    #[inline(always)]
    fn bits<V: Vector>(&self, sample: u32, column: usize) -> [u32; 4] {
        let run = |run: usize| Run { sample, element: (column + 32 * run) as u32 };
        keep_runs::<V>(&self.schedule, &[0, 1, 2, 3].map(run))
    }

    /// Some elements of a row.
    #[inline(always)]
    fn stretch<V: Vector>(&mut self, start: usize, count: usize, bits: &[u32; 4]) {
        let scale = V::splat(self.scale);
        let (x, y) = (&self.x[start..start + count], &mut self.y[start..start + count]);
        let is_aligned = y.as_ptr().align_offset(V::LANES * size_of::<f32>()) == 0;
        let streams = self.is_large && is_aligned && count.is_multiple_of(V::LANES);
        // SAFETY: offsets stay below `count`; streamed stores are whole vectors and aligned.
        unsafe {
            for_each_vector!(V, count, |at, lanes| {
                let keep = V::mask(bits[at / 32] >> (at % 32));
                let kept = load::<V>(x.as_ptr().add(at), lanes).mul(scale);
                let value = V::select(keep, kept, V::splat(0.0));
                if streams {
                    value.stream(y.as_mut_ptr().add(at));
                } else {
                    store(value, y.as_mut_ptr().add(at), lanes);
                }
            });
        }
    }
}
