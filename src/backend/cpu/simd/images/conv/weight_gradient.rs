// SPDX-License-Identifier: MIT OR Apache-2.0
//! A convolution's gradient of its weights: for each tap the product of images and gradients over all
//! pixels, in tiles of input channels by output channels.
//!
//! A thread owns tiles and goes through all images in order, so sums do not depend on how many threads
//! there are. Where tiles are few, the batch is cut into parts, by shape alone, whose sums are added up
//! in order.

use super::base::{dispatch, load, Isa, Kernel, Vector};
use super::direct::{next_rows, with_rows};
use super::products::{add_chain, Factors, GradientTail, Tail};
use super::products::{CHAIN, HALF_PANEL, MAX_TILE_ROWS, PANEL};
use super::shape::{ConvShape, AXES};
use super::sweep::tap_index;
use super::{split, with_room, Pool, Stores};
use std::cell::RefCell;
use std::ops::Range;

/// Pixels summed in one chain.
const BAND: usize = CHAIN;

/// Images with fewer channels than this leave tiles of one tap too small: the taps of a row go together.
const FEW_CHANNELS: usize = 16;

/// Tiles that there should be at least, so that threads have something to share.
const FEW_TILES: usize = 32;

/// Parts of a batch at most.
const MOST_PARTS: usize = 8;

thread_local! {
    /// The sums, of the thread that launches.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// A panel of a band of gradients.
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Padded rows of images.
    static PADDED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// The weights' gradient of one output.
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `(x, dy) -> dw`
#[derive(Debug)]
pub(crate) struct ConvWeightGradient<'a> {
    /// The convolution.
    pub(crate) shape: ConvShape,
    /// The images.
    pub(crate) x: &'a [f32],
    /// The gradient of the result.
    pub(crate) dy: &'a [f32],
    /// What becomes of the gradient, row-major.
    pub(crate) sink: GradientTail<'a>,
}

impl ConvWeightGradient<'_> {
    /// Computes it with all threads of the pool.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn run(self, pool: &Pool, isa: Isa) {
        let shape = self.shape;
        assert_eq!((self.x.len(), self.dy.len()), (shape.x_len(), shape.y_len()), "images");
        let weights = shape.weight_len();
        let tail = Tail::new(self.sink, weights);
        let job = Job::new(shape.flat(), self.x, self.dy);
        let sums_of_part = job.part_len();
        with_room(&SUMS, job.parts * sums_of_part, |sums| {
            if self.dy.is_empty() || self.x.is_empty() {
                // SAFETY: the scratch has so many elements.
                unsafe { sums.write_bytes(0, job.parts * sums_of_part) };
            } else {
                let sums = Shared(sums);
                pool.run(&|index| {
                    let units = split(job.units(), pool.threads(), index);
                    let share = Share { job: &job, sums, units };
                    // SAFETY: the lengths were checked, and units write disjoint tiles of the sums.
                    unsafe { dispatch(isa, share) }
                });
            }
            let parts = Parts { count: job.parts, len: sums_of_part, sums };
            finish(pool, isa, &shape, &parts, &tail, |output, at| job.place(output, at));
        });
    }
}

/// Sums of the parts of a batch, one behind the other.
pub(super) struct Parts {
    pub(super) count: usize,
    pub(super) len: usize,
    pub(super) sums: *const f32,
}

// SAFETY: threads only read them.
unsafe impl Sync for Parts {}

/// Adds the parts of each weight's gradient up and hands it to the tail. `place` says where the sums of
/// an element of an output's weights lie.
pub(super) fn finish(
    pool: &Pool,
    isa: Isa,
    shape: &ConvShape,
    parts: &Parts,
    tail: &Tail,
    place: impl Fn(usize, usize) -> usize + Sync,
) {
    let len = shape.weight_len() / shape.outputs.max(1);
    pool.run(&|index| {
        with_room(&ROW, len, |row| {
            for output in split(shape.outputs, pool.threads(), index) {
                // SAFETY: the scratch is this thread's; every place lies in every part.
                let row = unsafe {
                    for at in 0..len {
                        let sum = parts.sums.add(place(output, at));
                        let later = (1..parts.count).map(|part| *sum.add(part * parts.len));
                        *row.add(at) = later.fold(*sum, |sum, part| sum + part);
                    }
                    std::slice::from_raw_parts(row, len)
                };
                // SAFETY: the output's weights are this thread's.
                unsafe { dispatch(isa, Apply { tail, offset: output * len, row }) }
            }
        });
    });
}

