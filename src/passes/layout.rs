// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layout pass: which values lie channels-last in memory, with the conversions as visible steps.
//!
//! Operations on images work in the format that the backend's image kernels take, functions of each
//! element in that of their operands, everything else row-major. Inputs, outputs and parameters are
//! row-major.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::broken;
use super::simplify::without_dead_nodes;
use crate::graph::{Builder, Graph, MemoryFormat, Node, NodeId};
use crate::kernel::{Facts, Fusion};
use crate::op::{Formats, Op, TensorType};
use crate::Result;

/// Most channels of images that kernels read one by one in any format, so that no copy pays.
const FEW_CHANNELS: usize = 3;

/// Decides the format of every value.
pub(super) fn assign(graph: Graph, facts: &Facts) -> Result<Graph> {
    let images = facts.image_format;
    if images == MemoryFormat::Contiguous {
        return Ok(graph);
    }
    let few_channels = match facts.fusion {
        Fusion::AcrossLayers => FEW_CHANNELS,
        Fusion::WithinLayers => 0,
    };
    let mut layout =
        Layout { builder: Builder::rebuild(&graph), converted: BTreeMap::new(), few_channels };
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
    /// Images of at most so many channels are convolved as they lie.
    few_channels: usize,
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
        let types: SmallVec<[&TensorType; 4]> =
            inputs.iter().map(|&id| &graph.node(id).ty).collect();
        let formats = node.op.formats(&types);
        drop(types);
        let (format, images_among_inputs) = match formats {
            Formats::Contiguous => (MemoryFormat::Contiguous, inputs.len()),
            Formats::Images(operands) => (images, operands),
            Formats::FromImages(operands) => (images, operands),
            Formats::Elementwise => {
                let lies_so = |id: &NodeId| {
                    let input = graph.node(*id);
                    input.format == images && !MemoryFormat::coincides(&input.ty.shape)
                };
                match inputs.iter().any(lies_so) && !self.mask_lies_row_major(node, &inputs) {
                    true => (images, inputs.len()),
                    false => (MemoryFormat::Contiguous, inputs.len()),
                }
            }
            Formats::AsProducer => (graph.node(inputs[0]).format, 0),
        };
        let convolves = matches!(node.op, Op::Conv(_) | Op::ConvWeightGrad(..));
        for (index, input) in inputs.iter_mut().take(images_among_inputs).enumerate() {
            let image = self.builder.graph().node(*input);
            let channels = image.ty.shape.dims().get(1).copied().unwrap_or(0);
            let is_read_so = convolves && index == 0 && channels <= self.few_channels;
            if is_image(image) && !is_read_so {
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

    /// Whether both operands of a mask are there row-major: then its result is converted, and not its
    /// gradient.
    fn mask_lies_row_major(&self, node: &Node, inputs: &[NodeId]) -> bool {
        let is_there = |id: &NodeId| {
            self.builder.graph().node(*id).format == MemoryFormat::Contiguous
                || self.converted.contains_key(&(*id, false))
        };
        matches!(node.op, Op::MaskNonZero(_)) && inputs.iter().all(is_there)
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
