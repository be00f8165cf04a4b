// SPDX-License-Identifier: MIT OR Apache-2.0
//! The graph as kernels see it when they search it for what they can compute.

use super::{Facts, Kernel};
use crate::graph::{Graph, NodeId};
use crate::op::Op;

/// Nodes that one kernel computes together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cluster {
    /// The kernel.
    pub(crate) kernel: Kernel,
    /// The nodes, in topological order.
    pub(crate) nodes: Vec<NodeId>,
    /// The values it takes, in the kernel's order.
    pub(crate) inputs: Vec<NodeId>,
    /// The values it yields, in the kernel's order.
    pub(crate) outputs: Vec<NodeId>,
}

/// What kernels look at when they search the graph for what they can compute.
#[derive(Debug)]
pub(crate) struct Finder<'g> {
    /// The graph.
    pub(crate) graph: &'g Graph,
    /// The backend's abilities.
    pub(crate) facts: &'g Facts,
    users: Vec<Vec<NodeId>>,
    results: Vec<Vec<(usize, NodeId)>>,
    claimed: Vec<bool>,
    returned: Vec<bool>,
}

impl<'g> Finder<'g> {
    pub(crate) fn new(graph: &'g Graph, facts: &'g Facts) -> Self {
        let mut returned = vec![false; graph.nodes.len()];
        for output in graph.outputs() {
            returned[output.index()] = !graph.node(*output).op.is_effect();
        }
        let claimed = vec![false; graph.nodes.len()];
        Finder { graph, facts, users: graph.users(), results: graph.results(), claimed, returned }
    }

    /// Whether no cluster has the node yet.
    pub(crate) fn is_free(&self, id: NodeId) -> bool {
        !self.claimed[id.index()]
    }

    /// Whether the value is one that the run returns.
    pub(crate) fn is_returned(&self, id: NodeId) -> bool {
        self.returned[id.index()]
    }

    /// All users of a node's value.
    pub(crate) fn users(&self, id: NodeId) -> &[NodeId] {
        &self.users[id.index()]
    }

    /// The nodes of an operation's further results, each with the result's number, in order. The
    /// cluster that computes the operation has them too.
    pub(crate) fn results(&self, id: NodeId) -> &[(usize, NodeId)] {
        &self.results[id.index()]
    }

    /// The only user of a value, if it is free and nothing else can see the value.
    pub(crate) fn only_user(&self, id: NodeId) -> Option<NodeId> {
        match self.users(id) {
            [user] if self.is_free(*user) && !self.returned[id.index()] => Some(*user),
            _ => None,
        }
    }

    /// The only user, stepping over reshapes, which cost nothing; the reshapes on the way are
    /// appended to `passed`.
    pub(crate) fn only_user_past_views(
        &self,
        id: NodeId,
        passed: &mut Vec<NodeId>,
    ) -> Option<NodeId> {
        let mut user = self.only_user(id)?;
        let mut views = Vec::new();
        while is_view(&self.graph.node(user).op) {
            views.push(user);
            user = self.only_user(user)?;
        }
        passed.extend(views);
        Some(user)
    }

    pub(crate) fn claim(&mut self, cluster: &Cluster) {
        for id in &cluster.nodes {
            self.claimed[id.index()] = true;
        }
    }
}

/// Values that need no step: they are given, or stand in the code of the kernels that use them.
pub(crate) fn is_leaf(op: &Op) -> bool {
    matches!(op, Op::Input(_) | Op::Parameter(_) | Op::Constant(_) | Op::Scalar(_))
}

/// Operations that only rename a buffer.
pub(crate) fn is_view(op: &Op) -> bool {
    matches!(op, Op::Reshape(_))
}

/// Operations that have no step of their own where all that take their values look behind them.
pub(crate) fn is_read_through(op: &Op) -> bool {
    is_view(op) || matches!(op, Op::Broadcast(_))
}

/// The node whose buffer a view renames.
pub(crate) fn origin(graph: &Graph, mut id: NodeId) -> NodeId {
    while is_view(&graph.node(id).op) {
        id = graph.node(id).inputs[0];
    }
    id
}