struct Apply<'a> {
    tail: &'a Tail,
    offset: usize,
    row: &'a [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe { self.tail.apply::<V>(self.offset, self.row, Stores::Cached) }
    }
}

/// Rows of the product that lie next to one another: the channels of a tap, or, where channels are
/// few, those of all taps of a row of the window.
#[derive(Clone, Copy, Debug)]
struct Rows {
    /// Taps of depth, height and width; of width 0 where all go together.
    taps: [usize; AXES],
    /// Number of the first among `[tap][input]`.
    first: usize,
    count: usize,
}

/// Rows of a tile.
#[derive(Clone, Copy, Debug)]
struct TileRows {
    rows: usize,
    from: usize,
    count: usize,
}

/// A checked gradient with everything that shares need.
struct Job {
    shape: ConvShape,
    x: *const f32,
    dy: *const f32,
    /// Whether all taps of a row of the window go together.
    joined: bool,
    rows: Vec<Rows>,
    tiles: Vec<TileRows>,
    panels: usize,
    parts: usize,
    /// Rows of results in a band, and the columns of one.
    band: [usize; 2],
}

// SAFETY: threads only read through the pointers.
unsafe impl Sync for Job {}

#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: threads write disjoint tiles.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// Consecutive pixels of images and gradients.
#[derive(Clone, Copy, Debug)]
struct Segment {
    left: usize,
    right: usize,
    steps: usize,
}

impl Job {
    fn new(shape: ConvShape, x: &[f32], dy: &[f32]) -> Self {
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
                let count = left.div_ceil(left.div_ceil(MAX_TILE_ROWS));
                tiles.push(TileRows { rows: index, from, count });
                from += count;
            }
        }
        let pieces = width.places.div_ceil(BAND).max(1);
        let columns = width.places.div_ceil(pieces).max(1);
        let band = [(BAND / columns).max(1), columns];
        let panels = shape.outputs_of_group().div_ceil(PANEL);
        let (x, dy) = (x.as_ptr(), dy.as_ptr());
        let mut job = Job { shape, x, dy, joined, rows, tiles, panels, parts: 1, band };
        let wanted = FEW_TILES.div_ceil(job.units().max(1));
        job.parts = wanted.min(MOST_PARTS).min(job.bands()).max(1);
        job
    }

    /// Bands of pixels of the whole batch.
    fn bands(&self) -> usize {
        let [rows, columns] = self.band;
        self.result_rows().div_ceil(rows) * self.shape.extents[2].places.div_ceil(columns)
    }

    /// Rows of results of the whole batch.
    fn result_rows(&self) -> usize {
        let [depth, height, _] = &self.shape.extents;
        self.shape.samples * depth.places * height.places
    }

    /// A band's rows and columns.
    fn band(&self, number: usize) -> [Range<usize>; 2] {
        let [rows, columns] = self.band;
        let places = self.shape.extents[2].places;
        let pieces = places.div_ceil(columns);
        let (row, column) = (number / pieces * rows, number % pieces * columns);
        let end = self.result_rows().min(row + rows);
        [row..end, column..places.min(column + columns)]
    }

    fn units(&self) -> usize {
        self.parts * self.shape.groups * self.panels * self.tiles.len()
    }

    /// Sums of a part: `[group][panel][tap][input][output]`.
    fn part_len(&self) -> usize {
        self.shape.groups * self.group_len()
    }

    fn group_len(&self) -> usize {
        self.all_rows() * self.shape.outputs_of_group().next_multiple_of(HALF_PANEL)
    }

    /// Taps and inputs of a group.
    fn all_rows(&self) -> usize {
        self.shape.taps() * self.shape.inputs_of_group()
    }

    fn width(&self, panel: usize) -> usize {
        let stored = self.shape.outputs_of_group().next_multiple_of(HALF_PANEL);
        (stored - panel * PANEL).min(PANEL)
    }

    /// Where the sum of an element `[input][tap]` of an output's weights lies.
    fn place(&self, output: usize, at: usize) -> usize {
        let outputs = self.shape.outputs_of_group();
        let (group, output) = (output / outputs, output % outputs);
        let (input, tap) = (at / self.shape.taps(), at % self.shape.taps());
        let (panel, lane) = (output / PANEL, output % PANEL);
        let row = tap * self.shape.inputs_of_group() + input;
        let start = group * self.group_len() + panel * PANEL * self.all_rows();
        start + row * self.width(panel) + lane
    }

    /// The pixels of a band at which a tap lies in the image.
    fn segments(
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
    fn line(&self, rows: &Rows, row: usize) -> Option<usize> {
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
    unsafe fn padded_segments(
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
    fn padded_columns(&self, band: &[Range<usize>; 2]) -> usize {
        let width = &self.shape.extents[2];
        band[1].len().saturating_sub(1) * width.stride + width.kernel
    }
}

/// Tiles of one thread.
struct Share<'a> {
    job: &'a Job,
    sums: Shared,
    units: Range<usize>,
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let tiles = self.job.tiles.len();
        let mut segments = Vec::new();
        let mut unit = self.units.start;
        while unit < self.units.end {
            let (panel, first) = (unit / tiles, unit % tiles);
            let end = tiles.min(first + self.units.end - unit);
            // SAFETY: the caller's.
            unsafe { self.panel::<V>(panel, first..end, &mut segments) };
            unit += end - first;
        }
    }
}

