// SPDX-License-Identifier: MIT OR Apache-2.0
//! The largest element of each window, and where its gradient goes.

use super::super::base::{for_each_vector, load, store, Kernel, Vector};
use super::Pooling;
use std::ops::Range;

/// Vectors of channels that are pooled side by side: a window is walked once for all of them.
const SIDE_BY_SIDE: usize = 4;

/// Rows of places.
pub(super) struct Largest<'a> {
    pub(super) pooling: Pooling,
    pub(super) rows: Range<usize>,
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
    /// Empty if nobody asks.
    pub(super) index: &'a mut [f32],
}

impl Kernel for Largest<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let Pooling { channels, extents: [depths, heights, widths], .. } = self.pooling;
        let image = depths.image * heights.image * widths.image * channels;
        let (x, mut at) = (self.x, 0);
        for row in self.rows.clone() {
            let (plane, height) = (row / heights.places, row % heights.places);
            let (sample, depth) = (plane / depths.places, plane % depths.places);
            let x = &x[sample * image..(sample + 1) * image];
            for width in 0..widths.places {
                let place = [depth, height, width];
                let mut channel = 0;
                while channel < channels {
                    let whole = channels - channel >= SIDE_BY_SIDE * V::LANES;
                    let lanes = V::LANES.min(channels - channel);
                    // SAFETY: the place lies in the rows of `y` and of `index`.
                    unsafe {
                        if whole {
                            self.place::<V, SIDE_BY_SIDE>(x, place, at, channel, lanes);
                            channel += SIDE_BY_SIDE * lanes;
                        } else {
                            self.place::<V, 1>(x, place, at, channel, lanes);
                            channel += lanes;
                        }
                    }
                }
                at += channels;
            }
        }
    }
}

impl Largest<'_> {
    /// `N` vectors of channels of a place, whose result lies at `at`.
    ///
    /// # Safety
    /// The place has these channels, with more than one vector all lanes.
    #[inline(always)]
    unsafe fn place<V: Vector, const N: usize>(
        &mut self,
        x: &[f32],
        place: [usize; 3],
        at: usize,
        channel: usize,
        lanes: usize,
    ) {
        let (mut largest, mut number) = ([V::splat(f32::NEG_INFINITY); N], [V::splat(0.0); N]);
        let mut is_first = true;
        self.pooling.taps(place, |pixel| {
            let from = x[pixel * self.pooling.channels..].as_ptr().wrapping_add(channel);
            let own = V::splat(f32::from_bits(pixel as u32));
            for vector in 0..N {
                let from = from.wrapping_add(vector * V::LANES);
                // SAFETY: the pixel lies in the image, and lanes stop at the last channel.
                let value = unsafe { load::<V>(from, lanes) };
                if is_first {
                    (largest[vector], number[vector]) = (value, own);
                    continue;
                }
                let (greater, is_nan) = (value.greater(largest[vector]), value.differs(value));
                largest[vector] = V::select(greater, value, largest[vector]);
                largest[vector] = V::select(is_nan, value, largest[vector]);
                number[vector] = V::select(greater, own, number[vector]);
                number[vector] = V::select(is_nan, own, number[vector]);
            }
            is_first = false;
        });
        for vector in 0..N {
            let channel = channel + vector * V::LANES;
            // SAFETY: the caller's.
            unsafe {
                store(largest[vector], self.y[at..].as_mut_ptr().wrapping_add(channel), lanes);
                if !self.index.is_empty() {
                    let to = self.index[at..].as_mut_ptr();
                    store(number[vector], to.wrapping_add(channel), lanes);
                }
            }
        }
    }
}

/// Rows of pixels.
pub(super) struct LargestGradient<'a> {
    pub(super) pooling: Pooling,
    pub(super) rows: Range<usize>,
    pub(super) index: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: &'a mut [f32],
}

impl Kernel for LargestGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Pooling { channels, extents: [depths, heights, widths], .. } = self.pooling;
        let result = self.pooling.places() * channels;
        let len = widths.image * channels;
        for (row, dx) in self.rows.clone().zip(self.dx.chunks_exact_mut(len.max(1))) {
            let (plane, height) = (row / heights.image, row % heights.image);
            let (sample, depth) = (plane / depths.image, plane % depths.image);
            let range = sample * result..(sample + 1) * result;
            let (index, dy) = (&self.index[range.clone()], &self.dy[range]);
            let line = (depth * heights.image + height) * widths.image;
            dx.fill(0.0);
            self.pooling.covering([depth, height], |place, pixel| {
                let own = V::splat(f32::from_bits((line + pixel) as u32));
                let from = place * channels..(place + 1) * channels;
                let (index, dy) = (index[from.clone()].as_ptr(), dy[from].as_ptr());
                let to = dx[pixel * channels..(pixel + 1) * channels].as_mut_ptr();
                for_each_vector!(V, channels, |channel, lanes| {
                    // SAFETY: place and pixel have so many channels.
                    unsafe {
                        let index = load::<V>(index.add(channel), lanes);
                        let dy = load::<V>(dy.add(channel), lanes);
                        let dy = V::select(index.same_bits(own), dy, V::splat(0.0));
                        let to = to.add(channel);
                        store(load::<V>(to, lanes).add(dy), to, lanes);
                    }
                });
            });
        }
    }
}
