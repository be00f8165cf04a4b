// SPDX-License-Identifier: MIT OR Apache-2.0
//! How parameters follow from gradients: SGD, Adam and AdamW over slices, alone or in the tail of the
//! product that computes the gradient.

mod average;
mod update;

pub(crate) use average::{average, Average};
pub(crate) use update::{update, Decay, Moments, Nesterov, Step, Target, UpdateRule, Updated};

use super::{base, split_by, Pool, Stores};
