// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matrix products, and what linear layers do in the same visit of the result.
//!
//! A linear layer has three: its [`Forward`] pass, and the gradients of its input
//! ([`InputGradient`]) and of its weights ([`WeightGradient`]). Each of `forward`, `input_gradient`
//! and `weight_gradient` checks the lengths, gives every thread a share (`shares`) and chooses, share
//! by share, how to multiply: `dense` multiplies everything in register tiles (`tile`), `sparse` lists
//! the values that are not zero and multiplies only those. Weights lie in `panels`. What becomes of a
//! gradient is its `tail`. Products of any other shape are `matmul`'s.

mod dense;
mod forward;
mod input_gradient;
mod matmul;
mod panels;
mod shares;
mod sparse;
mod tail;
mod tile;
mod weight_gradient;

pub(crate) use forward::{Forward, Start};
pub(crate) use input_gradient::{InputGradient, MaskNonZero};
pub(crate) use matmul::{matmul, Strides};
pub(crate) use panels::{PanelLayout, HALF_PANEL, PANEL};
pub(crate) use tail::{GradientTail, Tail};
pub(crate) use tile::{add_chain, Factors, CHAIN};
pub(crate) use weight_gradient::WeightGradient;

use super::{base, choice, elementwise, optimiser, random, reductions};
use super::{split, Pool, Readers, Stores};
