// SPDX-License-Identifier: MIT OR Apache-2.0
//! One value from a few at the same place: chains of any functions (`chain`), activations inside other
//! kernels (`activation`), and the functions of vectors that both are made of.

mod activation;
mod angle;
mod chain;
mod logarithm;
pub(crate) mod math;
mod power;

pub(crate) use activation::{activate_in_place, Activation};
pub(crate) use chain::chain;
pub(crate) use math::exp;

use super::{base, choice, split, Pool, Stores};
