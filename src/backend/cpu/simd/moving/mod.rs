// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values that only change places.

mod copy;
mod indexed;
mod transpose;

pub(crate) use copy::copy;
pub(crate) use indexed::{gather, gather_gradient, take, take_gradient};
pub(crate) use transpose::transpose;

use super::{base, split, Pool};
