// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a layer holds of a parameter.

use super::ParamId;
use crate::Shape;

/// The identity of a parameter; its numbers live in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    id: ParamId,
    shape: Shape,
}

impl Param {
    pub(crate) fn new(id: ParamId, shape: Shape) -> Self {
        Param { id, shape }
    }

    /// The parameter's shape, as PyTorch has it.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) fn id(&self) -> ParamId {
        self.id
    }
}
