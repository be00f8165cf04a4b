// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of a source on their way into tiles: channel by channel, so that neighbouring targets read
//! neighbouring numbers whatever stride and dilation are.

use super::base::Vector;
use super::sweep::Axis;
use std::ops::Range;

/// How a stretch of a row lies when it is packed: `[channel][phase][column]`, where columns that lie a
/// stride apart are neighbours, and a phase is what is left of a column's number.
#[derive(Clone, Debug)]
pub(super) struct RowLayout {
    /// Elements of a packed row.
    pub(super) len: usize,
    /// Columns of each phase.
    columns: usize,
    /// Distance between columns of a phase in the source.
    stride: usize,
    /// First column of each phase that taps look at; it may lie in the padding.
    phases: Vec<isize>,
}

impl RowLayout {
    /// The layout for targets `range` of an axis, and where each term of a row's sum lies for the first
    /// target: for every channel, every tap.
    pub(super) fn of(
        axis: &Axis,
        range: &Range<usize>,
        channels: usize,
        offsets: &mut Vec<usize>,
    ) -> RowLayout {
        offsets.clear();
        let Some([least, largest]) = axis.reach() else {
            return RowLayout { len: 0, columns: 0, stride: axis.stride, phases: Vec::new() };
        };
        let stride = axis.stride;
        // From the first column that the first target looks at to the last one of the last target.
        let first = (range.start * stride) as isize + least;
        let columns = range.len() + (largest - least) as usize / stride;
        let mut phases = Vec::new();
        let mut tap_offsets = Vec::with_capacity(axis.taps.len());
        for tap in &axis.taps {
            let column = (tap.offset - least) as usize;
            let begin = first + (column % stride) as isize;
            let phase = phases.iter().position(|&known| known == begin).unwrap_or_else(|| {
                phases.push(begin);
                phases.len() - 1
            });
            tap_offsets.push(phase * columns + column / stride);
        }
        let per_channel = phases.len() * columns;
        for channel in 0..channels {
            offsets.extend(tap_offsets.iter().map(|offset| channel * per_channel + offset));
        }
        RowLayout { len: channels * per_channel, columns, stride, phases }
    }

    /// Packs a row of `extent` columns of which `channels` channels are wanted, columns `pitch` apart.
    ///
    /// # Safety
    /// `from` is valid for that row, `to` for a packed one.
    #[inline(always)]
    pub(super) unsafe fn pack<V: Vector>(
        &self,
        from: *const f32,
        extent: usize,
        [channels, pitch]: [usize; 2],
        to: *mut f32,
    ) {
        let per_channel = self.phases.len() * self.columns;
        for (phase, &first) in self.phases.iter().enumerate() {
            // Columns `before..end` of the phase lie in the image.
            let before = (-first).max(0) as usize;
            let before = before.div_ceil(self.stride).min(self.columns);
            let start = (first + (before * self.stride) as isize) as usize;
            let inside = extent.saturating_sub(start).div_ceil(self.stride);
            let end = before + inside.min(self.columns - before);
            let start = if end > before { start } else { 0 };
            // SAFETY: the caller's; these columns lie in the row.
            unsafe {
                let to = to.add(phase * self.columns);
                for channel in 0..channels {
                    let row = to.add(channel * per_channel);
                    row.write_bytes(0, before);
                    row.add(end).write_bytes(0, self.columns - end);
                }
                let from = from.wrapping_add(start * pitch);
                let pitch = self.stride * pitch;
                transpose::<V>(from, pitch, [end - before, channels], to.add(before), per_channel);
            }
        }
    }
}

/// Rows become columns.
///
/// # Safety
/// `from` is valid for so many rows and columns, `to` for as many columns and rows.
#[inline(always)]
unsafe fn transpose<V: Vector>(
    from: *const f32,
    from_stride: usize,
    [rows, columns]: [usize; 2],
    to: *mut f32,
    to_stride: usize,
) {
    const BLOCK: usize = 8;
    let (whole_rows, whole_columns) = (rows / BLOCK * BLOCK, columns / BLOCK * BLOCK);
    // SAFETY: the caller's.
    unsafe {
        for row in (0..whole_rows).step_by(BLOCK) {
            for column in (0..whole_columns).step_by(BLOCK) {
                let from = from.add(row * from_stride + column);
                V::transpose_8x8(from, from_stride, to.add(column * to_stride + row), to_stride);
            }
        }
        for row in 0..rows {
            let from = from.add(row * from_stride);
            let first = if row < whole_rows { whole_columns } else { 0 };
            for column in first..columns {
                *to.add(column * to_stride + row) = *from.add(column);
            }
        }
    }
}