impl Share<'_> {
    /// Some tiles of one panel of one part.
    ///
    /// # Safety
    /// As the share's own kernel.
    #[inline(always)]
    unsafe fn panel<V: Vector>(
        &self,
        number: usize,
        tiles: Range<usize>,
        segments: &mut Vec<Segment>,
    ) {
        let job = self.job;
        let (rest, panel) = (number / job.panels, number % job.panels);
        let (part, group) = (rest / job.shape.groups, rest % job.shape.groups);
        let width = job.width(panel);
        let start = part * job.part_len() + group * job.group_len();
        let sums = self.sums.0.wrapping_add(start + panel * PANEL * job.all_rows());
        let bands = split(job.bands(), job.parts, part);
        for number in bands.clone() {
            let band = job.band(number);
            with_room(&PACKED, band[0].len() * band[1].len() * width, |packed| {
                // SAFETY: the caller's; the scratch holds the band.
                unsafe {
                    self.pack::<V>((group, panel), &band, packed);
                    let block = Block { group, band, width, packed, sums };
                    self.band::<V>(&block, tiles.clone(), number == bands.start, segments);
                }
            });
        }
    }

    /// Copies a panel of a band's gradients to `[pixel][width]` with zeros as padding.
    ///
    /// # Safety
    /// As the share's own kernel; `packed` holds the band.
    #[inline(always)]
    unsafe fn pack<V: Vector>(
        &self,
        (group, panel): (usize, usize),
        band: &[Range<usize>; 2],
        packed: *mut f32,
    ) {
        let job = self.job;
        let outputs = job.shape.outputs_of_group();
        let first = panel * PANEL;
        let real = (outputs - first).min(PANEL);
        let width = job.width(panel);
        let places = job.shape.extents[2].places;
        let mut to = packed;
        for row in band[0].clone() {
            let pixel = row * places + band[1].start;
            let from = job.dy.wrapping_add(pixel * job.shape.outputs + group * outputs + first);
            for column in 0..band[1].len() {
                let from = from.wrapping_add(column * job.shape.outputs);
                for at in (0..width).step_by(V::LANES) {
                    let lanes = real.saturating_sub(at).min(V::LANES);
                    // SAFETY: the caller's; lanes stop at the last real channel.
                    unsafe { load::<V>(from.wrapping_add(at), lanes).store(to.add(at)) };
                }
                to = to.wrapping_add(width);
            }
        }
    }

    /// Adds a band to the sums of some tiles.
    ///
    /// # Safety
    /// As the share's own kernel; the block is the panel's.
    #[inline(always)]
    unsafe fn band<V: Vector>(
        &self,
        block: &Block,
        tiles: Range<usize>,
        is_first: bool,
        segments: &mut Vec<Segment>,
    ) {
        let job = self.job;
        let step = job.shape.extents[2].stride * job.shape.inputs;
        let padded_len = match job.joined {
            true => block.band[0].len() * job.padded_columns(&block.band) * job.shape.inputs,
            false => 0,
        };
        with_room(&PADDED, padded_len, |padded| {
            let mut known = None;
            for tile in &job.tiles[tiles] {
                let rows = &job.rows[tile.rows];
                if known != Some(tile.rows) {
                    known = Some(tile.rows);
                    match job.joined {
                        // SAFETY: the scratch holds the band's rows.
                        true => unsafe {
                            job.padded_segments(rows, &block.band, padded, segments);
                        },
                        false => job.segments(rows, block.group, &block.band, segments),
                    }
                }
                let left = if job.joined { padded.cast_const() } else { job.x };
                let mut row = 0;
                while row < tile.count {
                    let count = next_rows::<V>(tile.count - row);
                    let from = tile.from + row;
                    let sum = Sum {
                        segments,
                        left: left.wrapping_add(from),
                        step,
                        right: block.packed,
                        width: block.width,
                        sums: block.sums.wrapping_add((rows.first + from) * block.width),
                        is_first,
                    };
                    // SAFETY: the caller's.
                    unsafe { sum.run::<V>(count) };
                    row += count;
                }
            }
        });
    }
}

