// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks: which elements dropout keeps (`keep`), and dropout alone, of elements (`dropout`) and of
//! columns (`columns`). Linear layers and convolutions draw theirs in their own loops.

mod columns;
mod dropout;
mod keep;

pub(crate) use columns::{dropout_columns, Columns};
pub(crate) use dropout::{dropout, Dropout, MaskRows};
pub(crate) use keep::keep_runs;

use super::{base, choice, split_by, Pool};
