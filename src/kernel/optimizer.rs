// SPDX-License-Identifier: MIT OR Apache-2.0
//! The optimiser over all parameters in one flat pass.

use super::Fusion;
use super::{Clip, Kernel};
use super::{Cluster, Finder};
use crate::graph::NodeId;
use crate::op::Op;

/// `global_norm -> clip_coefficient`: one pass over the gradients gives both.
pub(super) fn find_clip_norm(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    if finder.facts.fusion != Fusion::AcrossLayers || graph.node(root).op != Op::GlobalNorm {
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

/// All updates by the same rule that no other kernel took along.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let Op::Update(_, rule) = graph.node(root).op else { return None };
    let coefficient = graph.node(root).inputs.get(1).copied();
    let same = |id: &NodeId| {
        let node = graph.node(*id);
        matches!(node.op, Op::Update(_, other) if other == rule)
            && node.inputs.get(1).copied() == coefficient
    };
    let updates: Vec<NodeId> =
        graph.nodes().map(|(id, _)| id).filter(|id| finder.is_free(*id)).filter(same).collect();
    let mut inputs: Vec<NodeId> = updates.iter().map(|&id| graph.node(id).inputs[0]).collect();
    inputs.extend(coefficient);
    let clip = if coefficient.is_some() { Clip::ByCoefficient } else { Clip::Off };
    let kernel = Kernel::FlatUpdate { rule, clip };
    Some(Cluster { kernel, nodes: updates.clone(), inputs, outputs: updates })
}
