// SPDX-License-Identifier: MIT OR Apache-2.0
//! What operations on elements take, and how it is read.

use super::{View, MOST_AXES};
use crate::graph::{Graph, NodeId};
use crate::kernel::is_view;
use crate::op::Op;

/// An argument of an operation on elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    /// The node whose buffer is read.
    pub(super) node: NodeId,
    /// How it is read along the elements of the operation.
    pub(super) view: View,
    /// Reshapes and broadcasts between the two.
    pub(super) passed: Vec<NodeId>,
}

impl Operand {
    /// An argument of a user: the node behind reshapes, and the tensor behind a broadcast, which is
    /// read where it lies.
    pub(super) fn of(graph: &Graph, user: NodeId, argument: NodeId) -> Self {
        let elements = graph.node(user).ty.shape.elements();
        let mut operand = Operand { node: argument, view: View::dense(elements), passed: vec![] };
        operand.pass_reshapes(graph);
        while let Some(view) = operand.behind_broadcast(graph) {
            operand.view = view;
            operand.step_back(graph);
            operand.pass_reshapes(graph);
        }
        operand
    }

    /// Where a broadcast reads a tensor of which it is a copy.
    pub(super) fn of_copy(graph: &Graph, broadcast: NodeId) -> Self {
        let mut operand = Operand::of(graph, broadcast, broadcast);
        operand.passed.retain(|&node| node != broadcast);
        operand
    }

    fn pass_reshapes(&mut self, graph: &Graph) {
        while is_view(&graph.node(self.node).op) {
            self.step_back(graph);
        }
    }

    fn step_back(&mut self, graph: &Graph) {
        self.passed.push(self.node);
        self.node = graph.node(self.node).inputs[0];
    }

    /// How the tensor is read that the node broadcasts; `None` if the node is no broadcast, or one
    /// that an earlier broadcast does not allow to look behind.
    fn behind_broadcast(&self, graph: &Graph) -> Option<View> {
        let broadcast = graph.node(self.node);
        let Op::Broadcast(_) = broadcast.op else { return None };
        let small = graph.node(broadcast.inputs[0]);
        // One number remains one, however often it is broadcast.
        if self.view.is_number() && small.ty.shape.elements() == 1 {
            return Some(self.view.clone());
        }
        let view = View::of_broadcast(small, broadcast);
        (self.view.is_dense() && view.axes().len() <= MOST_AXES).then_some(view)
    }
}
