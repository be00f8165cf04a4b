// SPDX-License-Identifier: MIT OR Apache-2.0
//! How threads divide a product.

use super::choice::{split_of, Split};
use super::split;
use std::ops::Range;

/// The panels and rows of a share.
pub(super) fn share_of(
    panels: usize,
    rows: usize,
    index: usize,
    shares: usize,
) -> (Range<usize>, Range<usize>) {
    match split_of(panels, rows, shares) {
        Split::Panels => (split(panels, shares, index), 0..rows),
        Split::Rows => (0..panels, split(rows, shares, index)),
    }
}
