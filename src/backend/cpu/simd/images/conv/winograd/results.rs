// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results by squares: forward, and back for the gradient of images.

use super::super::direct::{next_rows, with_rows, Direct};
use super::super::sweep::Sweep;
use super::base::{dispatch, Isa, KeepSchedule, Kernel, Vector};
use super::filters::Filters;
use super::products::PANEL;
use super::squares::{product_len, products_len, Grid, Images, OfSource, Place, Square};
use super::tail::{ConvTail, Spot};
use super::transforms::{both, PointsToResults, POINTS, RESULTS};
use super::{split, with_room, Pool, CHANNELS, PRODUCTS};
use std::cell::RefCell;
use std::ops::Range;

/// Elements of the transformed squares of a block: with a panel of their products they fit into a
/// small second cache.
const BLOCK_ELEMENTS: usize = 112 << 10;

/// Squares of the smallest block: one tile of the products.
const FEW_SQUARES: usize = 12;

/// Blocks per thread, where images allow.
const BLOCKS_PER_THREAD: usize = 4;

thread_local! {
    /// Transformed filters, of the thread that launches.
    static FILTERS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Transformed squares of a block.
    static SQUARES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// A panel of their products.
    static OF_PANEL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes a convolution with what its shape allows: one sweep whose taps look at three rows and columns
/// next to one another.
pub(crate) fn run(pool: &Pool, isa: Isa, direct: &Direct<'_>, sweep: &Sweep, weight: &[f32]) {
    let [depth, height, width] = sweep;
    let filters = Filters { channels: direct.mixing.channels };
    let targets = [height.target, width.target];
    let images = direct.samples * depth.target;
    let source = Images {
        data: direct.source,
        height: height.source,
        width: width.source,
        channels: filters.channels[0],
    };
    let first = [height, width].map(|axis| axis.reach().map_or(0, |[least, _]| least));
    let grid = Grid::over(images, targets);
    let padded = filters.channels[0].next_multiple_of(CHANNELS);
    let most = (BLOCK_ELEMENTS / (PRODUCTS * padded)).max(FEW_SQUARES);
    let fair = grid.count().div_ceil(BLOCKS_PER_THREAD * pool.threads()).max(FEW_SQUARES);
    // Whole tiles. Which squares are computed together changes none of them.
    let squares = most.min(fair) / FEW_SQUARES * FEW_SQUARES;
    with_room(&FILTERS, filters.len(), |packed| {
        // SAFETY: the scratch has so many elements, and this call alone uses it.
        let packed = unsafe { std::slice::from_raw_parts_mut(packed, filters.len()) };
        filters.pack(pool, isa, (&direct.mixing, sweep), weight, packed);
        let job = Job {
            tail: direct.tail,
            source,
            target: direct.target,
            targets,
            first,
            grid,
            filters,
            packed: packed.as_ptr(),
            squares,
        };
        pool.run(&|index| {
            let blocks = split(grid.count().div_ceil(squares), pool.threads(), index);
            // SAFETY: `Conv` checked the lengths, and the threads' squares are disjoint.
            unsafe { dispatch(isa, Share { job: &job, blocks }) }
        });
    });
}

struct Job<'a> {
    tail: ConvTail<'a>,
    source: Images,
    target: *mut f32,
    /// Height and width of the target.
    targets: [usize; 2],
    /// Where the first tap of the first result looks.
    first: [isize; 2],
    grid: Grid,
    filters: Filters,
    packed: *const f32,
    /// Squares of a block.
    squares: usize,
}

// SAFETY: threads read the source and the filters and write disjoint squares of the target.
unsafe impl Sync for Job<'_> {}

