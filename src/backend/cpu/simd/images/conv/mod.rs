// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions of images that lie channels-last: `[samples, depth, height, width, channels]`.
//!
//! A convolution's forward pass and its input's gradient are the same sums in other words: each element
//! of a target is a sum over taps and channels of a source. So one loop computes both, in register tiles
//! of pixels by channels; no image is spread out into a matrix. The weights' gradient sums over
//! pixels in tiles of input channels by output channels.

mod depthwise;
mod direct;
mod filters;
mod rows;
mod shape;
mod sweep;
mod tail;
mod weight_gradient;
mod winograd;

pub(crate) use direct::{Conv, ConvWay};
pub(crate) use shape::{ConvShape, Extent};
pub(crate) use tail::{ChannelLine, ConvTail};
pub(crate) use weight_gradient::ConvWeightGradient;

use super::base::{on_line, LINE};
use super::{base, choice, elementwise, products, random, reductions, split, Pool, Stores};
use std::cell::RefCell;
use std::thread::LocalKey;

/// Memory of a thread that grows once and stays.
type Scratch = LocalKey<RefCell<Vec<f32>>>;

/// Calls `with` a scratch of so many elements, which begin at a cache line and hold anything.
fn with_room<T>(scratch: &'static Scratch, elements: usize, with: impl FnOnce(*mut f32) -> T) -> T {
    scratch.with_borrow_mut(|scratch| {
        if scratch.len() < elements + LINE {
            scratch.clear();
            scratch.resize(elements + LINE, 0.0);
        }
        with(on_line(scratch.as_mut_ptr()))
    })
}
