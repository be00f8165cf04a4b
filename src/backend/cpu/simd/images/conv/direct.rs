// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions by the sums that they mean: register tiles of pixels by channels.

use super::base::{dispatch, Isa, KeepSchedule, Kernel, Vector};
use super::filters::{pack, Packing};
use super::products::{CHAIN, MAX_TILE_ROWS, PANEL};
use super::rows::RowLayout;
use super::shape::{ConvShape, AXES};
use super::sweep::{Mixing, Sweep};
use super::tail::{ConvTail, Kept, Spot};
use super::{depthwise, split, with_room, Pool};
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Elements of packed rows that a block of targets works on: half of a small second cache.
const BLOCK_ELEMENTS: usize = 64 << 10;

/// Steps of the sum between the prefetch of weights and their use.
const PREFETCH_STEPS: usize = 8;

/// Shares of work per thread where rows allow: images may be fewer than threads.
const BLOCKS_PER_THREAD: usize = 4;

thread_local! {
    /// The packed weights, of the thread that launches.
    static FILTERS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Packed rows of the source.
    static ROWS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static LISTS: RefCell<Lists> = const { RefCell::new(Lists::new()) };
}

/// A convolution, forward or back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv<'a> {
    /// What it is.
    pub(crate) shape: ConvShape,
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
        if shape.is_depthwise() {
            return depthwise::run(pool, isa, &direct, sweeps, &shape, self.weight);
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

/// How the targets of a sweep are cut into blocks: whole rows of an image, or stretches of rows.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    /// Groups, samples, depths, stretches of height and width.
    counts: [usize; AXES + 2],
    rows: usize,
    columns: usize,
}

/// A block of targets, by the numbers of a sweep.
struct Block {
    group: usize,
    sample: usize,
    depth: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Blocks {
    /// Blocks whose packed sources fit into a cache. How they are cut changes no sum.
    fn of(direct: &Direct<'_>, [depth, height, width]: &Sweep, threads: usize) -> Self {
        let reach = |axis: &super::sweep::Axis| match axis.reach() {
            Some([least, largest]) => (largest - least) as usize,
            None => 0,
        };
        let planes = direct.mixing.channels[0] * depth.taps.len();
        // Of a target's rows, and of a block of one row.
        let window = planes * (reach(height) + 1);
        let per_column = (window * width.stride.min(width.taps.len())).max(1);
        let most = (BLOCK_ELEMENTS / per_column).max(4 * MAX_TILE_ROWS);
        let pieces = width.count.div_ceil(most).max(1);
        let columns = width.count.div_ceil(pieces).max(1);
        let packed_row = (columns + reach(width)) * planes;
        let fit = (BLOCK_ELEMENTS / packed_row.max(1)).saturating_sub(reach(height));
        let mut rows = (fit / height.stride).clamp(1, height.count.max(1));
        let others = direct.mixing.groups * direct.samples * depth.count * pieces;
        while rows > 1 && others * height.count.div_ceil(rows) < BLOCKS_PER_THREAD * threads {
            rows = rows.div_ceil(2);
        }
        // Stretches about as tall as each other, none of them empty.
        let bands = height.count.div_ceil(rows);
        let pieces = width.count.div_ceil(columns);
        let counts = [direct.samples, direct.mixing.groups, depth.count, bands, pieces];
        Blocks { counts, rows: height.count.div_ceil(bands), columns }
    }

    fn count(&self) -> usize {
        self.counts.iter().product()
    }

    fn get(&self, index: usize, [_, height, width]: &Sweep) -> Block {
        let [_, groups, depths, bands, pieces] = self.counts;
        let (rest, piece) = (index / pieces, index % pieces);
        let (rest, band) = (rest / bands, rest % bands);
        let (rest, depth) = (rest / depths, rest % depths);
        let stretch = |number: usize, size: usize, count: usize| {
            (number * size).min(count)..((number + 1) * size).min(count)
        };
        Block {
            group: rest % groups,
            sample: rest / groups,
            depth,
            rows: stretch(band, self.rows, height.count),
            columns: stretch(piece, self.columns, width.count),
        }
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

/// A packed row of the source and the weights that go with it.
#[derive(Clone, Copy)]
struct RowTerm {
    source: *const f32,
    weights: *const f32,
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

/// The lines of a source that a stretch of targets may see.
fn lines(axis: &super::sweep::Axis, targets: &Range<usize>) -> Range<usize> {
    let Some([least, largest]) = axis.reach() else { return 0..0 };
    let inside = |at: isize| at.clamp(0, axis.source as isize) as usize;
    let start = inside((targets.start * axis.stride) as isize + least);
    let last = (targets.end.saturating_sub(1) * axis.stride) as isize + largest;
    start..inside(last + 1).max(start)
}

/// Whether any of the targets sees a line.
fn is_seen(axis: &super::sweep::Axis, targets: &Range<usize>, line: usize) -> bool {
    axis.taps.iter().any(|tap| {
        let from = line as isize - tap.offset;
        let stride = axis.stride as isize;
        from >= 0 && from % stride == 0 && targets.contains(&((from / stride) as usize))
    })
}

/// Rows of the next of several tiles, all about as tall as each other.
#[inline(always)]
pub(super) fn next_rows<V: Vector>(left: usize) -> usize {
    left.div_ceil(left.div_ceil(V::TILE_ROWS))
}

/// Calls a function with the rows of a tile as a constant. Guards that are constant for the vector
/// keep tiles taller than its registers from being compiled.
macro_rules! with_rows {
    ($vector:ty, $rows:expr, |$R:ident| $body:expr) => {
        with_rows!(@arms $vector, $rows, $R, $body, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@arms $vector:ty, $rows:expr, $R:ident, $body:expr, $($n:literal)+) => {
        match $rows {
            $($n if $n <= <$vector>::TILE_ROWS => {
                const $R: usize = $n;
                $body
            })+
            rows => unreachable!("no tile of {rows} rows"),
        }
    };
}
pub(super) use with_rows;

/// The tiles of some rows of a panel, and what they share.
struct Tiles<'a> {
    tail: &'a ConvTail<'a>,
    terms: &'a [RowTerm],
    offsets: &'a [usize],
    /// The first of the packed targets.
    from: usize,
    /// Columns of the panel.
    width: usize,
    kept: Option<&'a Kept>,
}

impl Tiles<'_> {
    /// # Safety
    /// The lists are of these rows, and the spot is theirs.
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, rows: usize, spot: &Spot) {
        let mut column = 0;
        while column < self.width {
            let spot = spot.beyond(column);
            // SAFETY: the caller's.
            unsafe {
                if V::LANES == self.width - column {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 1> { tiles: self, spot, column }));
                } else {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 2> { tiles: self, spot, column }));
                }
            }
            column += 2 * V::LANES;
        }
    }
}

