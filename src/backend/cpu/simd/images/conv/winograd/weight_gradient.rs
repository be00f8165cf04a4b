// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of filters by squares: what 36 products of images and gradients sum to over all squares
//! becomes nine taps in the end.
//!
//! The squares of a batch are cut into parts, by shape alone, whose sums are added up in order.

use super::super::direct::next_rows;
use super::super::weight_gradient::{finish, Operands, Parts, Tails};
use super::base::{dispatch, Isa, Kernel, Vector};
use super::products::{Factors, HALF_PANEL, PANEL};
use super::squares::{product_len, products_len, Grid, Images, OfGradient, OfSource, Place};
use super::taps::{Multiply, Taps};
use super::transforms::{POINTS, TAPS};
use super::{reductions, split, with_room, Pool, CHANNELS, PRODUCTS};
use std::cell::RefCell;
use std::ops::Range;

/// Squares of a part, where there are not too many parts.
const SQUARES_OF_PART: usize = 256;
const MOST_PARTS: usize = 32;

/// Panels of parts that are wanted at least, so that threads share them evenly, and the squares that such
/// a part has at least: below that, what each part costs once is more than its products.
const FEW_UNITS: usize = 8;
const LEAST_SQUARES: usize = 64;

/// Elements of transformed squares that are multiplied together.
const BLOCK_ELEMENTS: usize = 320 << 10;

thread_local! {
    /// Sums, of the thread that launches.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Transformed squares of images.
    static IMAGES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Transformed squares of a panel of gradients.
    static GRADIENTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Products of some panels.
    static OF_PANELS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes the gradients of weights and bias.
///
/// # Panics
/// If the convolution has no squares.
pub(crate) fn weight_gradient(pool: &Pool, isa: Isa, operands: &Operands<'_>, tails: &Tails) {
    let shape = operands.shape;
    assert!(shape.has_squares(), "a convolution by squares");
    let [depth, height, width] = &shape.extents;
    let images = |data: &[f32], [height, width]: [usize; 2], channels| Images {
        data: data.as_ptr(),
        height,
        width,
        channels,
    };
    let grid = Grid::over(shape.samples * depth.places, [height.places, width.places]);
    let panels = shape.outputs.div_ceil(PANEL);
    let wanted = FEW_UNITS.div_ceil(panels.max(1)).min(grid.count() / LEAST_SQUARES);
    let job = Job {
        x: images(operands.x, [height.image, width.image], shape.inputs),
        dy: images(operands.dy, [height.places, width.places], shape.outputs),
        before: [height.before, width.before],
        grid,
        parts: (grid.count() / SQUARES_OF_PART).max(wanted).clamp(1, MOST_PARTS),
        panels,
    };
    let len = job.part_len();
    with_room(&SUMS, job.parts * len, |sums| {
        let to = Shared(sums);
        pool.run(&|index| {
            let units = split(job.parts * job.panels, pool.threads(), index);
            // SAFETY: the lengths were checked, and units write disjoint sums.
            unsafe { dispatch(isa, Share { job: &job, sums: to, units }) }
        });
        let parts = Parts { count: job.parts, len, sums };
        let place = |output, at| job.place(output, at);
        finish(pool, isa, &shape, (&parts, tails), place, |output| job.bias_place(output));
    });
}

struct Job {
    x: Images,
    dy: Images,
    /// Padding before rows and columns.
    before: [usize; 2],
    grid: Grid,
    parts: usize,
    panels: usize,
}

// SAFETY: threads only read through the pointers.
unsafe impl Sync for Job {}

#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: threads write disjoint sums.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Job {
    /// Sums of a part: `[panel][tap][input][output]`, then those of the bias.
    fn part_len(&self) -> usize {
        self.bias_place(self.dy.channels)
    }

    /// Where the sum of an output's bias lies.
    fn bias_place(&self, output: usize) -> usize {
        let outputs = self.dy.channels.next_multiple_of(HALF_PANEL);
        TAPS * TAPS * self.x.channels * outputs + output
    }

    fn width(&self, panel: usize) -> usize {
        (self.dy.channels.next_multiple_of(HALF_PANEL) - panel * PANEL).min(PANEL)
    }

    fn panel_start(&self, panel: usize) -> usize {
        panel * PANEL * TAPS * TAPS * self.x.channels
    }

    /// Where the sum of an element `[input][tap]` of an output's filter lies.
    fn place(&self, output: usize, at: usize) -> usize {
        let (input, tap) = (at / (TAPS * TAPS), at % (TAPS * TAPS));
        let (panel, lane) = (output / PANEL, output % PANEL);
        let row = tap * self.x.channels + input;
        self.panel_start(panel) + row * self.width(panel) + lane
    }

    /// Channels of the images as they are stored in squares.
    fn inputs(&self) -> usize {
        self.x.channels.next_multiple_of(CHANNELS)
    }

    /// Squares that are multiplied together.
    fn squares_of_block(&self) -> usize {
        (BLOCK_ELEMENTS / (PRODUCTS * self.inputs())).clamp(32, SQUARES_OF_PART)
    }
}

/// Panels of parts of one thread.
struct Share<'a> {
    job: &'a Job,
    sums: Shared,
    units: Range<usize>,
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let panels = self.job.panels;
        let mut unit = self.units.start;
        while unit < self.units.end {
            let (part, first) = (unit / panels, unit % panels);
            let end = panels.min(first + self.units.end - unit);
            // SAFETY: the caller's.
            unsafe { self.part::<V>(part, first..end) };
            unit += end - first;
        }
    }
}

