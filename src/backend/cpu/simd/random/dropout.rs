// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element-wise dropout at memory bandwidth.

use super::base::{
    dispatch, for_each_vector, load, store, Isa, KeepSchedule, Kernel, SharedSlice, Vector,
};
use super::choice::STREAMED_ELEMENTS;
use super::keep::{keep_runs, Run};
use super::{split_by, Pool};
use crate::philox::MaskKey;
use std::ops::Range;

/// Elements of one set of mask bits: four runs of 32.
const STRETCH: usize = 128;

/// A site's mask and where a tensor lies in it.
///
/// `rows_per_sample` consecutive rows of a matrix form one sample: 1, except for tensors of rank 3
/// and more seen as matrices. Elements are counted in row-major order within the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropout {
    /// The mask.
    pub(crate) key: MaskKey,
    /// Index in the global batch of the sample of row 0.
    pub(crate) first_sample: u32,
    /// Rows per sample, at least 1.
    pub(crate) rows_per_sample: usize,
    /// What rows of one sample have in common.
    pub(crate) rows: MaskRows,
}

/// The masks of the rows of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaskRows {
    /// Each has its own.
    Own,
    /// All have the same: columns are dropped.
    Shared,
}

impl Dropout {
    /// What kept elements are multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        self.key.scale()
    }

    /// Where the element at a row and column of a matrix lies in the mask.
    #[inline(always)]
    pub(crate) fn run(&self, row: usize, columns: usize, column: usize) -> Run {
        // The usual case without the division, which is slow next to the mask itself.
        let (sample, row) = match self.rows_per_sample {
            1 => (row, 0),
            rows => (row / rows, row % rows),
        };
        let first = match self.rows {
            MaskRows::Own => row * columns,
            MaskRows::Shared => 0,
        };
        Run {
            sample: self.first_sample.wrapping_add(sample as u32),
            element: (first + column) as u32,
        }
    }
}

/// `y = dropout(x)` over samples of `elements_per_sample` elements each; on the gradient it is the
/// backward pass. `first_sample` is the index of the first in the global batch.
///
/// # Panics
/// If lengths differ or are not whole samples.
pub(crate) fn dropout(
    pool: &Pool,
    isa: Isa,
    key: &MaskKey,
    first_sample: u32,
    elements_per_sample: usize,
    x: &[f32],
    y: &mut [f32],
) {
    assert_eq!(x.len(), y.len(), "input and output of dropout");
    if x.is_empty() {
        return;
    }
    assert!(x.len().is_multiple_of(elements_per_sample), "dropout of a part of a sample");
    let y = SharedSlice::new(y);
    pool.run(&|index| {
        let range = split_by(STRETCH, x.len(), pool.threads(), index);
        let part = Part {
            schedule: KeepSchedule::new(key),
            scale: key.scale(),
            first_sample,
            elements_per_sample,
            start: range.start,
            is_large: x.len() >= STREAMED_ELEMENTS,
            x: &x[range.clone()],
            // SAFETY: the threads' ranges are disjoint.
            y: unsafe { y.part(range) },
        };
        // SAFETY: the kernel uses slices.
        unsafe { dispatch(isa, part) }
    });
}

/// One thread's part of a tensor.
struct Part<'a> {
    schedule: KeepSchedule,
    scale: f32,
    first_sample: u32,
    elements_per_sample: usize,
    /// Index of `x[0]` in the tensor.
    start: usize,
    is_large: bool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let mut at = 0;
        while at < self.x.len() {
            let element = (self.start + at) % self.elements_per_sample;
            let sample = self
                .first_sample
                .wrapping_add(((self.start + at) / self.elements_per_sample) as u32);
            let count = (self.elements_per_sample - element).min(self.x.len() - at);
            self.stretches::<V>(at..at + count, Run { sample, element: element as u32 });
            at += count;
        }
        V::fence();
    }
}

impl Part<'_> {
    /// Elements of one sample, from `first` on.
    #[inline(always)]
    fn stretches<V: Vector>(&mut self, range: Range<usize>, first: Run) {
        let scale = V::splat(self.scale);
        for start in range.clone().step_by(STRETCH) {
            let element = first.element + (start - range.start) as u32;
            let runs = [0, 1, 2, 3]
                .map(|run: u32| Run { element: element.wrapping_add(32 * run), ..first });
            let bits: [u32; 4] = keep_runs::<V>(&self.schedule, &runs);
            let count = (range.end - start).min(STRETCH);
            let (x, y) = (&self.x[start..start + count], &mut self.y[start..start + count]);
            let is_aligned = y.as_ptr().align_offset(V::LANES * size_of::<f32>()) == 0;
            let streams = self.is_large && is_aligned && count == STRETCH;
            // SAFETY: offsets stay below `count`; streamed stores are aligned, just checked.
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
}
