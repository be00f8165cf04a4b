// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers: step after step, with the products of a step and what its units make of them near
//! one another.
//!
//! Samples do not see one another, so threads divide them, and each goes through time by itself. What a
//! thread works on at a time is a block of samples whose products stay in its second cache. A step is a
//! product of hidden states and the recurrent weight, as for linear layers (`weights` brings weights into
//! the panels that it takes), and then a pass over the sums (`units`, `slopes`). `forward` and `backward`
//! are the walks through time, `sequences` says who is where in it.

mod backward;
mod forward;
mod sequences;
mod slopes;
mod units;
mod weights;

pub(crate) use backward::{RecurrentBackward, Slopes};
pub(crate) use forward::RecurrentForward;
pub(crate) use sequences::Sequences;
pub(crate) use weights::Weights;

use super::base;
use super::elementwise::math;
use super::products::{Forward, PanelLayout, Start};
use super::{split, Activation, Pool, Stores};
