// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPU backend's hot loops, as functions on slices that know nothing of graphs.
//!
//! One generic text per loop, written over the private `Vector` trait, is compiled once per
//! instruction set and chosen at run time by [`Isa`]. Results do not depend on the number of
//! threads. Between instruction sets sums may round differently; mask bits never differ.
//!
//! Sums over an output's inputs run in the order of the inputs, in chains of 1024 terms, whatever the
//! tiling, so a split of rows or panels over threads changes no bit.
//!
//! Loops are ordered by family: `elementwise`, `random`, `moving`, `reductions`, `optimiser`,
//! `products` and `images`, on top of `base`. A family takes from those before it in this list. `peak` is
//! what they are compared with.

// Tile loops index several arrays by constants; as iterators they are neither shorter nor unrolled.
#![allow(clippy::needless_range_loop)]

mod base;
mod elementwise;
mod images;
mod moving;
mod optimiser;
pub(super) mod peak;
mod products;
mod random;
mod recurrent;
mod reductions;

pub(crate) use base::Isa;
pub(crate) use elementwise::{chain, Activation};
pub(crate) use images::{
    normalize, normalize_gradient, statistics, statistics_gradient, Affine, ChannelLine, Conv,
    ConvShape, ConvTail, ConvWay, ConvWeightGradient, Extent, Groups, Pooling, Statistics, Sums,
};
pub(crate) use moving::{blend, copy, gather, gather_gradient, take, take_gradient, transpose};
pub(crate) use optimiser::{
    average, update, Average, Decay, Moments, Nesterov, Step, UpdateRule, Updated,
};
pub(crate) use products::{
    matmul, Forward, GradientTail, InputGradient, MaskNonZero, PanelLayout, Start, Strides,
    WeightGradient,
};
pub(crate) use random::{dropout, dropout_columns, Columns, Dropout, MaskRows};
pub(crate) use recurrent::{RecurrentBackward, RecurrentForward, Sequences, Slopes, Weights};
pub(crate) use reductions::{
    column_sums, cross_entropy, log_softmax_rows, reduce, softmax_rows, sum_of_squares,
    target_weight, CrossEntropy,
};

use super::choice;
use super::exchange::{Readers, Stores, APART};
use super::pool::{split, split_by, Pool};

#[cfg(test)]
mod tests;
