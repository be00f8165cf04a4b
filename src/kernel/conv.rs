// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions with what follows them, and their gradients with what becomes of these.

use super::weight_gradient::{destination, Destination};
use super::{linear, Bias, BiasGradient, Cluster, ConvWay, Finder, Fusion};
use super::{ImageKernels, Kernel, LinearTail, Sink};
use crate::graph::{MemoryFormat, Node, NodeId};
use crate::op::{is_per_channel, Binary, Drops, Op};

/// `conv(x, weight) [+ broadcast(bias)] [-> activation] [-> dropout]`; the activation only where nothing
/// else needs its input.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let Op::Conv(conv) = graph.node(root).op else { return None };
    if !is_ours(finder, graph.node(root)) {
        return None;
    }
    let [x, filters, y] = [graph.node(root).inputs[0], graph.node(root).inputs[1], root]
        .map(|id| &graph.node(id).ty.shape);
    let way = ConvWay::of(finder.facts, &conv, x, filters, y);
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
        let by_pixels = matches!(dropout.drops, Drops::Elements | Drops::Channels);
        if by_pixels && super::counts_as_stored(graph.node(user), dropout) {
            tail.dropout = Some(dropout);
            nodes.push(user);
            output = user;
        }
    }
    nodes.sort_unstable();
    Some(Cluster { kernel: Kernel::Conv { conv, way, tail }, nodes, inputs, outputs: vec![output] })
}

/// `conv_input_grad(dy, weight) [-> mask_nonzero(y, .)]`
pub(super) fn find_input_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let Op::ConvInputGrad(conv, _) = graph.node(root).op else { return None };
    if !is_ours(finder, graph.node(root)) {
        return None;
    }
    let mut inputs = graph.node(root).inputs.clone();
    let [x, filters, y] = [root, inputs[1], inputs[0]].map(|id| &graph.node(id).ty.shape);
    let way = ConvWay::of(finder.facts, &conv, x, filters, y);
    if let Some((user, Op::MaskNonZero(scale))) = follows(finder, root) {
        if let [y, dy] = *graph.node(user).inputs {
            if dy == root && y != root && finder.is_free(user) {
                inputs.push(y);
                let kernel = Kernel::ConvInputGradient { conv, way, mask: Some(*scale) };
                return Some(Cluster {
                    kernel,
                    nodes: vec![root, user],
                    inputs,
                    outputs: vec![user],
                });
            }
        }
    }
    let kernel = Kernel::ConvInputGradient { conv, way, mask: None };
    Some(Cluster { kernel, nodes: vec![root], inputs, outputs: vec![root] })
}

/// `conv_weight_grad(x, dy) [-> gradient [-> update]]`, with `sum_to(dy) -> gradient [-> update]` of the
/// same layer's bias.
pub(super) fn find_weight_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let Op::ConvWeightGrad(conv, _) = graph.node(root).op else { return None };
    let [x, dy] = *graph.node(root).inputs else { return None };
    // Images of few channels are read as they lie.
    let takes_planes = finder.facts.fusion == Fusion::AcrossLayers;
    let lie_so =
        lies_channels_last(graph.node(dy)) && (takes_planes || lies_channels_last(graph.node(x)));
    if finder.facts.images == ImageKernels::Absent || !lie_so {
        return None;
    }
    let shapes = [x, root, dy].map(|id| &graph.node(id).ty.shape);
    let way = ConvWay::of(finder.facts, &conv, shapes[0], shapes[1], shapes[2]);
    let mut cluster = Cluster {
        kernel: Kernel::Plain,
        nodes: vec![root],
        inputs: vec![dy, x],
        outputs: vec![root],
    };
    let (mut sink, mut bias) = (None, BiasGradient::Absent);
    if let Some(weight) = destination(finder, root) {
        sink = Some(weight.sink);
        cluster.nodes.extend(weight.nodes());
        cluster.outputs = weight.outputs().collect();
        if let Some((nodes, of_bias)) = bias_gradient(finder, dy, weight.sink) {
            bias = BiasGradient::Computed;
            cluster.nodes.extend(nodes);
            cluster.nodes.extend(of_bias.nodes());
            cluster.outputs.extend(of_bias.outputs());
        }
        cluster.nodes.sort_unstable();
    }
    cluster.kernel = Kernel::ConvWeightGradient { conv, way, sink, bias };
    Some(cluster)
}

/// The sums of the channels of a result's gradient, if they go where the weights' gradient goes: the
/// nodes up to there, and the place.
fn bias_gradient(
    finder: &Finder<'_>,
    dy: NodeId,
    sink: Sink,
) -> Option<(Vec<NodeId>, Destination)> {
    let graph = finder.graph;
    let image = &graph.node(dy).ty.shape;
    let sums = finder.users(dy).iter().copied().filter(|&user| {
        let Op::SumTo(shape) = &graph.node(user).op else { return false };
        is_per_channel(shape, image) && finder.is_free(user)
    });
    sums.filter_map(|sum| {
        let mut nodes = vec![sum];
        finder.only_user_past_views(sum, &mut nodes)?;
        let found = destination(finder, *nodes.last()?)?;
        // Into the slot of a parameter with one number per channel and nothing else.
        let is_vector = found.outputs().all(|id| graph.node(id).ty.shape.rank() == 1);
        (found.sink.is_like(sink) && is_vector).then_some((nodes, found))
    })
    .next()
}

/// Most channels that few results see, and most products of a result that may then be summed up one by one.
pub(crate) const FEW_CHANNELS: usize = 4;
pub(crate) const FEW_PRODUCTS: usize = 180;

/// Whether each result of a convolution sees so few channels that a thread sums up a few results by itself.
pub(crate) fn sees_few(channels: usize, taps: usize) -> bool {
    channels <= FEW_CHANNELS && channels * taps <= FEW_PRODUCTS
}

/// Whether the backend has kernels of images and an image lies as they take it.
pub(super) fn is_ours(finder: &Finder<'_>, image: &Node) -> bool {
    finder.facts.images != ImageKernels::Absent && lies_channels_last(image)
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
