// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where gradients are recorded.

use super::{Mismatch, NodeId, Op};
use crate::Shape;

/// A graph in the making, as operations see it when they record their gradients.
pub trait Record {
    /// Appends an operation on existing nodes.
    ///
    /// # Errors
    /// The [`Mismatch`] of the operation's shape rule, or of a result with more elements than
    /// tensors have.
    fn add(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId, Mismatch>;

    /// The node of a result of an operation that yields several, counted from 0.
    ///
    /// # Errors
    /// A [`Mismatch`] if the operation has fewer results.
    fn result(&mut self, node: NodeId, index: usize) -> Result<NodeId, Mismatch>;

    /// Inputs of a node.
    fn inputs(&self, id: NodeId) -> &[NodeId];

    /// Shape of a node's value.
    fn shape(&self, id: NodeId) -> &Shape;
}
