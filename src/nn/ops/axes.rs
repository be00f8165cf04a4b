// SPDX-License-Identifier: MIT OR Apache-2.0
//! How axes are named.

use std::fmt;

use crate::op::Mismatch;

/// An axis of a tensor: counted from the outermost, or from the end if negative, so that -1 is the
/// innermost. Every function that takes axes takes integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis(isize);

/// What becomes of the axes that a sum, a mean or the like is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// They are gone.
    #[default]
    Nothing,
    /// They stay, with extents of 1: PyTorch's `keepdim=True`.
    Extents,
}

impl Axis {
    /// Number of the axis in a tensor of some rank.
    pub(super) fn of(self, rank: usize) -> Result<usize, Mismatch> {
        let from_the_end = self.0.unsigned_abs();
        let number = match self.0 {
            0.. => Some(from_the_end).filter(|&axis| axis < rank),
            _ => rank.checked_sub(from_the_end),
        };
        number.ok_or_else(|| match rank {
            0 => Mismatch::new("a tensor that has axes", "one number"),
            _ => Mismatch::new(format!("an axis from -{rank} to {}", rank - 1), self),
        })
    }

    /// Numbers of several axes, in ascending order.
    pub(super) fn all(
        axes: impl IntoIterator<Item = impl Into<Axis>>,
        rank: usize,
    ) -> Result<Vec<usize>, Mismatch> {
        let mut numbers = Vec::new();
        for axis in axes {
            let axis = axis.into();
            let number = axis.of(rank)?;
            if numbers.contains(&number) {
                return Err(Mismatch::new("each axis once", format!("axis {axis} again")));
            }
            numbers.push(number);
        }
        numbers.sort_unstable();
        match numbers.is_empty() {
            true => Err(Mismatch::new("one axis or more", "none")),
            false => Ok(numbers),
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<i32> for Axis {
    fn from(axis: i32) -> Self {
        Axis(axis as isize)
    }
}

impl From<isize> for Axis {
    fn from(axis: isize) -> Self {
        Axis(axis)
    }
}

impl From<usize> for Axis {
    /// An axis that no tensor has, where the number is larger still.
    fn from(axis: usize) -> Self {
        Axis(isize::try_from(axis).unwrap_or(isize::MAX))
    }
}
