// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gradients of weights by the sums that they mean, in register tiles.

use super::base::{dispatch, load, Isa, Kernel, Vector};
use super::direct::{next_rows, with_rows};
use super::job::{Job, Segment};
use super::products::{add_chain, Factors, PANEL};
use super::reductions::{self, COLUMN_CHAIN};
use super::{finish, split, with_room, Operands, Parts, Pool, Tails};
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    /// The sums, of the thread that launches.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// A panel of a band of gradients.
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Padded rows of images.
    static PADDED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes the gradients. A thread owns tiles and goes through all images in order, so sums do not
/// depend on how many threads there are. Where tiles are few, the batch is cut into parts, by shape
/// alone, whose sums are added up in order.
pub(super) fn run(pool: &Pool, isa: Isa, operands: &Operands<'_>, tails: &Tails) {
    let job = Job::new(operands);
    let len = job.part_len();
    with_room(&SUMS, job.parts * len, |sums| {
        if operands.dy.is_empty() || operands.x.is_empty() {
            // SAFETY: the scratch has so many elements.
            unsafe { sums.write_bytes(0, job.parts * len) };
        } else {
            let sums = Shared(sums);
            pool.run(&|index| {
                let units = split(job.units(), pool.threads(), index);
                let share = Share { job: &job, sums, units };
                // SAFETY: the lengths were checked, and units write disjoint tiles of the sums.
                unsafe { dispatch(isa, share) }
            });
        }
        let parts = Parts { count: job.parts, len, sums };
        let place = |output, at| job.place(output, at);
        finish(pool, isa, &operands.shape, (&parts, tails), place, |output| job.bias_place(output));
    });
}

#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: threads write disjoint tiles.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

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
        let mut bias = [0.0; PANEL];
        for number in bands.clone() {
            let band = job.band(number);
            if tiles.start == 0 {
                // SAFETY: the caller's.
                unsafe { self.add_columns::<V>((group, panel), &band, &mut bias) };
            }
            with_room(&PACKED, band[0].len() * band[1].len() * width, |packed| {
                // SAFETY: the caller's; the scratch holds the band.
                unsafe {
                    V::enter(Pack { share: self, group, panel, band: &band, to: packed });
                    let block = Block { group, band, width, packed, sums };
                    self.band::<V>(&block, tiles.clone(), number == bands.start, segments);
                }
            });
        }
        // One share of each panel of each part has its first tile, and it alone comes here.
        if tiles.start == 0 {
            let outputs = job.shape.outputs_of_group();
            let first = group * outputs + panel * PANEL;
            let real = (outputs - panel * PANEL).min(PANEL);
            for (lane, sum) in bias.into_iter().enumerate().take(real) {
                let to = part * job.part_len() + job.bias_place(first + lane);
                // SAFETY: the caller's.
                unsafe { *self.sums.0.add(to) = sum as f32 };
            }
        }
    }

    /// Adds the columns of a panel of a band's gradients to sums.
    ///
    /// # Safety
    /// As the share's own kernel.
    #[inline(always)]
    unsafe fn add_columns<V: Vector>(
        &self,
        (group, panel): (usize, usize),
        band: &[Range<usize>; 2],
        sums: &mut [f64; PANEL],
    ) {
        let job = self.job;
        let outputs = job.shape.outputs_of_group();
        let real = (outputs - panel * PANEL).min(PANEL);
        let channel = group * outputs + panel * PANEL;
        let places = job.shape.extents[2].places;
        for at in (0..real).step_by(V::LANES) {
            let lanes = (real - at).min(V::LANES);
            let (mut sum, mut room) = (V::splat(0.0), COLUMN_CHAIN);
            for row in band[0].clone() {
                for column in band[1].clone() {
                    let pixel = row * places + column;
                    let from = job.bias_dy.wrapping_add(pixel * job.shape.outputs + channel + at);
                    // SAFETY: the caller's; lanes stop at the last real channel.
                    sum = sum.add(unsafe { load(from, lanes) });
                    room -= 1;
                    if room == 0 {
                        reductions::add_chain(&mut sums[at..at + lanes], &sum.lanes());
                        (sum, room) = (V::splat(0.0), COLUMN_CHAIN);
                    }
                }
            }
            reductions::add_chain(&mut sums[at..at + lanes], &sum.lanes());
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

/// Copies a panel of a band's gradients to `[pixel][width]` with zeros as padding.
struct Pack<'a> {
    share: &'a Share<'a>,
    group: usize,
    panel: usize,
    band: &'a [Range<usize>; 2],
    /// Room for the band.
    to: *mut f32,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Pack { share: &Share { job, .. }, group, panel, band, mut to } = self;
        let outputs = job.shape.outputs_of_group();
        let first = panel * PANEL;
        let real = (outputs - first).min(PANEL);
        let width = job.width(panel);
        let places = job.shape.extents[2].places;
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
