// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions that sum up along what batch norm needs of their results.

use super::{find_batch_gradient, find_batch_statistics, reaches, Chain, FusedImages};
use crate::graph::NodeId;
use crate::kernel::{conv, Cluster, Finder, Kernel, LinearTail};
use crate::op::{Conv, Op};
use crate::Shape;

/// `conv(x, weight) [+ bias] -> statistics -> running_average...`; what the convolution yields has other users too.
pub(crate) fn find_conv_statistics(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    if !reaches(finder) {
        return None;
    }
    let Cluster { kernel, mut nodes, inputs, mut outputs } = conv::find(finder, root)?;
    let Kernel::Conv { conv, tail, .. } = kernel else { return None };
    let LinearTail { bias, activation: None, dropout: None } = tail else { return None };
    let mut users = finder.users(outputs[0]).iter().copied().filter(|&user| finder.is_free(user));
    let statistics = users.find_map(|user| find_batch_statistics(finder, user))?;
    nodes.extend(statistics.nodes);
    nodes.sort_unstable();
    outputs.extend(statistics.outputs);
    let kernel = Kernel::FusedImages(FusedImages::ConvStatistics { conv, bias });
    Some(Cluster { kernel, nodes, inputs, outputs })
}

/// `conv_input_grad(dy, weight) [+ skip]`, and as [`find_batch_gradient`] goes on, if that takes all of it.
pub(crate) fn find_conv_batch_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let node = graph.node(root);
    let Op::ConvInputGrad(conv, _) = node.op else { return None };
    let has_tiles = of_several_inputs(&conv, &node.ty.shape);
    if !reaches(finder) || !conv::is_ours(finder, node) || !has_tiles {
        return None;
    }
    let inputs = node.inputs.clone();
    let mut chain = Chain { finder, nodes: vec![root], inputs, output: root };
    let skip = chain.skip();
    let dy = chain.output;
    let users = finder.users(dy).iter().copied();
    let masked = users.clone().filter(|&id| matches!(graph.node(id).op, Op::MaskNonZero(_)));
    let behind = users.chain(masked.flat_map(|id| finder.users(id).iter().copied()));
    let batch = behind
        .filter(|&id| finder.is_free(id) && matches!(graph.node(id).op, Op::NormalizeGrad(_)))
        .filter_map(|id| find_batch_gradient(finder, id))
        .find(|batch| batch.inputs[1] == dy)?;
    let takes_all = finder.users(dy).iter().all(|user| batch.nodes.contains(user));
    let Kernel::FusedImages(FusedImages::BatchGradient(of)) = batch.kernel else { return None };
    if !takes_all || finder.is_returned(dy) {
        return None;
    }
    let Chain { mut nodes, mut inputs, .. } = chain;
    nodes.extend(batch.nodes);
    nodes.sort_unstable();
    inputs.push(batch.inputs[0]);
    inputs.extend(&batch.inputs[2..]);
    let kernel = Kernel::FusedImages(FusedImages::ConvBatchGradient { conv, skip, batch: of });
    Some(Cluster { kernel, nodes, inputs, outputs: batch.outputs })
}

/// Gradients of inputs that have a group of their own are not computed in tiles.
fn of_several_inputs(conv: &Conv, x: &Shape) -> bool {
    conv.groups == 1 || super::channels(x) > conv.groups
}
