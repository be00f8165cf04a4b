// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mode pass: random operations stay, or leave the graph for good.

use super::{broken, Mode};
use crate::graph::{Builder, Graph, NodeId};
use crate::op::Op;
use crate::Result;

/// Removes dropout where nothing is dropped: everywhere in eval mode, else where p rounds to 0.
/// Only train mode changes state.
pub(super) fn specialise(graph: Graph, mode: Mode) -> Result<Graph> {
    let mut builder = Builder::rebuild(&graph);
    let mut renamed: Vec<Option<NodeId>> = Vec::with_capacity(graph.nodes.len());
    for (_, node) in graph.nodes() {
        // Only changes of state depend on changes of state.
        let inputs: Vec<NodeId> = node.inputs.iter().filter_map(|id| renamed[id.index()]).collect();
        let new = match &node.op {
            Op::Dropout(dropout) if mode == Mode::Eval || dropout.drop15 == 0 => Some(inputs[0]),
            Op::SetState(..) if mode != Mode::Train => None,
            _ => Some(builder.copy(node, &inputs).map_err(broken("mode"))?),
        };
        renamed.push(new);
    }
    let outputs = graph.outputs.iter().filter_map(|id| renamed[id.index()]).collect();
    Ok(builder.finish(outputs))
}
