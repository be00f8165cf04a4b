// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values that only change places.

mod transpose;

pub(crate) use transpose::transpose;

use super::{base, split, Pool};
