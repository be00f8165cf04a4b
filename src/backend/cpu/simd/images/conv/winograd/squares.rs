// SPDX-License-Identifier: MIT OR Apache-2.0
//! Squares of images, and what they become when they are transformed.

use super::base::{load, Kernel, Vector};
use super::transforms::{both, GradientToPoints, SourceToPoints, POINTS, RESULTS};
use super::{CHANNELS, PRODUCTS};

/// Images of so many pixels and channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Images {
    pub(super) data: *const f32,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

/// Squares that cover the results of all images, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) images: usize,
    /// Squares of an image: down, across.
    pub(super) squares: [usize; 2],
}

/// A square: the image and the first result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Square {
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Grid {
    pub(super) fn over(images: usize, [height, width]: [usize; 2]) -> Self {
        Grid { images, squares: [height.div_ceil(RESULTS), width.div_ceil(RESULTS)] }
    }

    pub(super) fn count(&self) -> usize {
        self.images * self.squares[0] * self.squares[1]
    }

    pub(super) fn get(&self, index: usize) -> Square {
        let [down, across] = self.squares;
        let (rest, column) = (index / across, index % across);
        Square { image: rest / down, row: rest % down * RESULTS, column: column * RESULTS }
    }
}

/// Where a transformed square goes: product `p` of channel `c` to
/// `to + p * product + c / 16 * chunk + c % 16`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) to: *mut f32,
    pub(super) product: usize,
    pub(super) chunk: usize,
}

/// The elements that a square's results see, transformed. Channels behind the last are 0.
pub(super) struct OfSource {
    pub(super) images: Images,
    pub(super) image: usize,
    /// The first row and column; they may lie outside.
    pub(super) first: [isize; 2],
    pub(super) place: Place,
}

impl Kernel for OfSource {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let OfSource { images, image, first, place } = self;
        let window = Window::new(&images, first, POINTS);
        for channel in (0..images.channels.next_multiple_of(CHANNELS)).step_by(V::LANES) {
            let lanes = images.channels.saturating_sub(channel).min(V::LANES);
            let to = place.to.wrapping_add(channel / CHANNELS * place.chunk + channel % CHANNELS);
            // SAFETY: the caller's: the window keeps inside the image, lanes inside its channels.
            let from = |row: usize, column: usize| unsafe {
                window.load::<V>(&images, image, [row, column], channel, lanes)
            };
            both::<V, SourceToPoints, POINTS, POINTS>(from, |row, column, value| {
                let product = (row * POINTS + column) * place.product;
                // SAFETY: the caller's.
                unsafe { value.store(to.wrapping_add(product)) };
            });
        }
    }
}

/// The gradients of a square's results, transformed: channels from `first_channel` on.
pub(super) struct OfGradient {
    pub(super) images: Images,
    pub(super) square: Square,
    pub(super) first_channel: usize,
    /// Channels that are stored; those behind the last are 0.
    pub(super) channels: usize,
    pub(super) place: Place,
}

impl Kernel for OfGradient {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let OfGradient { images, square, first_channel, channels, place } = self;
        let window = Window::new(&images, [square.row as isize, square.column as isize], RESULTS);
        for at in (0..channels).step_by(V::LANES) {
            let channel = first_channel + at;
            let lanes = images.channels.saturating_sub(channel).min(V::LANES);
            // SAFETY: the caller's: the window keeps inside the image, lanes inside its channels.
            let from = |row: usize, column: usize| unsafe {
                window.load::<V>(&images, square.image, [row, column], channel, lanes)
            };
            both::<V, GradientToPoints, RESULTS, POINTS>(from, |row, column, value| {
                let product = (row * POINTS + column) * place.product;
                // SAFETY: the caller's.
                unsafe { value.store(place.to.wrapping_add(product + at)) };
            });
        }
    }
}

/// The part of a square window that lies in the image.
struct Window {
    first: [isize; 2],
    rows: [usize; 2],
    columns: [usize; 2],
}

impl Window {
    fn new(images: &Images, first: [isize; 2], size: usize) -> Self {
        let inside = |first: isize, extent: usize| {
            let from = (-first).clamp(0, size as isize) as usize;
            let end = (extent as isize - first).clamp(from as isize, size as isize) as usize;
            [from, end]
        };
        let (rows, columns) = (inside(first[0], images.height), inside(first[1], images.width));
        Window { first, rows, columns }
    }

    /// Channels of a pixel; 0 outside the image.
    ///
    /// # Safety
    /// The image is one of `images`, and `lanes` stop at its last channel.
    #[inline(always)]
    unsafe fn load<V: Vector>(
        &self,
        images: &Images,
        image: usize,
        [row, column]: [usize; 2],
        channel: usize,
        lanes: usize,
    ) -> V {
        let inside = |at: usize, [from, end]: [usize; 2]| from <= at && at < end;
        if lanes == 0 || !inside(row, self.rows) || !inside(column, self.columns) {
            return V::splat(0.0);
        }
        let row = (self.first[0] + row as isize) as usize;
        let column = (self.first[1] + column as isize) as usize;
        let pixel = (image * images.height + row) * images.width + column;
        // SAFETY: the caller's; the pixel lies in the image.
        unsafe { load(images.data.wrapping_add(pixel * images.channels + channel), lanes) }
    }
}

/// Elements of products of so many squares, with a line between one product and the next: at a power of
/// two, all products of a square would compete for a few lines of the first cache.
pub(super) fn product_len(elements: usize) -> usize {
    elements.next_multiple_of(CHANNELS) + CHANNELS
}

/// Elements of all products.
pub(super) fn products_len(elements: usize) -> usize {
    PRODUCTS * product_len(elements)
}
