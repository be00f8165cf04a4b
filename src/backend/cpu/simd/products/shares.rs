// SPDX-License-Identifier: MIT OR Apache-2.0
//! How threads divide a product.

use super::split;
use super::tile::MAX_TILE_ROWS;
use std::ops::Range;

/// Splits panels among the shares, or rows where panels would leave a share idle or overloaded.
pub(super) fn share_of(
    panels: usize,
    rows: usize,
    index: usize,
    shares: usize,
) -> (Range<usize>, Range<usize>) {
    if !go_round(panels, shares) && rows >= MAX_TILE_ROWS * shares {
        (0..panels, split(rows, shares, index))
    } else {
        (split(panels, shares, index), 0..rows)
    }
}

/// Whether panels can be split among the shares about evenly.
pub(super) fn go_round(panels: usize, shares: usize) -> bool {
    panels.is_multiple_of(shares) || panels >= 4 * shares
}
