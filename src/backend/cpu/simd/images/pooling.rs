// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pooling of images that lie channels-last, and its gradients, a row of pixels at a time.

mod largest;

use super::base::{dispatch, for_each_vector, load, store, Isa, Kernel, SharedSlice, Vector};
use super::conv::Extent;
use super::{split, Pool};
use largest::{Largest, LargestGradient};
use std::ops::Range;

/// Elements of a mean that are summed in one chain.
const CHAIN: usize = 64;

/// A window over images `[samples, extents..., channels]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pooling {
    /// Samples of the batch.
    pub(crate) samples: usize,
    /// Channels of an image.
    pub(crate) channels: usize,
    /// Depth, height and width.
    pub(crate) extents: [Extent; 3],
}

impl Pooling {
    /// The largest element at each place, and in `index` the bits of its number among the pixels of
    /// the image. NaN is larger than all numbers; of equal elements the first counts, of several NaNs
    /// the last.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn max(
        &self,
        pool: &Pool,
        isa: Isa,
        x: &[f32],
        y: &mut [f32],
        index: Option<&mut [f32]>,
    ) {
        self.check(x.len(), y.len());
        assert!(index.as_ref().is_none_or(|index| index.len() == y.len()), "indices");
        let (y, index) = (SharedSlice::new(y), index.map(SharedSlice::new));
        self.each_share(pool, self.rows_of_places(), self.row_of_places(), |rows, range| {
            // SAFETY: the threads' rows are disjoint.
            let (y, index) = unsafe {
                let index = index.as_ref().map(|index| index.part(range.clone()));
                (y.part(range), index.unwrap_or_default())
            };
            // SAFETY: the kernel uses slices.
            unsafe { dispatch(isa, Largest { pooling: *self, rows, x, y, index }) }
        });
    }

    /// `(index, dy) -> dx`
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn max_gradient(
        &self,
        pool: &Pool,
        isa: Isa,
        index: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        self.check(dx.len(), dy.len());
        assert_eq!(index.len(), dy.len(), "indices");
        let dx = SharedSlice::new(dx);
        self.each_share(pool, self.rows_of_pixels(), self.row_of_pixels(), |rows, range| {
            // SAFETY: the threads' rows are disjoint.
            let dx = unsafe { dx.part(range) };
            // SAFETY: the kernel uses slices.
            unsafe { dispatch(isa, LargestGradient { pooling: *self, rows, index, dy, dx }) }
        });
    }

    /// The sum at each place, divided by the place's divisor.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn mean(&self, pool: &Pool, isa: Isa, divisors: &[f32], x: &[f32], y: &mut [f32]) {
        self.check(x.len(), y.len());
        assert_eq!(divisors.len(), self.places(), "a divisor for each place");
        let y = SharedSlice::new(y);
        self.each_share(pool, self.rows_of_places(), self.row_of_places(), |rows, range| {
            // SAFETY: the threads' rows are disjoint.
            let y = unsafe { y.part(range) };
            // SAFETY: the kernel uses slices.
            unsafe { dispatch(isa, Mean { pooling: *self, rows, divisors, x, y }) }
        });
    }

    /// `dy -> dx`
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn mean_gradient(
        &self,
        pool: &Pool,
        isa: Isa,
        divisors: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        self.check(dx.len(), dy.len());
        assert_eq!(divisors.len(), self.places(), "a divisor for each place");
        let dx = SharedSlice::new(dx);
        self.each_share(pool, self.rows_of_pixels(), self.row_of_pixels(), |rows, range| {
            // SAFETY: the threads' rows are disjoint.
            let dx = unsafe { dx.part(range) };
            // SAFETY: the kernel uses slices.
            unsafe { dispatch(isa, MeanGradient { pooling: *self, rows, divisors, dy, dx }) }
        });
    }

    fn check(&self, x: usize, y: usize) {
        let pixels: usize = self.extents.iter().map(|extent| extent.image).product();
        assert_eq!(x, self.samples * pixels * self.channels, "elements of images");
        assert_eq!(y, self.samples * self.places() * self.channels, "elements of results");
    }

    fn places(&self) -> usize {
        self.extents.iter().map(|extent| extent.places).product()
    }

    fn rows_of_places(&self) -> usize {
        self.samples * self.extents[0].places * self.extents[1].places
    }

    fn row_of_places(&self) -> usize {
        self.extents[2].places * self.channels
    }

    fn rows_of_pixels(&self) -> usize {
        self.samples * self.extents[0].image * self.extents[1].image
    }

    fn row_of_pixels(&self) -> usize {
        self.extents[2].image * self.channels
    }

    /// Calls `share` with each thread's rows and the elements of these.
    fn each_share(
        &self,
        pool: &Pool,
        rows: usize,
        row: usize,
        share: impl Fn(Range<usize>, Range<usize>) + Sync,
    ) {
        pool.run(&|index| {
            let rows = split(rows, pool.threads(), index);
            share(rows.clone(), rows.start * row..rows.end * row);
        });
    }

    /// Calls `tap` for each tap of a place that lies in the image, in order, with the number of the
    /// pixel in the image.
    #[inline(always)]
    fn taps(&self, [depth, height, width]: [usize; 3], mut tap: impl FnMut(usize)) {
        let [depths, heights, widths] = &self.extents;
        for depth_tap in 0..depths.kernel {
            let Some(depth) = depths.source(depth, depth_tap) else { continue };
            for height_tap in 0..heights.kernel {
                let Some(height) = heights.source(height, height_tap) else { continue };
                let line = (depth * heights.image + height) * widths.image;
                for width_tap in 0..widths.kernel {
                    if let Some(width) = widths.source(width, width_tap) {
                        tap(line + width);
                    }
                }
            }
        }
    }

    /// Calls `place` for each place whose window covers pixels of a row of an image, in order, with the
    /// number of the place in the image and of the pixel in the row, once for each tap.
    #[inline(always)]
    fn covering(&self, [depth, height]: [usize; 2], mut place: impl FnMut(usize, usize)) {
        let [depths, heights, widths] = &self.extents;
        each_place(depths, depth, |at_depth| {
            each_place(heights, height, |at_height| {
                let line = (at_depth * heights.places + at_height) * widths.places;
                for at_width in 0..widths.places {
                    for tap in 0..widths.kernel {
                        if let Some(width) = widths.source(at_width, tap) {
                            place(line + at_width, width);
                        }
                    }
                }
            });
        });
    }
}