/// One tile as a function of its own, so that its registers are allocated for it alone.
struct Tile<'a, const R: usize, const C: usize> {
    tiles: &'a Tiles<'a>,
    spot: Spot,
    column: usize,
}

impl<const R: usize, const C: usize> Kernel for Tile<'_, R, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Tiles { tail, terms, offsets, from, width, kept } = *self.tiles;
        let mut earlier = MaybeUninit::<[f32; MAX_TILE_ROWS * PANEL]>::uninit();
        // Out of the compiler's sight, so that it stays in memory: the registers are for one chain.
        let earlier = std::hint::black_box(earlier.as_mut_ptr().cast::<f32>());
        let (mut room, mut is_first) = (CHAIN, true);
        // SAFETY: the caller's: every offset lies in a packed row, weights follow one another; a tile is
        // no larger than `earlier`, which is written before it is read.
        unsafe {
            let mut tile = tail.start::<V, R, C>(&self.spot);
            for term in terms {
                let source = term.source.add(from);
                let mut weights = term.weights.add(self.column);
                let mut left = offsets;
                while !left.is_empty() {
                    if room == 0 {
                        if !is_first {
                            add_earlier(&mut tile, earlier);
                        }
                        for row in 0..R {
                            for vector in 0..C {
                                tile[row][vector].store(earlier.add((row * C + vector) * V::LANES));
                                tile[row][vector] = V::splat(0.0);
                            }
                        }
                        (room, is_first) = (CHAIN, false);
                    }
                    let (now, later) = left.split_at(left.len().min(room));
                    add(&mut tile, source, now, &mut weights, width);
                    room -= now.len();
                    left = later;
                }
            }
            if !is_first {
                add_earlier(&mut tile, earlier);
            }
            tail.finish(tile, &self.spot, self.column, kept);
        }
    }
}

/// Adds a tile that was stored.
///
/// # Safety
/// `earlier` holds a tile.
#[inline(always)]
unsafe fn add_earlier<V: Vector, const R: usize, const C: usize>(
    tile: &mut [[V; C]; R],
    earlier: *const f32,
) {
    for row in 0..R {
        for vector in 0..C {
            // SAFETY: the caller's.
            let earlier = unsafe { V::load(earlier.add((row * C + vector) * V::LANES)) };
            tile[row][vector] = earlier.add(tile[row][vector]);
        }
    }
}

/// Adds the products of some terms.
///
/// # Safety
/// `source` is valid for `R` values at each offset, `weights` for `C` vectors `width` apart for each.
#[inline(always)]
unsafe fn add<V: Vector, const R: usize, const C: usize>(
    tile: &mut [[V; C]; R],
    source: *const f32,
    offsets: &[usize],
    weights: &mut *const f32,
    width: usize,
) {
    for &offset in offsets {
        // SAFETY: the caller's; a prefetch may touch any address.
        unsafe {
            let mut columns = [V::splat(0.0); C];
            for vector in 0..C {
                columns[vector] = V::load(weights.add(vector * V::LANES));
            }
            V::prefetch(weights.wrapping_add(PREFETCH_STEPS * width));
            let source = source.add(offset);
            for row in 0..R {
                let value = V::splat(*source.add(row));
                for vector in 0..C {
                    tile[row][vector] = value.mul_add(columns[vector], tile[row][vector]);
                }
            }
        }
        *weights = weights.wrapping_add(width);
    }
}
