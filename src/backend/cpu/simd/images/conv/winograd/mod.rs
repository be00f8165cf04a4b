// SPDX-License-Identifier: MIT OR Apache-2.0
//! Winograd's way to convolve with 3 by 3 taps, stride 1: images are cut into squares of 4 by 4
//! results, each of which sees 6 by 6 elements. Transformed, a square's convolution is 36 products of
//! an element and a weight for each pair of channels, where the sums themselves take 144. Over all
//! squares these are 36 matrix products.
//!
//! Sums are rounded otherwise than those of [`super::direct`]: errors are within 1e-5 of the largest
//! result (about 3e-6), where direct sums come within 3e-7. Every square is computed by itself, so
//! results depend neither on other samples nor on threads.

mod filters;
mod results;
mod squares;
mod taps;
mod transforms;
mod weight_gradient;

pub(super) use results::run;
pub(super) use weight_gradient::weight_gradient;

use super::products::CHAIN;
use super::shape::{ConvShape, Extent};
use super::{base, products, reductions, tail, with_room};
use super::{split, Pool};
use transforms::{POINTS, TAPS};

/// Products that stand for a square.
const PRODUCTS: usize = POINTS * POINTS;

/// Channels that lie side by side in a transformed square: whole vectors of every instruction set.
const CHANNELS: usize = 16;

/// Most channels of a source: their products are summed in one chain.
const MOST_CHANNELS: usize = CHAIN;

impl ConvShape {
    /// Whether the convolution can be computed by squares.
    pub(crate) fn has_squares(&self) -> bool {
        let [depth, height, width] = &self.extents;
        let fits = |extent: &Extent| {
            extent.kernel == TAPS
                && extent.stride == 1
                && extent.dilation == 1
                && extent.before < TAPS
        };
        let is_flat = depth.kernel == 1
            && depth.stride == 1
            && depth.before == 0
            && depth.places == depth.image;
        is_flat
            && [height, width].into_iter().all(fits)
            && self.groups == 1
            && self.inputs.max(self.outputs) <= MOST_CHANNELS
    }
}