/// Calls `each` for every place with a tap at an element, in order.
#[inline(always)]
fn each_place(extent: &Extent, element: usize, mut each: impl FnMut(usize)) {
    let padded = element + extent.before;
    let reach = (extent.kernel - 1) * extent.dilation;
    let first = padded.saturating_sub(reach).div_ceil(extent.stride);
    for place in first..(padded / extent.stride + 1).min(extent.places) {
        if (padded - place * extent.stride).is_multiple_of(extent.dilation) {
            each(place);
        }
    }
}

/// Rows of places.
struct Mean<'a> {
    pooling: Pooling,
    rows: Range<usize>,
    divisors: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Mean<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Pooling { channels, extents: [depths, heights, widths], .. } = self.pooling;
        let image = depths.image * heights.image * widths.image * channels;
        let mut at = 0;
        for row in self.rows.clone() {
            let (plane, height) = (row / heights.places, row % heights.places);
            let (sample, depth) = (plane / depths.places, plane % depths.places);
            let x = &self.x[sample * image..(sample + 1) * image];
            for width in 0..widths.places {
                let place = (depth * heights.places + height) * widths.places + width;
                let divisor = V::splat(self.divisors[place]);
                for_each_vector!(V, channels, |channel, lanes| {
                    let (mut total, mut chain) = (V::splat(0.0), V::splat(0.0));
                    let mut room = CHAIN;
                    self.pooling.taps([depth, height, width], |pixel| {
                        if room == 0 {
                            (total, chain, room) = (total.add(chain), V::splat(0.0), CHAIN);
                        }
                        let from = x[pixel * channels..].as_ptr().wrapping_add(channel);
                        // SAFETY: the pixel lies in the image, and lanes stop at the last channel.
                        chain = chain.add(unsafe { load::<V>(from, lanes) });
                        room -= 1;
                    });
                    let to = self.y[at..].as_mut_ptr().wrapping_add(channel);
                    // SAFETY: the place lies in the rows of `y`.
                    unsafe { store(total.add(chain).div(divisor), to, lanes) };
                });
                at += channels;
            }
        }
    }
}

/// Rows of pixels.
struct MeanGradient<'a> {
    pooling: Pooling,
    rows: Range<usize>,
    divisors: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for MeanGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Pooling { channels, extents: [depths, heights, widths], .. } = self.pooling;
        let result = self.pooling.places() * channels;
        let len = widths.image * channels;
        for (row, dx) in self.rows.clone().zip(self.dx.chunks_exact_mut(len.max(1))) {
            let (plane, height) = (row / heights.image, row % heights.image);
            let (sample, depth) = (plane / depths.image, plane % depths.image);
            let dy = &self.dy[sample * result..(sample + 1) * result];
            dx.fill(0.0);
            self.pooling.covering([depth, height], |place, pixel| {
                let divisor = V::splat(self.divisors[place]);
                let dy = dy[place * channels..(place + 1) * channels].as_ptr();
                let to = dx[pixel * channels..(pixel + 1) * channels].as_mut_ptr();
                for_each_vector!(V, channels, |channel, lanes| {
                    // SAFETY: place and pixel have so many channels.
                    unsafe {
                        let share = load::<V>(dy.add(channel), lanes).div(divisor);
                        let to = to.add(channel);
                        store(load::<V>(to, lanes).add(share), to, lanes);
                    }
                });
            });
        }
    }
}
