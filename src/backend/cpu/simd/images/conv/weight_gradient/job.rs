// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a weight gradient is cut: tiles of weights, parts of a batch, bands of pixels, and where the
//! pixels of a band lie that a tap sees.

use super::choice::TALLEST_TILE;
use super::products::{CHAIN, HALF_PANEL, PANEL};
use super::{tap_index, ConvShape, Operands, AXES};
use std::ops::Range;

/// Pixels summed in one chain.
const BAND: usize = CHAIN;

/// Images with fewer channels than this leave tiles of one tap too small: the taps of a row go together.
const FEW_CHANNELS: usize = 16;

/// Tiles that there should be at least, so that threads have something to share.
const FEW_TILES: usize = 32;

/// Parts of a batch at most.
const MOST_PARTS: usize = 8;

/// Rows of the product that lie next to one another: the channels of a tap, or, where channels are
/// few, those of all taps of a row of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// Taps of depth, height and width; of width 0 where all go together.
    pub(super) taps: [usize; AXES],
    /// Number of the first among `[tap][input]`.
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Rows of a tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileRows {
    pub(super) rows: usize,
    pub(super) from: usize,
    pub(super) count: usize,
}

/// A checked gradient with everything that shares need.
pub(super) struct Job {
    pub(super) shape: ConvShape,
    pub(super) x: *const f32,
    pub(super) dy: *const f32,
    pub(super) bias_dy: *const f32,
    /// Whether all taps of a row of the window go together.
    pub(super) joined: bool,
    pub(super) rows: Vec<Rows>,
    pub(super) tiles: Vec<TileRows>,
    pub(super) panels: usize,
    pub(super) parts: usize,
    /// Rows of results in a band, and the columns of one.
    pub(super) band: [usize; 2],
}

// SAFETY: threads only read through the pointers.
unsafe impl Sync for Job {}

/// Consecutive pixels of images and gradients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) steps: usize,
}

impl Job {
    pub(super) fn new(operands: &Operands<'_>) -> Self {
        let shape = operands.shape.flat();
        let [depth, height, width] = &shape.extents;
        let inputs = shape.inputs_of_group();
        let joined =
            shape.groups == 1 && inputs < FEW_CHANNELS && width.kernel > 1 && width.dilation == 1;
        let mut rows = Vec::new();
        let kernel = shape.extents.map(|extent| extent.kernel);
        let width_taps = if joined { 1 } else { width.kernel };
        for depth_tap in 0..depth.kernel {
            for height_tap in 0..height.kernel {
                for width_tap in 0..width_taps {
                    let taps = [depth_tap, height_tap, width_tap];
                    let first = tap_index(&kernel, taps) * inputs;
                    let count = inputs * width.kernel / width_taps;
                    rows.push(Rows { taps, first, count });
                }
            }
        }
        let mut tiles = Vec::new();
        for (index, set) in rows.iter().enumerate() {
            let mut from = 0;
            while from < set.count {
                let left = set.count - from;
                let count = left.div_ceil(left.div_ceil(TALLEST_TILE));
                tiles.push(TileRows { rows: index, from, count });
                from += count;
            }
        }
        let pieces = width.places.div_ceil(BAND).max(1);
        let columns = width.places.div_ceil(pieces).max(1);
        let band = [(BAND / columns).max(1), columns];
        let panels = shape.outputs_of_group().div_ceil(PANEL);
        let mut job = Job {
            shape,
            x: operands.x.as_ptr(),
            dy: operands.dy.as_ptr(),
            bias_dy: operands.bias_dy.as_ptr(),
            joined,
            rows,
            tiles,
            panels,
            parts: 1,
            band,
        };
        let wanted = FEW_TILES.div_ceil(job.units().max(1));
        job.parts = wanted.min(MOST_PARTS).min(job.bands()).max(1);
        job
    }

    /// Bands of pixels of the whole batch.
    pub(super) fn bands(&self) -> usize {
        let [rows, columns] = self.band;
        self.result_rows().div_ceil(rows) * self.shape.extents[2].places.div_ceil(columns)
    }

    /// Rows of results of the whole batch.
    pub(super) fn result_rows(&self) -> usize {
        let [depth, height, _] = &self.shape.extents;
        self.shape.samples * depth.places * height.places
    }

    /// A band's rows and columns.
    pub(super) fn band(&self, number: usize) -> [Range<usize>; 2] {
        let [rows, columns] = self.band;
        let places = self.shape.extents[2].places;
        let pieces = places.div_ceil(columns);
        let (row, column) = (number / pieces * rows, number % pieces * columns);
        let end = self.result_rows().min(row + rows);
        [row..end, column..places.min(column + columns)]
    }

    pub(super) fn units(&self) -> usize {
        self.parts * self.shape.groups * self.panels * self.tiles.len()
    }

