// SPDX-License-Identifier: MIT OR Apache-2.0
//! Products with a factor that is mostly zeros, as ReLU and dropout leave it.
//!
//! The non-zero values of a row are listed once (`lists`) and only they are multiplied
//! (`add_products`). Each output element is the same chains of fused additions in the order of the
//! reduction as in the dense kernels, so skipping a zero changes no bit of a sum of finite terms (but
//! for the sign of a sum that is zero). A zero also ignores an infinite or NaN partner, for which a
//! dense kernel returns NaN. `density` says when it pays.

mod add_products;
mod beside;
mod density;
pub(super) mod forward;
pub(super) mod input_gradient;
mod lists;
pub(super) mod weight_gradient;

pub(super) use density::is_sparse;

use super::{base, choice, dense, panels, tile};
