// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simplify pass: rewrites by rules that hold bit for bit, merges equal nodes, drops dead ones.

use std::collections::BTreeMap;

use super::broken;
use crate::graph::{Builder, Graph, Node, NodeId};
use crate::op::{Op, Unary};
use crate::Result;

/// Applies the rules until nothing changes.
pub(super) fn rewrite(mut graph: Graph) -> Result<Graph> {
    loop {
        let simpler = sweep(&graph)?;
        if simpler == graph {
            return Ok(graph);
        }
        graph = simpler;
    }
}

fn sweep(graph: &Graph) -> Result<Graph> {
    let live = live(graph);
    let mut builder = Builder::rebuild(graph);
    let mut renamed: Vec<Option<NodeId>> = vec![None; graph.nodes.len()];
    let mut known: BTreeMap<String, NodeId> = BTreeMap::new();
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let inputs: Vec<NodeId> =
            node.inputs.iter().filter_map(|input| renamed[input.index()]).collect();
        let (op, inputs) = match simpler(&builder, &known, node, &inputs) {
            Rewrite::Same(existing) => {
                renamed[id.index()] = Some(existing);
                continue;
            }
            Rewrite::Node(op, inputs) => (op, inputs),
        };
        let key = format!("{op:?}{inputs:?}");
        let new = match known.get(&key) {
            Some(&equal) if !op.is_effect() => equal,
            _ => {
                let node = Node { op, ..node.clone() };
                builder.copy(&node, &inputs).map_err(broken("simplify"))?
            }
        };
        known.insert(key, new);
        renamed[id.index()] = Some(new);
    }
    let outputs = graph.outputs.iter().filter_map(|id| renamed[id.index()]).collect();
    Ok(builder.finish(outputs))
}

enum Rewrite {
    Same(NodeId),
    Node(Op, Vec<NodeId>),
}

/// One rule's result for a node whose inputs are already simplified.
fn simpler(
    builder: &Builder,
    known: &BTreeMap<String, NodeId>,
    node: &Node,
    inputs: &[NodeId],
) -> Rewrite {
    let graph = builder.graph();
    let keep = || Rewrite::Node(node.op.clone(), inputs.to_vec());
    match &node.op {
        Op::Reshape(shape) | Op::Broadcast(shape) | Op::SumTo(shape)
            if graph.node(inputs[0]).ty.shape == *shape =>
        {
            Rewrite::Same(inputs[0])
        }
        Op::Reshape(shape) => match &graph.node(inputs[0]).op {
            Op::Reshape(_) => {
                Rewrite::Node(Op::Reshape(shape.clone()), vec![graph.node(inputs[0]).inputs[0]])
            }
            _ => keep(),
        },
        Op::Unary(Unary::Scale(factor)) if *factor == 1.0 => Rewrite::Same(inputs[0]),
        Op::MaskNonZero(scale) => match zeros_as_mask(graph, known, *scale, inputs) {
            Some((op, inputs)) => Rewrite::Node(op, inputs),
            None => keep(),
        },
        _ => keep(),
    }
}

/// `mask_nonzero(r, dropout(d))` is `mask_nonzero(dropout(r), d)` with dropout's scale: where the
/// forward pass kept `dropout(r)`, its zeros tell both what ReLU cut and what dropout dropped, so
/// that backward draws nothing. Holds bit for bit, since `r != 0` implies `scale * r != 0` for
/// scales of 1 and more. A reshape between them is stepped over.
fn zeros_as_mask(
    graph: &Graph,
    known: &BTreeMap<String, NodeId>,
    scale: f64,
    inputs: &[NodeId],
) -> Option<(Op, Vec<NodeId>)> {
    let (output, gradient) = (inputs[0], graph.node(inputs[1]));
    let Op::Dropout(dropout) = gradient.op else { return None };
    if scale != 1.0 || dropout.scale() == 0.0 {
        return None;
    }
    let dropped = known.get(&format!("{:?}{:?}", gradient.op, [output]))?;
    Some((Op::MaskNonZero(dropout.scale()), vec![*dropped, gradient.inputs[0]]))
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
