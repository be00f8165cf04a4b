// SPDX-License-Identifier: MIT OR Apache-2.0
//! Merging extents.

use super::Module;
use crate::graph::Var;

/// Merges all extents from `start` on into one, as `torch.nn.Flatten(start_dim)`.
///
/// # Shapes
/// `[samples, d1, d2, ...]` becomes `[samples, d1 * d2 * ...]` with the default start of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten {
    /// The first extent that is merged.
    pub start: usize,
}

impl Default for Flatten {
    fn default() -> Self {
        Flatten { start: 1 }
    }
}

impl Module for Flatten {
    fn forward(&self, x: &Var) -> Var {
        x.flatten(self.start)
    }
}
