// SPDX-License-Identifier: MIT OR Apache-2.0
//! Skip connections: where a value meets what was learned from it.

use super::part::{main, Part};
use crate::graph::{Graph, NodeId};
use crate::op::{Binary, Op};

/// A sum of a value and what was learned from it.
#[derive(Clone, Debug)]
pub(super) struct Residual {
    /// The sum.
    pub(super) sum: NodeId,
    /// What it adds that was learned.
    pub(super) branch: NodeId,
    /// Where both ways part.
    pub(super) from: NodeId,
    /// Dropouts on the way that skips, where it is learned from nothing.
    pub(super) dropped: Vec<NodeId>,
}

/// All skip connections, and for each node whether it is in a branch beside one.
pub(super) fn residuals(graph: &Graph, parts: &[Part]) -> (Vec<Residual>, Vec<bool>) {
    let (mut found, mut in_branch) = (Vec::new(), vec![false; parts.len()]);
    for (id, node) in graph.nodes() {
        if parts[id.index()] != Part::Join || node.op != Op::Binary(Binary::Add) {
            continue;
        }
        let [a, b] = [node.inputs[0], node.inputs[1]];
        let either = [(a, b), (b, a)].into_iter();
        let mut either =
            either.filter_map(|(skip, branch)| residual(graph, parts, id, skip, branch));
        if let Some((residual, nodes)) = either.next() {
            nodes.into_iter().for_each(|node| in_branch[node] = true);
            found.push(residual);
        }
    }
    (found, in_branch)
}

/// The skip connection of a sum if `skip` is one, with the nodes of its branch.
fn residual(
    graph: &Graph,
    parts: &[Part],
    sum: NodeId,
    skip: NodeId,
    branch: NodeId,
) -> Option<(Residual, Vec<usize>)> {
    let ancestors = ancestors(graph, branch);
    let (mut from, mut projections, mut dropped) = (skip, 0, Vec::new());
    // Back along the way that skips, at most past one layer that projects it, to where both part.
    while from == branch || !ancestors[from.index()] {
        let part = parts[from.index()];
        match part {
            Part::Dense | Part::Conv => projections += 1,
            Part::Dropout => dropped.push(from),
            Part::BatchNorm | Part::LayerNorm | Part::AvgPool | Part::Activation(_) => {}
            // Steps of a sequence have the whole in common, and skip nothing.
            Part::View if matches!(graph.node(from).op, Op::Slice { .. }) => return None,
            part if part.is_plain() => {}
            _ => return None,
        }
        if projections > 1 {
            return None;
        }
        from = main(graph.node(from), parts)?;
    }
    let nodes = between(graph, from, branch, &ancestors);
    if projections > 0 {
        dropped.clear();
    }
    let is_learned = |node: &usize| parts[*node].is_learned() || parts[*node] == Part::Join;
    let residual = Residual { sum, branch, from, dropped };
    nodes.iter().any(is_learned).then_some((residual, nodes))
}

/// For each node up to one whether that one depends on it; itself included.
fn ancestors(graph: &Graph, of: NodeId) -> Vec<bool> {
    let mut is_ancestor = vec![false; graph.nodes().len()];
    is_ancestor[of.index()] = true;
    for (id, node) in graph.nodes().rev() {
        if is_ancestor[id.index()] {
            node.inputs.iter().for_each(|input| is_ancestor[input.index()] = true);
        }
    }
    is_ancestor
}

/// The nodes behind `from` on all ways to `to`, which is among them.
fn between(graph: &Graph, from: NodeId, to: NodeId, ancestors: &[bool]) -> Vec<usize> {
    let mut reached = vec![false; graph.nodes().len()];
    reached[from.index()] = true;
    let mut nodes = Vec::new();
    let later = graph.nodes().skip(from.index() + 1).take(to.index() - from.index());
    for (id, node) in later {
        let on_the_way = node.inputs.iter().any(|input| reached[input.index()]);
        if on_the_way && ancestors[id.index()] {
            reached[id.index()] = true;
            nodes.push(id.index());
        }
    }
    nodes
}
