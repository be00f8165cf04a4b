// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions by the sums that they mean: register tiles of pixels by channels.

mod blocks;
mod tile;

pub(super) use tile::{next_rows, with_rows};

use super::base::{dispatch, Isa, KeepSchedule, Kernel, Vector};
use super::filters::{pack, Packing};
use super::products::PANEL;
use super::rows::RowLayout;
use super::shape::{ConvShape, AXES};
use super::sweep::{Mixing, Sweep};
use super::tail::{ConvTail, Spot};
use super::{base, choice, depthwise, products, split, sweep, tail, winograd, with_room, Pool};
use blocks::{is_seen, lines, Block, Blocks};
use std::cell::RefCell;
use std::ops::Range;
use tile::{RowTerm, Tiles};

thread_local! {
    /// The packed weights, of the thread that launches.
    static FILTERS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Packed rows of the source.
    static ROWS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static LISTS: RefCell<Lists> = const { RefCell::new(Lists::new()) };
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConvWay {
    /// By the sums that it means.
    Direct,
    /// By squares, where [`ConvShape::has_squares`].
    Winograd,
}

/// A convolution, forward or back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv<'a> {
    /// What it is.
    pub(crate) shape: ConvShape,
    /// How it is computed.
    pub(crate) way: ConvWay,
    /// The weights, row-major.
    pub(crate) weight: &'a [f32],
    /// What becomes of the sums.
    pub(crate) tail: ConvTail<'a>,
}

impl Conv<'_> {
    /// `(x, weight) -> y`
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn forward(&self, pool: &Pool, isa: Isa, x: &[f32], y: &mut [f32]) {
        assert_eq!((x.len(), y.len()), (self.shape.x_len(), self.shape.y_len()), "images");
        self.tail.check(y.len(), self.shape.outputs);
        let (mixing, sweeps) = self.shape.flat().forward();
        self.run(pool, isa, mixing, &sweeps, x, y);
    }

    /// `(dy, weight) -> dx`
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn input_gradient(&self, pool: &Pool, isa: Isa, dy: &[f32], dx: &mut [f32]) {
        assert_eq!((dx.len(), dy.len()), (self.shape.x_len(), self.shape.y_len()), "images");
        self.tail.check(dx.len(), self.shape.inputs);
        let (mixing, sweeps) = self.shape.flat().backward();
        self.run(pool, isa, mixing, &sweeps, dy, dx);
    }

    fn run(
        &self,
        pool: &Pool,
        isa: Isa,
        mixing: Mixing,
        sweeps: &[Sweep],
        source: &[f32],
        target: &mut [f32],
    ) {
        assert_eq!(self.weight.len(), self.shape.weight_len(), "weights");
        if target.is_empty() {
            return;
        }
        let shape = self.shape.flat();
        let direct = Direct {
            samples: shape.samples,
            mixing,
            source: source.as_ptr(),
            target: target.as_mut_ptr(),
            tail: self.tail,
        };
        match (self.way, sweeps) {
            (ConvWay::Winograd, [sweep]) => {
                assert!(self.shape.has_squares(), "a convolution by squares");
                return winograd::run(pool, isa, &direct, sweep, self.weight);
            }
            _ if shape.is_depthwise() => {
                return depthwise::run(pool, isa, &direct, sweeps, &shape, self.weight);
            }
            _ => {}
        }
        let kernel = shape.extents.map(|extent| extent.kernel);
        let (packings, elements) = Packing::of(&mixing, sweeps);
        with_room(&FILTERS, elements, |filters| {
            // SAFETY: the scratch has so many elements, and this call alone uses it.
            let packed = unsafe { std::slice::from_raw_parts_mut(filters, elements) };
            pack(pool, &mixing, &kernel, sweeps, self.weight, packed);
            let packed = &*packed;
            pool.run(&|index| {
                for (sweep, packing) in sweeps.iter().zip(&packings) {
                    let blocks = Blocks::of(&direct, sweep, pool.threads());
                    let share = Share {
                        direct: &direct,
                        sweep,
                        packing,
                        filters: packed.as_ptr(),
                        units: split(blocks.count(), pool.threads(), index),
                        blocks,
                    };
                    // SAFETY: the lengths were checked, and the threads' blocks are disjoint.
                    unsafe { dispatch(isa, share) }
                }
            });
        });
    }
}

/// Source and target of a convolution with everything that both need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct<'a> {
    pub(super) samples: usize,
    pub(super) mixing: Mixing,
    pub(super) source: *const f32,
    pub(super) target: *mut f32,
    pub(super) tail: ConvTail<'a>,
}

// SAFETY: threads read the source and write disjoint parts of the target.
unsafe impl Sync for Direct<'_> {}

impl Direct<'_> {
    /// Channels of all groups: of the source, of the target.
    pub(super) fn channels(&self) -> [usize; 2] {
        self.mixing.channels.map(|channels| channels * self.mixing.groups)
    }
}

