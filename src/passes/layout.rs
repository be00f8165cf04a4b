// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layout pass: which values lie channels-last in memory, with the conversions as visible steps.
//!
//! Operations on images work in the format that the backend's image kernels take, functions of each
//! element in that of their operands, everything else row-major. Inputs, outputs and parameters are
//! row-major.

use std::collections::BTreeMap;

use super::broken;
use super::simplify::without_dead_nodes;
use crate::graph::{Builder, Graph, MemoryFormat, Node, NodeId};
use crate::op::{Formats, Op, TensorType};
use crate::Result;

/// Decides the format of every value.
pub(super) fn assign(graph: Graph, images: MemoryFormat) -> Result<Graph> {
    if images == MemoryFormat::Contiguous {
        return Ok(graph);
    }
    let mut layout = Layout { builder: Builder::rebuild(&graph), converted: BTreeMap::new() };
    let mut renamed: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (_, node) in graph.nodes() {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|id| renamed[id.index()]).collect();
        renamed.push(layout.place(node, inputs, images)?);
    }
    let mut outputs = Vec::with_capacity(graph.outputs.len());
    for output in &graph.outputs {
        outputs.push(layout.convert(renamed[output.index()], MemoryFormat::Contiguous)?);
    }
    // Broadcasts that were asked for in another format alone.
    without_dead_nodes(layout.builder.finish(outputs))
}

fn is_image(node: &Node) -> bool {
    node.ty.shape.rank() >= 3
}

struct Layout {
    builder: Builder,
    converted: BTreeMap<(NodeId, bool), NodeId>,
}

impl Layout {
    /// Appends a node with its operands in the formats that it takes.
    fn place(
        &mut self,
        node: &Node,
        mut inputs: Vec<NodeId>,
        images: MemoryFormat,
    ) -> Result<NodeId> {
        let graph = self.builder.graph();
        let types: Vec<&TensorType> = inputs.iter().map(|&id| &graph.node(id).ty).collect();
        let formats = node.op.formats(&types);
        let (format, images_among_inputs) = match formats {
            Formats::Contiguous => (MemoryFormat::Contiguous, inputs.len()),
            Formats::Images(operands) => (images, operands),
            Formats::FromImages(operands) => (images, operands),
            Formats::Elementwise => {
                let lies_so = |id: &NodeId| {
                    let input = graph.node(*id);
                    input.format == images && !MemoryFormat::coincides(&input.ty.shape)
                };
                match inputs.iter().any(lies_so) {
                    true => (images, inputs.len()),
                    false => (MemoryFormat::Contiguous, inputs.len()),
                }
            }
            Formats::AsProducer => (graph.node(inputs[0]).format, 0),
        };
        for input in inputs.iter_mut().take(images_among_inputs) {
            if is_image(self.builder.graph().node(*input)) {
                *input = self.convert(*input, format)?;
            }
        }
        let new = self.builder.copy(node, &inputs).map_err(broken("layout"))?;
        let is_contiguous = matches!(formats, Formats::FromImages(_));
        if is_image(node) && !is_contiguous {
            self.builder.set_format(new, format);
        }
        Ok(new)
    }

    /// A value in a format: itself, or a copy in another order.
    fn convert(&mut self, id: NodeId, format: MemoryFormat) -> Result<NodeId> {
        let node = self.builder.graph().node(id);
        if node.format == format || MemoryFormat::coincides(&node.ty.shape) || node.op.is_effect() {
            return Ok(id);
        }
        let key = (id, format == MemoryFormat::ChannelsLast);
        if let Some(known) = self.converted.get(&key) {
            return Ok(*known);
        }
        // What a broadcast repeats is read in any order, so it needs no copy.
        let (op, inputs) = match node.op {
            Op::Broadcast(_) => (node.op.clone(), node.inputs.clone()),
            _ => (Op::ToFormat(format), vec![id]),
        };
        self.builder.set_layer(node.layer);
        let copy = self.builder.add(op, &inputs).map_err(broken("layout"))?;
        self.builder.set_format(copy, format);
        self.converted.insert(key, copy);
        Ok(copy)
    }
}
