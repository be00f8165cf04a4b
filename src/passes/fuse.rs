// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuse pass: covers the graph with kernels.
//!
//! The graph itself stays as it is. Each cluster names the nodes that one kernel computes; what the
//! kernel must compute is what those nodes mean, and that is how it is tested.

use crate::backend::Facts;
use crate::graph::{Graph, NodeId};
use crate::kernel::{self, Kernel};
use crate::op::Op;
use crate::{Error, Result};

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

/// Covers the graph: the kernels that replace most are tried first, each remaining node gets the
/// kernel of its operation.
pub(super) fn clusters(graph: &Graph, facts: &Facts) -> Result<Vec<Cluster>> {
    let mut finder = Finder::new(graph, facts);
    let mut clusters: Vec<Cluster> = Vec::new();
    for find in kernel::FINDERS {
        for (id, _) in graph.nodes() {
            if finder.is_free(id) {
                if let Some(cluster) = find(&finder, id) {
                    finder.claim(&cluster);
                    clusters.push(cluster);
                }
            }
        }
    }
    for (id, node) in graph.nodes() {
        if finder.is_free(id) && !is_leaf(&node.op) && !is_view(&node.op) {
            let cluster = kernel::single(&finder, id);
            finder.claim(&cluster);
            clusters.push(cluster);
        }
    }
    check_cover(graph, &clusters)?;
    Ok(clusters)
}

impl<'g> Finder<'g> {
    fn new(graph: &'g Graph, facts: &'g Facts) -> Self {
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

    fn claim(&mut self, cluster: &Cluster) {
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

/// Every node is computed exactly once.
fn check_cover(graph: &Graph, clusters: &[Cluster]) -> Result<()> {
    let mut count = vec![0; graph.nodes.len()];
    for id in clusters.iter().flat_map(|cluster| &cluster.nodes) {
        count[id.index()] += 1;
    }
    let wrong = graph.nodes().find(|(id, node)| {
        let free_of_charge = is_leaf(&node.op) || is_view(&node.op);
        count[id.index()] > 1 || (count[id.index()] == 0 && !free_of_charge)
    });
    match wrong {
        None => Ok(()),
        Some((id, node)) => Err(Error::Internal {
            pass: "fuse",
            message: format!(
                "node {id:?} ({}) is computed {} times",
                node.op.name(),
                count[id.index()]
            ),
        }),
    }
}
