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
    let mut simplified = Simplified { builder: Builder::rebuild(&graph), known: Known::default() };
    let mut renamed: Vec<Option<NodeId>> = vec![None; graph.nodes.len()];
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let inputs = node.inputs.iter().filter_map(|input| renamed[input.index()]).collect();
        renamed[id.index()] = Some(simplified.place(node, node.op.clone(), inputs)?);
    }
    let outputs = graph.outputs.iter().filter_map(|id| renamed[id.index()]).collect();
    without_dead_nodes(simplified.builder.finish(outputs))
}

/// The graph so far, as simple as it becomes.
struct Simplified {
    builder: Builder,
    known: Known,
}

impl Simplified {
    /// Appends what an operation, in place of a node's, becomes when no rule holds any more.
    fn place(&mut self, node: &Node, op: Op, inputs: Vec<NodeId>) -> Result<NodeId> {
        match simplest(self.builder.graph(), &self.known, op, inputs) {
            Rewrite::Same(existing) => Ok(existing),
            Rewrite::Behind { first, then, mut inputs } => {
                let (op, its_inputs) = *first;
                inputs.push(self.place(node, op, its_inputs)?);
                self.place(node, then, inputs)
            }
            Rewrite::Node(op, inputs) => {
                let equal = self.known.find(self.builder.graph(), &op, &inputs);
                if let Some(equal) = equal.filter(|_| !op.is_effect()) {
                    return Ok(equal);
                }
                let node = Node { op, ..node.clone() };
                let new = self.builder.copy(&node, &inputs).map_err(broken("simplify"))?;
                self.known.insert(self.builder.graph(), new);
                Ok(new)
            }
        }
    }
}

enum Rewrite {
    Same(NodeId),
    Node(Op, Vec<NodeId>),
    /// An operation whose result is the last input of the next one.
    Behind {
        first: Box<(Op, Vec<NodeId>)>,
        then: Op,
        inputs: Vec<NodeId>,
    },
}

/// What an operation whose inputs are already simplified becomes when no rule holds any more.
fn simplest(graph: &Graph, known: &Known, mut op: Op, mut inputs: Vec<NodeId>) -> Rewrite {
    loop {
        match simpler(graph, known, &op, &inputs) {
            None => return Rewrite::Node(op, inputs),
            Some(Rewrite::Node(next, its_inputs)) => (op, inputs) = (next, its_inputs),
            Some(done) => return done,
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
        Op::MaskNonZero(scale) => zeros_as_mask(graph, known, *scale, inputs)
            .or_else(|| mask_of_largest(graph, *scale, inputs)),
        _ => None,
    }
}

/// `mask_nonzero(r, dropout(d))` is `mask_nonzero(dropout(r), d)` with dropout's scale: where the
/// forward pass kept `dropout(r)`, its zeros tell both what ReLU cut and what dropout dropped, so
/// that backward draws nothing. Holds bit for bit, since `r != 0` implies `scale * r != 0` for
/// scales of 1 and more.
///
/// Where the scale changes from run to run, it is `dropout(mask_nonzero(dropout(r), d))`: backward draws
/// again, but `r` need not be kept.
fn zeros_as_mask(graph: &Graph, known: &Known, scale: f64, inputs: &[NodeId]) -> Option<Rewrite> {
    let (output, gradient) = (inputs[0], graph.node(inputs[1]));
    let Op::Dropout(dropout) = gradient.op else { return None };
    let kept = dropout.rate.constant_scale();
    if scale != 1.0 || kept == Some(0.0) {
        return None;
    }
    let dropped = known.find(graph, &gradient.op, &[output])?;
    let inputs = vec![dropped, gradient.inputs[0]];
    Some(match kept {
        Some(kept) => Rewrite::Node(Op::MaskNonZero(kept), inputs),
        None => Rewrite::Behind {
            first: Box::new((Op::MaskNonZero(scale), inputs)),
            then: gradient.op.clone(),
            inputs: vec![],
        },
    })
}

/// `mask_nonzero(x, max_pool_grad(index, dy))`, where `index` tells the largest elements of `x`, is
/// `max_pool_grad(index, mask_nonzero(max_pool(x), dy))`: a gradient goes to the largest element alone,
/// which is what the pool yields. So the mask is applied to few elements, and `x` need not be kept.
/// Holds bit for bit with a scale of 1.
fn mask_of_largest(graph: &Graph, scale: f64, inputs: &[NodeId]) -> Option<Rewrite> {
    let [x, gradient] = *inputs else { return None };
    let gradient = graph.node(gradient);
    let (Op::MaxPoolGrad(pool, _), [index, dy]) = (&gradient.op, gradient.inputs.as_slice()) else {
        return None;
    };
    let index_node = graph.node(*index);
    let largest = *index_node.inputs.first()?;
    let pooled = graph.node(largest);
    let is_its_own = index_node.op == Op::Result(1)
        && pooled.op == Op::MaxPool(*pool)
        && pooled.inputs == [x]
        && scale == 1.0;
    is_its_own.then(|| Rewrite::Behind {
        first: Box::new((Op::MaskNonZero(scale), vec![largest, *dy])),
        then: gradient.op.clone(),
        inputs: vec![*index],
    })
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
pub(super) fn live(graph: &Graph) -> Vec<bool> {
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