/// Blocks of one thread.
struct Share<'a> {
    job: &'a Job<'a>,
    blocks: Range<usize>,
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let job = self.job;
        let inputs = job.filters.channels[0].next_multiple_of(CHANNELS);
        let schedule = job.tail.schedule();
        with_room(&SQUARES, products_len(job.squares * inputs), |transformed| {
            with_room(&OF_PANEL, products_len(job.squares * PANEL), |of_panel| {
                for block in self.blocks.clone() {
                    let first = block * job.squares;
                    let squares = first..job.grid.count().min(first + job.squares);
                    let block = Block { job, squares, transformed, of_panel };
                    // SAFETY: the caller's; both scratches hold a block.
                    unsafe { block.run::<V>(schedule.as_ref()) };
                }
            });
        });
    }
}

/// Squares that are computed together.
struct Block<'a> {
    job: &'a Job<'a>,
    squares: Range<usize>,
    /// `[product][tile][16 channels][square][channel]`
    transformed: *mut f32,
    /// `[product][square][channel of the panel]`
    of_panel: *mut f32,
}

impl Block<'_> {
    /// # Safety
    /// The block is this thread's.
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, schedule: Option<&KeepSchedule>) {
        let job = self.job;
        let inputs = job.filters.channels[0].next_multiple_of(CHANNELS);
        let product = product_len(job.squares * inputs);
        let of_panel = product_len(job.squares * PANEL);
        self.each_tile::<V>(|from, rows| {
            for row in 0..rows {
                let square = job.grid.get(self.squares.start + from + row);
                let at = from * inputs + row * CHANNELS;
                let source = OfSource {
                    images: job.source,
                    image: square.image,
                    first: [
                        square.row as isize + job.first[0],
                        square.column as isize + job.first[1],
                    ],
                    place: Place {
                        to: self.transformed.wrapping_add(at),
                        product,
                        chunk: rows * CHANNELS,
                    },
                };
                // SAFETY: the caller's; the scratch holds the square.
                unsafe { V::enter(source) };
            }
        });
        for panel in 0..job.filters.panels() {
            let width = job.filters.width(panel);
            let weights = job.packed.wrapping_add(job.filters.panel_start(panel));
            for number in 0..PRODUCTS {
                let weights = weights.wrapping_add(number * job.filters.channels[0] * width);
                let left = self.transformed.wrapping_add(number * product);
                let to = self.of_panel.wrapping_add(number * of_panel);
                self.each_tile::<V>(|from, rows| {
                    let multiply = Multiply {
                        left: left.wrapping_add(from * inputs),
                        inputs: job.filters.channels[0],
                        weights,
                        width,
                        to: to.wrapping_add(from * PANEL),
                    };
                    // SAFETY: the caller's; the scratches hold the tile.
                    unsafe { multiply.run::<V>(rows) };
                });
            }
            for square in self.squares.clone() {
                let from = (square - self.squares.start) * PANEL;
                let results = Results {
                    job,
                    square: job.grid.get(square),
                    panel,
                    from: self.of_panel.wrapping_add(from),
                    product: of_panel,
                    schedule,
                };
                // SAFETY: the caller's; the scratch holds the square.
                unsafe { V::enter(results) };
            }
        }
    }

    /// Calls `tile` for squares that are multiplied together: the first of the block's, and how many.
    #[inline(always)]
    fn each_tile<V: Vector>(&self, tile: impl Fn(usize, usize)) {
        let mut from = 0;
        while from < self.squares.len() {
            let rows = next_rows::<V>(self.squares.len() - from);
            tile(from, rows);
            from += rows;
        }
    }
}

/// One of the products, of some squares and a panel.
struct Multiply {
    left: *const f32,
    inputs: usize,
    weights: *const f32,
    width: usize,
    to: *mut f32,
}

impl Multiply {
    /// # Safety
    /// The factors are valid for so many squares, `to` for their products.
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, rows: usize) {
        let mut column = 0;
        while column < self.width {
            // SAFETY: the caller's.
            unsafe {
                if V::LANES == self.width - column {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 1> { multiply: self, column }));
                } else {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 2> { multiply: self, column }));
                }
            }
            column += 2 * V::LANES;
        }
    }
}

/// One tile as a function of its own, so that its registers are allocated for it alone.
struct Tile<'a, const R: usize, const C: usize> {
    multiply: &'a Multiply,
    column: usize,
}

