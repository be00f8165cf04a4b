// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batch norm with what stands before and behind it.

use super::{channels, is_image, reaches, BatchGradient, BatchLine, Chain, FusedImages};
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

/// A batch norm's gradient, `sum = normalize_grad(x, dy, ...) + statistics_grad(x, ...)`.
struct Line {
    normalize: Normalize,
    statistics: NodeId,
    sum: NodeId,
    /// Of mean and variance.
    gradients: [NodeId; 2],
}

impl Line {
    fn of(finder: &Finder<'_>, root: NodeId) -> Option<Self> {
        let graph = finder.graph;
        let node = graph.node(root);
        let Op::NormalizeGrad(normalize @ Normalize { over: Over::Channels, .. }) = node.op else {
            return None;
        };
        if !reaches(finder) || !conv::is_ours(finder, node) || finder.is_returned(root) {
            return None;
        }
        let only_user = |id: NodeId| match finder.users(id) {
            [user] if !finder.is_returned(id) => Some(*user),
            _ => None,
        };
        let gradients = [result(finder, root, 1)?, result(finder, root, 2)?];
        let statistics = only_user(gradients[0])?;
        let of_statistics = graph.node(statistics);
        let [d_mean, d_variance] = gradients;
        let belongs = of_statistics.op == Op::StatisticsGrad(Over::Channels)
            && of_statistics.inputs == [node.inputs[0], node.inputs[2], d_mean, d_variance]
            && only_user(d_variance) == Some(statistics);
        let sum = only_user(statistics)?;
        let is_result = |id: &NodeId| matches!(graph.node(*id).op, Op::Result(_));
        let users: Vec<NodeId> =
            finder.users(root).iter().copied().filter(|user| !is_result(user)).collect();
        let adds = graph.node(sum).op == Op::Binary(Binary::Add) && users == [sum];
        let fits = belongs && adds && conv::lies_channels_last(graph.node(sum));
        fits.then_some(Line { normalize, statistics, sum, gradients })
    }
}

fn result(finder: &Finder<'_>, root: NodeId, place: usize) -> Option<NodeId> {
    finder.results(root).iter().find(|(number, _)| *number == place).map(|(_, id)| *id)
}

/// `[mask_nonzero(y, dy) ->] normalize_grad(x, ., ...) + statistics_grad(x, ...)`, with the gradients of
/// weight and bias where they go. Without the sum, if a gradient of weights has taken that.
pub(crate) fn find_batch_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let Line { normalize, statistics, sum, gradients } = Line::of(finder, root)?;
    let node = finder.graph.node(root);
    let (mut nodes, mut inputs, mut outputs) = (vec![root], node.inputs.clone(), vec![]);
    nodes.extend(finder.results(root).iter().map(|(_, id)| *id));
    let mask = mask_before(finder, node.inputs[1]);
    let dx = match [statistics, sum].map(|id| finder.is_free(id)) {
        [true, true] => BatchLine::Computed,
        [false, false] if mask.is_some() => BatchLine::WithWeights,
        _ => return None,
    };
    if dx == BatchLine::Computed {
        nodes.extend([statistics, sum]);
        outputs.push(sum);
    }
    if let Some((y, dy, _)) = mask {
        let masked = std::mem::replace(&mut inputs[1], dy);
        inputs.push(y);
        nodes.push(masked);
        let is_seen = finder.users(masked) != [root] || finder.is_returned(masked);
        if is_seen || dx == BatchLine::WithWeights {
            outputs.push(masked);
        }
    }
    if dx == BatchLine::WithWeights {
        outputs.extend(gradients);
    }
    let mut store = None;
    for id in [result(finder, root, 3), result(finder, root, 4)].into_iter().flatten() {
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
    let batch = BatchGradient { normalize, mask, store, dx };
    let kernel = Kernel::FusedImages(FusedImages::BatchGradient(batch));
    Some(Cluster { kernel, nodes, inputs, outputs })
}

/// The sum that a batch norm's gradient ends with, for a kernel that alone wants it: both nodes, and the masked gradient, then x, mean,
/// variance, gamma if there is one, and the gradients of mean and variance.
pub(super) fn find_line(finder: &Finder<'_>, sum: NodeId) -> Option<Cluster> {
    let is_root = |id: &NodeId| matches!(finder.graph.node(*id).op, Op::NormalizeGrad(_));
    let root = finder.graph.node(sum).inputs.iter().copied().find(is_root)?;
    // Whoever computes the rest must be able to do without the sum.
    let rest = find_batch_gradient(finder, root)?;
    let Line { statistics, gradients, sum: own, .. } = Line::of(finder, root)?;
    match rest.kernel {
        Kernel::FusedImages(FusedImages::BatchGradient(BatchGradient {
            mask: Some(_),
            dx: BatchLine::Computed,
            ..
        })) if own == sum => {}
        _ => return None,
    }
    let of_root = &finder.graph.node(root).inputs;
    let mut inputs = vec![of_root[1], of_root[0]];
    inputs.extend(&of_root[2..]);
    inputs.extend(gradients);
    let nodes = vec![statistics, sum];
    Some(Cluster { kernel: rest.kernel, nodes, inputs, outputs: vec![] })
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
