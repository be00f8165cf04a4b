// SPDX-License-Identifier: MIT OR Apache-2.0
//! How convolutions are computed: the shape of one sample decides, and what the backend says of itself.

use super::{Facts, ImageKernels};
use crate::op::{spatial, Conv};
use crate::{Precision, Shape};

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvWay {
    /// By the sums that it means.
    Direct,
    /// By squares of 4 by 4 results, each from 36 products for a pair of channels instead of 144:
    /// Winograd's F(4x4, 3x3). Errors are within 1e-5 of the largest result.
    Winograd,
}

/// Channels that outweigh the transforms of squares, and whose sums one chain holds.
const CHANNELS: std::ops::RangeInclusive<usize> = 32..=1024;

/// Results of a square along an extent.
const SQUARE: usize = 4;

impl ConvWay {
    /// The way for images, filters and results of these shapes.
    pub(super) fn of(facts: &Facts, conv: &Conv, x: &Shape, filters: &Shape, y: &Shape) -> Self {
        let window = &conv.window;
        let [_, height, width] = window.kernel;
        // Squares that hang over the edges are computed in full.
        let is_mostly_inside = |shape: &Shape| {
            let [_, height, width] = spatial(shape);
            let [down, across] = [height, width].map(|extent| extent.next_multiple_of(SQUARE));
            10 * height * width >= 6 * down * across
        };
        let pays = facts.images == ImageKernels::Own
            && conv.factors == Precision::F32
            && conv.groups == 1
            && window.kernel[0] == 1
            && window.padding[0] == [0; 2]
            && [height, width] == [3; 2]
            && window.stride == [1; 3]
            && window.dilation == [1; 3]
            && window.padding[1..].iter().all(|[before, _]| *before < 3)
            && filters.dims()[..2].iter().all(|channels| CHANNELS.contains(channels))
            && is_mostly_inside(x)
            && is_mostly_inside(y);
        match pays {
            true => ConvWay::Winograd,
            false => ConvWay::Direct,
        }
    }
}