impl Share<'_> {
    /// Some panels of one part.
    ///
    /// # Safety
    /// As the kernel.
    #[inline(always)]
    unsafe fn part<V: Vector>(&self, part: usize, panels: Range<usize>) {
        let job = self.job;
        let (inputs, squares) = (job.inputs(), job.squares_of_block());
        let of_panel = PRODUCTS * job.x.channels * PANEL;
        with_room(&IMAGES, products_len(squares * inputs), |images| {
            with_room(&GRADIENTS, products_len(squares * PANEL), |gradients| {
                with_room(&OF_PANELS, panels.len() * of_panel, |products| {
                    let all = split(job.grid.count(), job.parts, part);
                    let mut bias = vec![0.0; panels.len() * PANEL];
                    if all.is_empty() {
                        // SAFETY: the scratch has so many elements.
                        unsafe { products.write_bytes(0, panels.len() * of_panel) };
                    }
                    for start in all.clone().step_by(squares) {
                        let block = Block {
                            job,
                            squares: start..all.end.min(start + squares),
                            images,
                            gradients,
                            is_first: start == all.start,
                        };
                        // SAFETY: the caller's; the scratches hold a block.
                        unsafe {
                            block.transform_images::<V>();
                            for (index, panel) in panels.clone().enumerate() {
                                let products = products.add(index * of_panel);
                                let bias = &mut bias[index * PANEL..][..PANEL];
                                block.multiply::<V>(panel, products, bias);
                            }
                        }
                    }
                    for (index, panel) in panels.clone().enumerate() {
                        let to = part * job.part_len() + job.panel_start(panel);
                        let taps = Taps {
                            inputs: job.x.channels,
                            width: job.width(panel),
                            products: products.wrapping_add(index * of_panel),
                            to: self.sums.0.wrapping_add(to),
                        };
                        // SAFETY: the caller's.
                        unsafe { V::enter(taps) };
                        let real = (job.dy.channels - panel * PANEL).min(PANEL);
                        for (lane, sum) in bias[index * PANEL..].iter().enumerate().take(real) {
                            let to = part * job.part_len() + job.bias_place(panel * PANEL + lane);
                            // SAFETY: the caller's.
                            unsafe { *self.sums.0.add(to) = *sum as f32 };
                        }
                    }
                });
            });
        });
    }
}

/// Squares that are multiplied together.
struct Block<'a> {
    job: &'a Job,
    squares: Range<usize>,
    /// `[product][square][channel]`
    images: *mut f32,
    /// `[product][square][channel of the panel]`
    gradients: *mut f32,
    is_first: bool,
}

impl Block<'_> {
    /// # Safety
    /// The scratch holds the block.
    #[inline(always)]
    unsafe fn transform_images<V: Vector>(&self) {
        let job = self.job;
        let inputs = job.inputs();
        let product = product_len(job.squares_of_block() * inputs);
        for (index, square) in self.squares.clone().enumerate() {
            let square = job.grid.get(square);
            let source = OfSource {
                images: job.x,
                image: square.image,
                first: [
                    square.row as isize - job.before[0] as isize,
                    square.column as isize - job.before[1] as isize,
                ],
                place: Place {
                    to: self.images.wrapping_add(index * inputs),
                    product,
                    chunk: CHANNELS,
                },
            };
            // SAFETY: the caller's.
            unsafe { V::enter(source) };
        }
    }

    /// Adds the block to the products of a panel, `[product][input][output]`, and to its sums of
    /// gradients.
    ///
    /// # Safety
    /// The scratch holds a panel of the block, `products` all of the panel's.
    #[inline(always)]
    unsafe fn multiply<V: Vector>(&self, panel: usize, products: *mut f32, bias: &mut [f64]) {
        let job = self.job;
        let (inputs, width) = (job.inputs(), job.width(panel));
        let of_images = product_len(job.squares_of_block() * inputs);
        let of_gradients = product_len(job.squares_of_block() * PANEL);
        for (index, square) in self.squares.clone().enumerate() {
            let gradient = OfGradient {
                images: job.dy,
                square: job.grid.get(square),
                first_channel: panel * PANEL,
                channels: width,
                place: Place {
                    to: self.gradients.wrapping_add(index * width),
                    product: of_gradients,
                    chunk: 0,
                },
            };
            // SAFETY: the caller's.
            unsafe { V::enter(gradient) };
        }
        // At point 1 of both extents a square's gradients are multiplied by 1 and added up.
        let ones = self.gradients.wrapping_add((POINTS + 1) * of_gradients);
        // SAFETY: the caller's; the squares were just stored.
        unsafe { V::enter(Columns { from: ones, width, rows: self.squares.len(), sums: bias }) };
        for product in 0..PRODUCTS {
            let mut input = 0;
            while input < job.x.channels {
                let rows = next_rows::<V>(job.x.channels - input);
                let multiply = Multiply {
                    factors: Factors {
                        steps: self.squares.len(),
                        left: self.images.wrapping_add(product * of_images + input),
                        left_step: inputs,
                        right: self.gradients.wrapping_add(product * of_gradients),
                        right_step: width,
                        ahead: self.images,
                        ahead_step: 0,
                    },
                    to: products.wrapping_add((product * job.x.channels + input) * width),
                    is_first: self.is_first,
                };
                // SAFETY: the caller's.
                unsafe { multiply.run::<V>(rows) };
                input += rows;
            }
        }
    }
}

/// Columns of a matrix, added to sums.
struct Columns<'a> {
    from: *const f32,
    width: usize,
    rows: usize,
    sums: &'a mut [f64],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for at in (0..self.width).step_by(V::LANES) {
            let mut sum = V::splat(0.0);
            for row in 0..self.rows {
                // SAFETY: the caller's: the matrix has so many rows of whole vectors.
                sum = sum.add(unsafe { V::load(self.from.wrapping_add(row * self.width + at)) });
            }
            reductions::add_chain(&mut self.sums[at..at + V::LANES], &sum.lanes());
        }
    }
}
