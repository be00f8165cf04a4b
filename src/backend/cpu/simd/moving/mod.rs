// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values that only change places, and weighted sums along an extent (`blend`).

mod blend;
mod copy;
mod indexed;
mod transpose;

pub(crate) use blend::blend;
pub(crate) use copy::copy;
pub(crate) use indexed::{gather, gather_gradient, take, take_gradient};
pub(crate) use transpose::transpose;

use super::{base, split, Pool};
