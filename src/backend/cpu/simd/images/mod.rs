// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images that lie channels-last: convolutions with what is fused to them (`conv`), pooling
//! (`pooling`), and normalisation with the statistics that it needs (`normalize`).

mod conv;
mod normalize;
mod pooling;

pub(crate) use conv::{
    ChannelLine, Conv, ConvShape, ConvTail, ConvWay, ConvWeightGradient, Extent,
};
pub(crate) use normalize::{normalize, normalize_gradient, statistics, statistics_gradient};
pub(crate) use normalize::{Affine, Groups, Statistics, Sums};
pub(crate) use pooling::Pooling;

use super::{base, choice, elementwise, products, random, reductions};
use super::{split, split_by, Pool, Stores, APART};
