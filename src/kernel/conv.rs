// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions with what follows them, and their gradients with what becomes of these.

use super::weight_gradient::destination;
use super::{linear, Bias, Cluster, Finder, ImageKernels, Kernel, LinearTail};
use crate::graph::{MemoryFormat, Node, NodeId};
use crate::op::{is_per_channel, Binary, Op};

/// `conv(x, weight) [+ broadcast(bias)] [-> activation] [-> dropout]`; the activation only where nothing
/// else needs its input.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let Op::Conv(conv) = graph.node(root).op else { return None };
    if !is_ours(finder, graph.node(root)) {
        return None;
    }
    let mut tail = LinearTail { bias: Bias::Absent, activation: None, dropout: None };
    let mut nodes = vec![root];
    let mut inputs = graph.node(root).inputs.clone();
    let mut output = root;
    if let Some((sum, stretched, bias)) = added_bias(finder, root) {
        tail.bias = Bias::Added;
        inputs.push(bias);
        nodes.extend([stretched, sum]);
        output = sum;
    }
    if let Some((user, &Op::Unary(function))) = follows(finder, output) {
        if linear::in_tail(function) {
            tail.activation = Some(function);
            nodes.push(user);
            output = user;
        }
    }
    if let Some((user, &Op::Dropout(dropout))) = follows(finder, output) {
        // Channels innermost is how masks count the elements of images, and of nothing else.
        if super::counts_as_stored(graph.node(user)) {
            tail.dropout = Some(dropout);
            nodes.push(user);
            output = user;
        }
    }
    nodes.sort_unstable();
    Some(Cluster { kernel: Kernel::Conv { conv, tail }, nodes, inputs, outputs: vec![output] })
}

/// `conv_input_grad(dy, weight) [-> mask_nonzero(y, .)]`
pub(super) fn find_input_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let Op::ConvInputGrad(conv, _) = graph.node(root).op else { return None };
    if !is_ours(finder, graph.node(root)) {
        return None;
    }
    let mut inputs = graph.node(root).inputs.clone();
    if let Some((user, Op::MaskNonZero(scale))) = follows(finder, root) {
        if let [y, dy] = *graph.node(user).inputs {
            if dy == root && y != root && finder.is_free(user) {
                inputs.push(y);
                let kernel = Kernel::ConvInputGradient { conv, mask: Some(*scale) };
                return Some(Cluster {
                    kernel,
                    nodes: vec![root, user],
                    inputs,
                    outputs: vec![user],
                });
            }
        }
    }
    let kernel = Kernel::ConvInputGradient { conv, mask: None };
    Some(Cluster { kernel, nodes: vec![root], inputs, outputs: vec![root] })
}

/// `conv_weight_grad(x, dy) [-> gradient [-> update]]`
pub(super) fn find_weight_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let Op::ConvWeightGrad(conv, _) = graph.node(root).op else { return None };
    if finder.facts.images == ImageKernels::Absent {
        return None;
    }
    let inputs = graph.node(root).inputs.clone();
    if !inputs.iter().all(|&id| lies_channels_last(graph.node(id))) {
        return None;
    }
    Some(match destination(finder, root) {
        Some(found) => {
            let mut nodes = vec![root];
            nodes.extend(found.nodes());
            let kernel = Kernel::ConvWeightGradient { conv, sink: Some(found.sink) };
            Cluster { kernel, nodes, inputs, outputs: vec![found.output()] }
        }
        None => {
            let kernel = Kernel::ConvWeightGradient { conv, sink: None };
            Cluster { kernel, nodes: vec![root], inputs, outputs: vec![root] }
        }
    })
}

/// Whether the backend has kernels of images and an image lies as they take it.
pub(super) fn is_ours(finder: &Finder<'_>, image: &Node) -> bool {
    finder.facts.images == ImageKernels::Own && lies_channels_last(image)
}

/// Whether channels, the second extent, are innermost in memory.
pub(super) fn lies_channels_last(image: &Node) -> bool {
    image.format == MemoryFormat::ChannelsLast || MemoryFormat::coincides(&image.ty.shape)
}

/// The only user of an image that lies as it does, and the user's operation.
fn follows<'g>(finder: &Finder<'g>, image: NodeId) -> Option<(NodeId, &'g Op)> {
    let user = finder.only_user(image)?;
    let node = finder.graph.node(user);
    (lies_channels_last(node) && node.ty.shape == finder.graph.node(image).ty.shape)
        .then_some((user, &node.op))
}

/// The addition of one number per channel: the sum, the stretched numbers, the numbers.
fn added_bias(finder: &Finder<'_>, conv: NodeId) -> Option<(NodeId, NodeId, NodeId)> {
    let graph = finder.graph;
    let (sum, Op::Binary(Binary::Add)) = follows(finder, conv)? else { return None };
    let [left, stretched] = *graph.node(sum).inputs else { return None };
    let broadcast = graph.node(stretched);
    let bias = *broadcast.inputs.first()?;
    let matches = left == conv
        && matches!(broadcast.op, Op::Broadcast(_))
        && is_per_channel(&graph.node(bias).ty.shape, &graph.node(conv).ty.shape)
        && finder.only_user(stretched) == Some(sum)
        && finder.is_free(stretched);
    matches.then_some((sum, stretched, bias))
}
