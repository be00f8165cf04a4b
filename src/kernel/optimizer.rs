// SPDX-License-Identifier: MIT OR Apache-2.0
//! The optimiser over all parameters in one flat pass.

use super::{Clip, Kernel};
use super::{Cluster, Finder};
use crate::graph::NodeId;
use crate::op::{Op, Update};

/// `global_norm -> clip_coefficient`: one pass over the gradients gives both.
pub(super) fn find_clip_norm(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    if graph.node(root).op != Op::GlobalNorm {
        return None;
    }
    let clips = |id: &NodeId| matches!(graph.node(*id).op, Op::ClipCoefficient(_));
    let coefficient = finder.users(root).iter().copied().find(clips)?;
    let Op::ClipCoefficient(max_norm) = graph.node(coefficient).op else { return None };
    Some(Cluster {
        kernel: Kernel::ClipNorm { max_norm },
        nodes: vec![root, coefficient],
        inputs: graph.node(root).inputs.clone(),
        outputs: vec![root, coefficient],
    })
}

/// All updates that no other kernel took along and whose rules differ in their weight decay at most,
/// each with its average.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let Op::Update(_, Update { rule, .. }) = graph.node(root).op else { return None };
    let guards = |id: NodeId| &graph.node(id).inputs[1..];
    let same = |id: &NodeId| {
        let node = graph.node(*id);
        matches!(node.op, Op::Update(_, other) if other.rule.is_like(rule))
            && guards(*id) == guards(root)
    };
    let updates: Vec<NodeId> =
        graph.nodes().map(|(id, _)| id).filter(|id| finder.is_free(*id)).filter(same).collect();
    let mut inputs: Vec<NodeId> = updates.iter().map(|&id| graph.node(id).inputs[0]).collect();
    inputs.extend(guards(root));
    let clip = match guards(root) {
        [] => Clip::Off,
        [_] => Clip::ByCoefficient,
        _ => Clip::Unscaled,
    };
    let kernel = Kernel::FlatUpdate { rule, clip };
    let with_average = |&id: &NodeId| std::iter::once(id).chain(average_of(finder, id));
    let outputs: Vec<NodeId> = updates.iter().flat_map(with_average).collect();
    let mut nodes = outputs.clone();
    nodes.sort_unstable();
    Some(Cluster { kernel, nodes, inputs, outputs })
}

/// The node that moves the average of an updated parameter.
pub(super) fn average_of(finder: &Finder<'_>, update: NodeId) -> Option<NodeId> {
    let is_average = |id: &NodeId| matches!(finder.graph.node(*id).op, Op::Average(_));
    finder.users(update).iter().copied().find(|id| is_average(id) && finder.is_free(*id))
}

/// All averages of what no optimiser changes.
pub(super) fn find_averages(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let is_average = |id: &NodeId| matches!(graph.node(*id).op, Op::Average(_));
    if !is_average(&root) {
        return None;
    }
    let all = graph.nodes().map(|(id, _)| id);
    let nodes: Vec<NodeId> = all.filter(|id| finder.is_free(*id) && is_average(id)).collect();
    let mut inputs: Vec<NodeId> = nodes.iter().map(|&id| graph.node(id).inputs[0]).collect();
    inputs.extend(graph.node(root).inputs.get(1));
    Some(Cluster { kernel: Kernel::Average, inputs, outputs: nodes.clone(), nodes })
}
