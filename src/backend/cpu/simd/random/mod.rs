// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks: which elements dropout keeps (`keep`), and dropout alone (`dropout`). Linear layers draw
//! theirs in their own loops.

mod dropout;
mod keep;

pub(crate) use dropout::{dropout, Dropout};
pub(crate) use keep::keep_runs;

use super::{base, choice, split_by, Pool};
