// SPDX-License-Identifier: MIT OR Apache-2.0
//! Products that multiply everything, zeros included, one register tile after the other.

pub(super) mod forward;
pub(super) mod input_gradient;
pub(super) mod weight_gradient;