    /// Sums of a part: `[group][panel][tap][input][output]`, then those of the bias.
    pub(super) fn part_len(&self) -> usize {
        self.bias_place(self.shape.outputs)
    }

    /// Where the sum of an output's bias lies.
    pub(super) fn bias_place(&self, output: usize) -> usize {
        self.shape.groups * self.group_len() + output
    }

    pub(super) fn group_len(&self) -> usize {
        self.all_rows() * self.shape.outputs_of_group().next_multiple_of(HALF_PANEL)
    }

    /// Taps and inputs of a group.
    pub(super) fn all_rows(&self) -> usize {
        self.shape.taps() * self.shape.inputs_of_group()
    }

    pub(super) fn width(&self, panel: usize) -> usize {
        let stored = self.shape.outputs_of_group().next_multiple_of(HALF_PANEL);
        (stored - panel * PANEL).min(PANEL)
    }

    /// Where the sum of an element `[input][tap]` of an output's weights lies.
    pub(super) fn place(&self, output: usize, at: usize) -> usize {
        let outputs = self.shape.outputs_of_group();
        let (group, output) = (output / outputs, output % outputs);
        let (input, tap) = (at / self.shape.taps(), at % self.shape.taps());
        let (panel, lane) = (output / PANEL, output % PANEL);
        let row = tap * self.shape.inputs_of_group() + input;
        let start = group * self.group_len() + panel * PANEL * self.all_rows();
        start + row * self.width(panel) + lane
    }

    /// The pixels of a band at which a tap lies in the image.
    pub(super) fn segments(
        &self,
        rows: &Rows,
        group: usize,
        band: &[Range<usize>; 2],
        segments: &mut Vec<Segment>,
    ) {
        segments.clear();
        let [.., width] = &self.shape.extents;
        let [from, end] = width.places_of(rows.taps[2]);
        let (from, end) = (from.max(band[1].start), end.min(band[1].end));
        if from >= end {
            return;
        }
        let column = from * width.stride + rows.taps[2] * width.dilation - width.before;
        for (index, row) in band[0].clone().enumerate() {
            let Some(line) = self.line(rows, row) else { continue };
            let pixel = line * width.image + column;
            let next = Segment {
                left: pixel * self.shape.inputs + group * self.shape.inputs_of_group(),
                right: index * band[1].len() + from - band[1].start,
                steps: end - from,
            };
            let step = width.stride * self.shape.inputs;
            match segments.last_mut() {
                Some(last)
                    if last.left + last.steps * step == next.left
                        && last.right + last.steps == next.right =>
                {
                    last.steps += next.steps;
                }
                _ => segments.push(next),
            }
        }
    }

    /// The row of the images that rows of the product see for a row of results.
    pub(super) fn line(&self, rows: &Rows, row: usize) -> Option<usize> {
        let [depth, height, _] = &self.shape.extents;
        let (plane, at_height) = (row / height.places, row % height.places);
        let (sample, at_depth) = (plane / depth.places, plane % depth.places);
        let at_depth = depth.source(at_depth, rows.taps[0])?;
        let at_height = height.source(at_height, rows.taps[1])?;
        Some((sample * depth.image + at_depth) * height.image + at_height)
    }

    /// The same where all taps of a row of the window go together: rows of images with their padding.
    ///
    /// # Safety
    /// `padded` is valid for all rows of a band.
    pub(super) unsafe fn padded_segments(
        &self,
        rows: &Rows,
        band: &[Range<usize>; 2],
        padded: *mut f32,
        segments: &mut Vec<Segment>,
    ) {
        segments.clear();
        let [.., width] = &self.shape.extents;
        let inputs = self.shape.inputs;
        let columns = self.padded_columns(band);
        let first = (band[1].start * width.stride) as isize - width.before as isize;
        let before = ((-first).max(0) as usize).min(columns);
        let start = (first + before as isize).max(0) as usize;
        let inside = width.image.saturating_sub(start).min(columns - before);
        for (index, row) in band[0].clone().enumerate() {
            let Some(line) = self.line(rows, row) else { continue };
            let left = segments.len() * columns * inputs;
            // SAFETY: the caller's; the pixels lie in the line.
            unsafe {
                let to = padded.add(left);
                to.write_bytes(0, before * inputs);
                let from = self.x.wrapping_add((line * width.image + start) * inputs);
                let inner = to.add(before * inputs);
                std::ptr::copy_nonoverlapping(from, inner, inside * inputs);
                let after = columns - before - inside;
                inner.add(inside * inputs).write_bytes(0, after * inputs);
            }
            let steps = band[1].len();
            segments.push(Segment { left, right: index * steps, steps });
        }
    }

    /// Columns of an image's rows that a band sees.
    pub(super) fn padded_columns(&self, band: &[Range<usize>; 2]) -> usize {
        let width = &self.shape.extents[2];
        band[1].len().saturating_sub(1) * width.stride + width.kernel
    }
}
