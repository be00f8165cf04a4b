// SPDX-License-Identifier: MIT OR Apache-2.0
//! The nodes of a growing graph, found by operation and inputs.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

use crate::graph::{Graph, NodeId};
use crate::op::Op;

/// Nodes by a hash of operation and inputs.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The latest node with a hash.
    latest: BTreeMap<u64, NodeId>,
    /// For each node that has one, the node before with the same hash.
    before: BTreeMap<NodeId, NodeId>,
}

impl Known {
    /// The latest node that is this operation on these inputs.
    pub(super) fn find(&self, graph: &Graph, op: &Op, inputs: &[NodeId]) -> Option<NodeId> {
        let mut next = self.latest.get(&hash(op, inputs)).copied();
        while let Some(id) = next {
            let node = graph.node(id);
            if node.inputs == inputs && is_same(&node.op, op) {
                return Some(id);
            }
            next = self.before.get(&id).copied();
        }
        None
    }

    /// Makes a node known.
    pub(super) fn insert(&mut self, graph: &Graph, id: NodeId) {
        let node = graph.node(id);
        if let Some(before) = self.latest.insert(hash(&node.op, &node.inputs), id) {
            self.before.insert(id, before);
        }
    }
}

/// A hash of everything that commonly tells nodes apart. Options of an operation may be left out:
/// whether two nodes are the same is for [`is_same`] to say.
fn hash(op: &Op, inputs: &[NodeId]) -> u64 {
    let mut hasher = DefaultHasher::new();
    discriminant(op).hash(&mut hasher);
    inputs.hash(&mut hasher);
    match op {
        Op::Input(input) => input.hash(&mut hasher),
        Op::Parameter(parameter)
        | Op::Gradient(parameter, _)
        | Op::Update(parameter, _)
        | Op::Average(parameter) => parameter.hash(&mut hasher),
        Op::Constant(value) => value.to_bits().hash(&mut hasher),
        Op::Reshape(shape) | Op::Broadcast(shape) | Op::SumTo(shape) => shape.hash(&mut hasher),
        Op::Dropout(dropout) => (dropout.site, dropout.rate).hash(&mut hasher),
        _ => {}
    }
    hasher.finish()
}

/// Whether two operations are the same, bit for bit: 0 and -0 are equal numbers, but do not give
/// the same results. Text tells them apart, and so few nodes are equal that it costs nothing.
fn is_same(a: &Op, b: &Op) -> bool {
    a == b && format!("{a:?}") == format!("{b:?}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::graph::Builder;
    use crate::op::Unary;

    #[test]
    fn zeros_of_either_sign_are_two_constants() -> Result<(), crate::op::Mismatch> {
        let mut builder = Builder::new(Arc::new(vec![]));
        let mut known = Known::default();
        let positive = builder.add(Op::Constant(0.0), &[])?;
        let scaled = builder.add(Op::Unary(Unary::Scale(0.0)), &[positive])?;
        known.insert(builder.graph(), positive);
        known.insert(builder.graph(), scaled);
        let find = |op, inputs: &[NodeId]| known.find(builder.graph(), &op, inputs);
        assert_eq!(find(Op::Constant(0.0), &[]), Some(positive));
        assert_eq!(find(Op::Constant(-0.0), &[]), None);
        assert_eq!(find(Op::Unary(Unary::Scale(0.0)), &[positive]), Some(scaled));
        assert_eq!(find(Op::Unary(Unary::Scale(-0.0)), &[positive]), None);
        assert_eq!(find(Op::Unary(Unary::Scale(0.0)), &[scaled]), None);
        Ok(())
    }
}
