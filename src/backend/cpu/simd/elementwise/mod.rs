// SPDX-License-Identifier: MIT OR Apache-2.0
//! One value from one, or from a few at the same place: activations and their derivatives
//! (`activation`), the functions of vectors that they are made of (`math`), and the backward pass of
//! ReLU with dropout alone (`mask_non_zero`).

mod activation;
mod mask_non_zero;
mod math;

pub(crate) use activation::{activate, activate_gradient, activate_in_place, Activation};
pub(crate) use mask_non_zero::{mask_non_zero, MaskNonZero};
pub(crate) use math::exp;

use super::{base, split_by, Pool};