/// Blocks of one thread.
struct Share<'a> {
    direct: &'a Direct<'a>,
    sweep: &'a Sweep,
    packing: &'a Packing,
    filters: *const f32,
    blocks: Blocks,
    units: Range<usize>,
}

/// Lists that blocks fill anew.
struct Lists {
    /// Where each term of a packed row's sum lies, for the first target.
    offsets: Vec<usize>,
    /// The rows that a target row sums.
    terms: Vec<RowTerm>,
}

impl Lists {
    const fn new() -> Self {
        Lists { offsets: Vec::new(), terms: Vec::new() }
    }
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let schedule = self.direct.tail.schedule();
        for unit in self.units.clone() {
            let block = self.blocks.get(unit, self.sweep);
            LISTS.with_borrow_mut(|lists| {
                // SAFETY: the caller's.
                unsafe { self.block::<V>(&block, schedule.as_ref(), lists) }
            });
        }
    }
}

impl Share<'_> {
    /// # Safety
    /// As the share's own kernel; the block is one of the share.
    #[inline(always)]
    unsafe fn block<V: Vector>(
        &self,
        block: &Block,
        schedule: Option<&KeepSchedule>,
        lists: &mut Lists,
    ) {
        let [depth, height, width] = self.sweep;
        let sources = self.direct.mixing.channels[0];
        let layout = RowLayout::of(width, &block.columns, sources, &mut lists.offsets);
        let lines = lines(height, &block.rows);
        let planes = depth.taps.len();
        with_room(&ROWS, planes * lines.len() * layout.len, |packed| {
            // SAFETY: the caller's; the scratch holds all planes and lines.
            unsafe {
                self.pack::<V>(block, &layout, &lines, packed);
                for panel in 0..self.packing.panels() {
                    for row in block.rows.clone() {
                        lists.terms.clear();
                        for (plane, &depth_tap) in depth.taps.iter().enumerate() {
                            if depth.at(block.depth, depth_tap).is_none() {
                                continue;
                            }
                            for (number, &height_tap) in height.taps.iter().enumerate() {
                                let Some(line) = height.at(row, height_tap) else { continue };
                                let line = plane * lines.len() + line - lines.start;
                                let at = self.packing.row(block.group, panel, [plane, number]);
                                lists.terms.push(RowTerm {
                                    source: packed.add(line * layout.len),
                                    weights: self.filters.add(at),
                                });
                            }
                        }
                        self.row::<V>(block, (panel, row), schedule, lists);
                    }
                }
            }
        });
    }

    /// Packs the lines that a block sees.
    ///
    /// # Safety
    /// As [`Share::block`]; `packed` holds all planes and lines.
    #[inline(always)]
    unsafe fn pack<V: Vector>(
        &self,
        block: &Block,
        layout: &RowLayout,
        lines: &Range<usize>,
        packed: *mut f32,
    ) {
        let [depth, height, width] = self.sweep;
        let sources = self.direct.mixing.channels[0];
        let [channels, _] = self.direct.channels();
        for (plane, &tap) in depth.taps.iter().enumerate() {
            let Some(at) = depth.at(block.depth, tap) else { continue };
            for line in lines.clone().filter(|&line| is_seen(height, &block.rows, line)) {
                let row = (block.sample * depth.source + at) * height.source + line;
                let from = row * width.source * channels + block.group * sources;
                let to = (plane * lines.len() + line - lines.start) * layout.len;
                // SAFETY: the row lies in the source; the caller's.
                unsafe {
                    let from = self.direct.source.add(from);
                    layout.pack::<V>(from, width.source, [sources, channels], packed.add(to));
                }
            }
        }
    }

    /// One panel of one row of targets.
    ///
    /// # Safety
    /// As [`Share::block`]; the lists are the row's.
    #[inline(always)]
    unsafe fn row<V: Vector>(
        &self,
        block: &Block,
        (panel, row): (usize, usize),
        schedule: Option<&KeepSchedule>,
        lists: &Lists,
    ) {
        let [depth, height, width] = self.sweep;
        let [_, channels] = self.direct.channels();
        let targets = self.direct.mixing.channels[1];
        let plane = block.sample * depth.target + depth.first + block.depth * depth.step;
        let line = plane * height.target + height.first + row * height.step;
        let channel = block.group * targets + panel * PANEL;
        let mut from = 0;
        while from < block.columns.len() {
            let rows = next_rows::<V>(block.columns.len() - from);
            let column = width.first + (block.columns.start + from) * width.step;
            let spot = Spot {
                target: self.direct.target,
                element: (line * width.target + column) * channels + channel,
                step: width.step * channels,
                channel,
                columns: (targets - panel * PANEL).min(PANEL),
            };
            let kept = self.direct.tail.kept::<V>(schedule, &spot, rows, channels);
            let tiles = Tiles {
                tail: &self.direct.tail,
                terms: &lists.terms,
                offsets: &lists.offsets,
                from,
                width: self.packing.width(panel),
                kept: kept.as_ref(),
            };
            // SAFETY: the caller's.
            unsafe { tiles.run::<V>(rows, &spot) };
            from += rows;
        }
    }
}
