// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batch norm with what stands before and behind it.

use super::{channels, is_image, reaches, Chain, FusedImages};
use crate::graph::{Node, NodeId};
use crate::kernel::weight_gradient::destination;
use crate::kernel::{conv, Cluster, Finder, Kernel, Sink};
use crate::op::{Binary, Normalize, Op, Over, StateRule, Unary};

/// `statistics(x) -> running_average...`, with the count of batches.
pub(crate) fn find_batch_statistics(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let node = graph.node(root);
    let lies_so = || conv::lies_channels_last(graph.node(node.inputs[0]));
    if node.op != Op::Statistics(Over::Channels) || !reaches(finder) || !lies_so() {
        return None;
    }
    let mut nodes = vec![root];
    nodes.extend(finder.results(root).iter().map(|(_, result)| *result));
    let follows = |statistic: NodeId| {
        let is_ours = |id: &NodeId| {
            let user = graph.node(*id);
            matches!(user.op, Op::SetState(_, StateRule::Average { .. }))
                && user.inputs == [statistic]
                && finder.is_free(*id)
        };
        finder.users(statistic).iter().copied().find(is_ours)
    };
    let states: Vec<NodeId> = nodes.iter().copied().filter_map(follows).collect();
    if states.is_empty() {
        return None;
    }
    // The first count behind the statistics, unless an average is told it.
    let counts = |(id, count): &(NodeId, &Node)| {
        *id > root
            && matches!(count.op, Op::SetState(_, StateRule::Count))
            && count.layer == node.layer
            && finder.is_free(*id)
    };
    let count = graph.nodes().find(counts).map(|(id, _)| id);
    nodes.extend(states);
    nodes.extend(count.filter(|&count| finder.users(count).is_empty()));
    let outputs = nodes.clone();
    nodes.sort_unstable();
    let kernel = Kernel::FusedImages(FusedImages::BatchStatistics);
    Some(Cluster { kernel, nodes, inputs: node.inputs.clone(), outputs })
}

/// `normalize(x, ...) [+ skip] [-> relu] [-> dropout]`, if anything follows.
pub(crate) fn find_batch_apply(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let node = finder.graph.node(root);
    let Op::Normalize(normalize @ Normalize { over: Over::Channels, .. }) = node.op else {
        return None;
    };
    if !reaches(finder) || !conv::is_ours(finder, node) {
        return None;
    }
    let inputs = node.inputs.clone();
    let mut chain = Chain { finder, nodes: vec![root], inputs, output: root };
    let skip = chain.skip();
    let mut activation = None;
    if let Some((user, Node { op: Op::Unary(Unary::Relu), .. })) = chain.follows() {
        activation = Some(Unary::Relu);
        chain.take(user);
    }
    let dropout = chain.dropout(channels(&node.ty.shape));
    if chain.output == root {
        return None;
    }
    Some(chain.cluster(FusedImages::BatchApply { normalize, skip, activation, dropout }))
}

/// `[mask_nonzero(y, dy) ->] normalize_grad(x, ., ...) + statistics_grad(x, ...)`, with the gradients of
/// weight and bias where they go.
pub(crate) fn find_batch_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let node = graph.node(root);
    let Op::NormalizeGrad(normalize @ Normalize { over: Over::Channels, .. }) = node.op else {
        return None;
    };
    if !reaches(finder) || !conv::is_ours(finder, node) || finder.is_returned(root) {
        return None;
    }
    let results = finder.results(root);
    let result = |place| results.iter().find(|(number, _)| *number == place).map(|(_, id)| *id);
    let (d_mean, d_variance) = (result(1)?, result(2)?);
    let statistics = finder.only_user(d_mean)?;
    let of_statistics = graph.node(statistics);
    let belongs = of_statistics.op == Op::StatisticsGrad(Over::Channels)
        && of_statistics.inputs == [node.inputs[0], node.inputs[2], d_mean, d_variance]
        && finder.only_user(d_variance) == Some(statistics);
    let sum = finder.only_user(statistics)?;
    let is_result = |id: &NodeId| results.iter().any(|(_, result)| result == id);
    let users: Vec<NodeId> =
        finder.users(root).iter().copied().filter(|user| !is_result(user)).collect();
    let adds = graph.node(sum).op == Op::Binary(Binary::Add) && users == [sum];
    if !belongs || !adds || !conv::lies_channels_last(graph.node(sum)) {
        return None;
    }
    let mut nodes = vec![root, statistics, sum];
    nodes.extend(results.iter().map(|(_, id)| *id));
    let (mut inputs, mut outputs) = (node.inputs.clone(), vec![sum]);
    let mask = mask_before(finder, node.inputs[1]);
    if let Some((y, dy, _)) = mask {
        let masked = std::mem::replace(&mut inputs[1], dy);
        inputs.push(y);
        nodes.push(masked);
        if finder.users(masked) != [root] || finder.is_returned(masked) {
            outputs.push(masked);
        }
    }
    let mut store = None;
    for id in [result(3), result(4)].into_iter().flatten() {
        let found = destination(finder, id)?;
        match found.sink {
            Sink::Store(own) if store.is_none_or(|store| store == own) => store = Some(own),
            _ => return None,
        }
        nodes.extend(found.nodes());
        outputs.extend(found.outputs());
    }
    nodes.sort_unstable();
    let mask = mask.map(|(.., scale)| scale);
    let kernel = Kernel::FusedImages(FusedImages::BatchGradient { normalize, mask, store });
    Some(Cluster { kernel, nodes, inputs, outputs })
}

/// `mask_nonzero(y, dy)`: both operands and the factor.
fn mask_before(finder: &Finder<'_>, id: NodeId) -> Option<(NodeId, NodeId, f64)> {
    let node = finder.graph.node(id);
    let (Op::MaskNonZero(scale), &[y, dy]) = (&node.op, node.inputs.as_slice()) else {
        return None;
    };
    let fits = finder.is_free(id) && [id, y, dy].iter().all(|&id| is_image(finder, id));
    fits.then_some((y, dy, *scale))
}