/// A packed band.
struct Block {
    group: usize,
    band: [Range<usize>; 2],
    width: usize,
    packed: *const f32,
    /// The panel's sums.
    sums: *mut f32,
}

/// Some rows of the product over a band, added to the sums.
struct Sum<'a> {
    segments: &'a [Segment],
    left: *const f32,
    /// Distance between pixels of the left factor.
    step: usize,
    right: *const f32,
    width: usize,
    sums: *mut f32,
    is_first: bool,
}

impl Sum<'_> {
    /// # Safety
    /// The factors are valid for all segments and so many rows, the sums for these rows.
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, rows: usize) {
        let mut column = 0;
        while column < self.width {
            // SAFETY: the caller's.
            unsafe {
                if V::LANES == self.width - column {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 1> { sum: self, column }));
                } else {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 2> { sum: self, column }));
                }
            }
            column += 2 * V::LANES;
        }
    }
}

/// One tile as a function of its own, so that its registers are allocated for it alone.
struct Tile<'a, const R: usize, const C: usize> {
    sum: &'a Sum<'a>,
    column: usize,
}

impl<const R: usize, const C: usize> Kernel for Tile<'_, R, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Sum { segments, left, step, right, width, sums, is_first } = *self.sum;
        let mut tile = [[V::splat(0.0); C]; R];
        for segment in segments {
            let factors = Factors {
                steps: segment.steps,
                left: left.wrapping_add(segment.left),
                left_step: step,
                right: right.wrapping_add(segment.right * width + self.column),
                right_step: width,
                ahead: left,
                ahead_step: 0,
            };
            // SAFETY: the caller's.
            unsafe { add_chain(&mut tile, &factors) };
        }
        for row in 0..R {
            for vector in 0..C {
                let to = sums.wrapping_add(row * width + self.column + vector * V::LANES);
                // SAFETY: the caller's.
                unsafe {
                    let sum = match is_first {
                        true => tile[row][vector],
                        false => V::load(to).add(tile[row][vector]),
                    };
                    sum.store(to);
                }
            }
        }
    }
}