impl<const R: usize, const C: usize> Kernel for Tile<'_, R, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        const AHEAD: usize = 8;
        let Multiply { mut left, inputs, weights, width, to } = *self.multiply;
        let mut weights = weights.wrapping_add(self.column);
        let mut tile = [[V::splat(0.0); C]; R];
        let mut done = 0;
        while done < inputs {
            let channels = (inputs - done).min(CHANNELS);
            for channel in 0..channels {
                // SAFETY: the caller's; a prefetch may touch any address.
                unsafe {
                    let mut columns = [V::splat(0.0); C];
                    for vector in 0..C {
                        columns[vector] = V::load(weights.add(vector * V::LANES));
                    }
                    V::prefetch(weights.wrapping_add(AHEAD * width));
                    for row in 0..R {
                        let value = V::splat(*left.add(row * CHANNELS + channel));
                        for vector in 0..C {
                            tile[row][vector] = value.mul_add(columns[vector], tile[row][vector]);
                        }
                    }
                }
                weights = weights.wrapping_add(width);
            }
            left = left.wrapping_add(R * CHANNELS);
            done += channels;
        }
        for row in 0..R {
            for vector in 0..C {
                let to = to.wrapping_add(row * PANEL + self.column + vector * V::LANES);
                // SAFETY: the caller's.
                unsafe { tile[row][vector].store(to) };
            }
        }
    }
}

/// A square's results from its products, with the tail.
struct Results<'a> {
    job: &'a Job<'a>,
    square: Square,
    panel: usize,
    from: *const f32,
    /// Distance between products.
    product: usize,
    schedule: Option<&'a KeepSchedule>,
}

impl Kernel for Results<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Results { job, square, panel, from, product, schedule } = self;
        let channels = job.filters.channels[1];
        let first = panel * PANEL;
        let real = (channels - first).min(PANEL);
        let across = (job.targets[1] - square.column).min(RESULTS);
        let mut results = [[[V::splat(0.0); RESULTS]; RESULTS]; 4];
        // Panels have at most four vectors.
        let vectors = real.div_ceil(V::LANES);
        for vector in 0..vectors {
            let from = from.wrapping_add(vector * V::LANES);
            let products = |row: usize, column: usize| {
                // SAFETY: the caller's.
                unsafe { V::load(from.wrapping_add((row * POINTS + column) * product)) }
            };
            let results = &mut results[vector];
            both::<V, PointsToResults, POINTS, RESULTS>(products, |row, column, value| {
                results[row][column] = value;
            });
        }
        for row in 0..(job.targets[0] - square.row).min(RESULTS) {
            let line = square.image * job.targets[0] + square.row + row;
            let spot = Spot {
                target: job.target,
                element: (line * job.targets[1] + square.column) * channels + first,
                step: channels,
                channel: first,
                columns: real,
            };
            let kept = job.tail.kept::<V>(schedule, &spot, RESULTS, channels);
            for vector in 0..vectors {
                let column = vector * V::LANES;
                let spot = spot.beyond(column);
                let results = results[vector][row];
                // SAFETY: the caller's; only results inside the target are written.
                unsafe {
                    if across == RESULTS {
                        let mut tile = job.tail.start::<V, RESULTS, 1>(&spot);
                        for pixel in 0..RESULTS {
                            tile[pixel][0] = tile[pixel][0].add(results[pixel]);
                        }
                        job.tail.finish(tile, &spot, column, kept.as_ref());
                    } else {
                        for pixel in 0..across {
                            let element = spot.element + pixel * spot.step;
                            let spot = Spot { element, ..spot };
                            let kept = kept.as_ref().map(|kept| kept.row(pixel));
                            let mut tile = job.tail.start::<V, 1, 1>(&spot);
                            tile[0][0] = tile[0][0].add(results[pixel]);
                            job.tail.finish(tile, &spot, column, kept.as_ref());
                        }
                    }
                }
            }
        }
    }
}
