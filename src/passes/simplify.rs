// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simplify pass: rewrites by rules that hold bit for bit, merges equal nodes, drops dead ones.

mod known;

use super::broken;
use crate::graph::{Builder, Graph, Node, NodeId};
use crate::op::{Op, Unary};
use crate::Result;
use known::Known;

/// Applies the rules until nothing changes.
///
/// One walk does: a rule looks at a node, its inputs and earlier nodes, which are as simple as they
/// become when the walk comes to it, and no rule looks at users. What lost its last user on the way
/// is dropped at the end.
pub(super) fn rewrite(graph: Graph) -> Result<Graph> {
    let live = live(&graph);
    let mut builder = Builder::rebuild(&graph);
    let mut renamed: Vec<Option<NodeId>> = vec![None; graph.nodes.len()];
    let mut known = Known::default();
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let inputs = node.inputs.iter().filter_map(|input| renamed[input.index()]).collect();
        renamed[id.index()] = Some(match simplest(builder.graph(), &known, node, inputs) {
            Rewrite::Same(existing) => existing,
            Rewrite::Node(op, inputs) => match known.find(builder.graph(), &op, &inputs) {
                Some(equal) if !op.is_effect() => equal,
                _ => {
                    let node = Node { op, ..node.clone() };
                    let new = builder.copy(&node, &inputs).map_err(broken("simplify"))?;
                    known.insert(builder.graph(), new);
                    new
                }
            },
        });
    }
    let outputs = graph.outputs.iter().filter_map(|id| renamed[id.index()]).collect();
    without_dead_nodes(builder.finish(outputs))
}

enum Rewrite {
    Same(NodeId),
    Node(Op, Vec<NodeId>),
}

/// What a node whose inputs are already simplified becomes when no rule holds any more.
fn simplest(graph: &Graph, known: &Known, node: &Node, inputs: Vec<NodeId>) -> Rewrite {
    let (mut op, mut inputs) = (node.op.clone(), inputs);
    loop {
        match simpler(graph, known, &op, &inputs) {
            None => return Rewrite::Node(op, inputs),
            Some(Rewrite::Same(existing)) => return Rewrite::Same(existing),
            Some(Rewrite::Node(next, its_inputs)) => (op, inputs) = (next, its_inputs),
        }
    }
}

/// One rule's result, if one holds.
fn simpler(graph: &Graph, known: &Known, op: &Op, inputs: &[NodeId]) -> Option<Rewrite> {
    match op {
        Op::Reshape(shape) | Op::Broadcast(shape) | Op::SumTo(shape)
            if graph.node(inputs[0]).ty.shape == *shape =>
        {
            Some(Rewrite::Same(inputs[0]))
        }
        Op::Reshape(_) => match &graph.node(inputs[0]).op {
            Op::Reshape(_) => {
                Some(Rewrite::Node(op.clone(), vec![graph.node(inputs[0]).inputs[0]]))
            }
            _ => None,
        },
        Op::Unary(Unary::Scale(factor)) if *factor == 1.0 => Some(Rewrite::Same(inputs[0])),
        Op::MaskNonZero(scale) => zeros_as_mask(graph, known, *scale, inputs),
        _ => None,
    }
}

/// `mask_nonzero(r, dropout(d))` is `mask_nonzero(dropout(r), d)` with dropout's scale: where the
/// forward pass kept `dropout(r)`, its zeros tell both what ReLU cut and what dropout dropped, so
/// that backward draws nothing. Holds bit for bit, since `r != 0` implies `scale * r != 0` for
/// scales of 1 and more.
fn zeros_as_mask(graph: &Graph, known: &Known, scale: f64, inputs: &[NodeId]) -> Option<Rewrite> {
    let (output, gradient) = (inputs[0], graph.node(inputs[1]));
    let Op::Dropout(dropout) = gradient.op else { return None };
    if scale != 1.0 || dropout.scale() == 0.0 {
        return None;
    }
    let dropped = known.find(graph, &gradient.op, &[output])?;
    Some(Rewrite::Node(Op::MaskNonZero(dropout.scale()), vec![dropped, gradient.inputs[0]]))
}

/// The graph without what no output and no effect depends on.
pub(super) fn without_dead_nodes(graph: Graph) -> Result<Graph> {
    let live = live(&graph);
    if live.iter().all(|&live| live) {
        return Ok(graph);
    }
    let mut builder = Builder::rebuild(&graph);
    let mut renamed: Vec<Option<NodeId>> = vec![None; graph.nodes.len()];
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let inputs: Vec<NodeId> =
            node.inputs.iter().filter_map(|input| renamed[input.index()]).collect();
        let copy = builder.copy(node, &inputs).map_err(broken("simplify"))?;
        builder.set_format(copy, node.format);
        renamed[id.index()] = Some(copy);
    }
    let outputs = graph.outputs.iter().filter_map(|id| renamed[id.index()]).collect();
    Ok(builder.finish(outputs))
}

/// Nodes that an output or an effect depends on; inputs stay, since runs give them all.
fn live(graph: &Graph) -> Vec<bool> {
    let mut live: Vec<bool> = graph
        .nodes()
        .map(|(_, node)| node.op.is_effect() || matches!(node.op, Op::Input(_)))
        .collect();
    for output in &graph.outputs {
        live[output.index()] = true;
    }
    for (id, node) in graph.nodes().rev() {
        if live[id.index()] {
            node.inputs.iter().for_each(|input| live[input.index()] = true);
        }
    }
    live
}
