// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPU backend's hot loops, as functions on slices that know nothing of graphs.
//!
//! One generic text per loop, written over the private `Vector` trait, is compiled once per
//! instruction set and chosen at run time by [`Isa`]. Results do not depend on the number of
//! threads. Between instruction sets sums may round differently; mask bits never differ.
//!
//! Sums over an output's inputs run in the order of the inputs, in chains of 1024 terms, whatever the
//! tiling, so a split of rows or panels over threads changes no bit. Dot products, where a mask drops most of an input's
//! gradient, add up lane by lane instead, in an order that does not depend on the split either.

// Tile loops index several arrays by constants; as iterators they are neither shorter nor unrolled.
#![allow(clippy::needless_range_loop)]

mod activation;
mod avx2;
mod avx512;
mod beside;
mod cross_entropy;
mod dropout;
mod forward;
mod input_gradient;
mod isa;
mod keep;
mod masked;
mod masked_forward;
mod masked_input_gradient;
mod math;
mod panels;
mod portable;
mod product;
mod reduce;
mod shared;
mod softmax;
mod sparse;
mod sparse_forward;
mod sparse_input_gradient;
mod sparse_weight_gradient;
mod tile;
mod transpose;
mod update;
mod vector;
mod weight_gradient;

pub(crate) use activation::{activate, activate_gradient, Activation};
pub(crate) use cross_entropy::{cross_entropy, target_weight, CrossEntropy};
pub(crate) use dropout::{dropout, mask_non_zero, Dropout};
pub(crate) use forward::{Forward, Start};
pub(crate) use input_gradient::{InputGradient, MaskNonZero};
pub(crate) use isa::Isa;
pub(crate) use panels::PanelLayout;
pub(crate) use product::{matmul, Strides};
pub(crate) use reduce::{column_sums, sum_of_squares};
pub(crate) use shared::SharedSlice;
pub(crate) use softmax::{log_softmax_rows, softmax_rows};
pub(crate) use transpose::transpose;
pub(crate) use update::{update, Decay, Moments, Nesterov, Step, UpdateRule, Updated};
pub(crate) use weight_gradient::{GradientTail, WeightGradient};

use super::exchange::{Readers, Stores, APART};
use super::pool::{split, split_by, Pool};

#[cfg(test)]
mod tests;
