// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which steps a pass makes of a sequence, and in which order.

use super::{Direction, Extents};

/// The steps of a sample in the order in which they are made, at most as many as there are. A length
/// that no sequence can have counts as the nearest that one can.
pub(super) fn times(direction: Direction, extents: &Extents, length: Option<f64>) -> Vec<usize> {
    let all = extents.steps;
    let length = length.map_or(all, |length| length.clamp(0.0, all as f64) as usize);
    match direction {
        Direction::Forward => (0..length).collect(),
        Direction::Reverse => (0..length).rev().collect(),
    }
}
