// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on images together with their neighbours, for backends where a launch costs more than what
//! it computes.

use std::collections::BTreeSet;

use super::weight_gradient::destination;
use super::{
    conv, linear, BiasGradient, Cluster, Finder, Fusion, ImageKernels, Kernel, LinearTail, Sink,
};
use crate::graph::{MemoryFormat, Node, NodeId};
use crate::op::{
    spatial, AvgPool, Binary, Conv, Dropout, Drops, MaxPool, Normalize, Op, Over, Rounding,
    StateRule, Store, Unary,
};
use crate::philox::ELEMENTS_PER_BLOCK;
use crate::Shape;

/// What a kernel of images takes along.
#[derive(Clone, Debug, PartialEq)]
pub enum FusedImages {
    /// `(x, weight[, bias]) -> y[, index]`: convolution, bias and activation, then the largest elements
    /// under a window, then dropout of those.
    ConvPool {
        /// The convolution.
        conv: Conv,
        /// Bias, activation, and the dropout behind the pool.
        tail: LinearTail,
        /// The pool, whose windows neither overlap nor leave gaps.
        pool: MaxPool,
        /// How the result lies in memory.
        planes: Planes,
    },
    /// `(x, weight[, bias], mean, variance[, gamma, beta][, skip]) -> y`: convolution, normalisation with
    /// known statistics, what comes past both, activation and dropout.
    ConvNormalize {
        /// The convolution.
        conv: Conv,
        /// Bias, activation and dropout.
        tail: LinearTail,
        /// The normalisation.
        normalize: Normalize,
        /// Whether another value is added.
        skip: Skip,
    },
    /// `(dy, weight[, skip][, y][, index]) -> dx`: a convolution's gradient with respect to its input, the
    /// gradient that comes past it, the mask `y != 0`, and a pool's gradient.
    ConvInputGradient {
        /// The convolution.
        conv: Conv,
        /// Whether another gradient is added.
        skip: Skip,
        /// Factor of the gradients that pass, if there is a mask.
        mask: Option<f64>,
        /// The pool in front of the convolution, whose windows cover its image.
        unpool: Option<MaxPool>,
    },
    /// `(dy, x)... -> (d_weight[, d_bias])...`: gradients of several convolutions.
    ConvWeightGradients(Vec<ConvGradient>),
    /// `x -> mean[, variance], state...`: a batch's statistics and the running ones, which follow them.
    BatchStatistics,
    /// `(x, mean, variance[, gamma, beta][, skip]) -> y`: normalisation, what comes past it, ReLU, dropout.
    BatchApply {
        /// The normalisation.
        normalize: Normalize,
        /// Whether another value is added.
        skip: Skip,
        /// ReLU, if it follows.
        activation: Option<Unary>,
        /// Dropout, if it follows.
        dropout: Option<Dropout>,
    },
    /// `(x, dy, mean, variance[, gamma][, y]) -> dx[, masked dy], gradients...`: the gradient of
    /// normalisation with a batch's own statistics.
    BatchGradient {
        /// The normalisation.
        normalize: Normalize,
        /// Factor of the gradients that pass the mask `y != 0`, if there is one.
        mask: Option<f64>,
        /// Whether gradients of a weight and a bias are stored.
        store: Option<Store>,
    },
    /// `x -> y`: the means under a window, plane by plane.
    AvgPoolToPlanes(AvgPool),
    /// `dy -> dx`: its gradient.
    AvgPoolGradientOfPlanes(AvgPool),
    /// `(index, dy) -> dx`: a pool's gradient, of what lies plane by plane.
    MaxPoolGradientOfPlanes(MaxPool),
}

/// One layer of [`FusedImages::ConvWeightGradients`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvGradient {
    /// The convolution.
    pub conv: Conv,
    /// How they meet earlier gradients.
    pub store: Store,
    /// Whether the bias gradient is computed along.
    pub bias: BiasGradient,
}

/// Whether a kernel adds what comes past its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It does.
    Added,
    /// There is nothing.
    Absent,
}

/// How images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planes {
    /// Channel by channel.
    Apart,
    /// Channels innermost.
    Interleaved,
}

/// Layers whose weights have their gradients in one launch: what they read is kept until the last one's is
/// there.
const LAYERS: usize = 4;
/// Most elements of a window that are compared where a convolution yields them.
const LARGEST_WINDOW: usize = 4;

impl FusedImages {
    /// The kernel's name, as plans print it.
    pub fn name(&self) -> &'static str {
        match self {
            FusedImages::ConvPool { .. } => "conv_pool",
            FusedImages::ConvNormalize { .. } => "conv_normalize",
            FusedImages::ConvInputGradient { unpool: None, .. } => "conv_input_gradient",
            FusedImages::ConvInputGradient { unpool: Some(_), .. } => "conv_unpool",
            FusedImages::ConvWeightGradients(_) => "conv_weight_gradients",
            FusedImages::BatchStatistics => "batch_statistics",
            FusedImages::BatchApply { .. } => "batch_apply",
            FusedImages::BatchGradient { .. } => "batch_gradient",
            FusedImages::AvgPoolToPlanes(_) => "avg_pool",
            FusedImages::AvgPoolGradientOfPlanes(_) => "avg_pool_gradient",
            FusedImages::MaxPoolGradientOfPlanes(_) => "max_pool_gradient",
        }
    }
}

fn reaches(finder: &Finder<'_>) -> bool {
    finder.facts.fusion == Fusion::AcrossLayers && finder.facts.images != ImageKernels::Absent
}

/// A cluster that grows along a chain of values that nothing else sees.
struct Chain<'f, 'g> {
    finder: &'f Finder<'g>,
    nodes: Vec<NodeId>,
    inputs: Vec<NodeId>,
    output: NodeId,
}

impl<'g> Chain<'_, 'g> {
    fn next(&self) -> Option<(NodeId, &'g Node)> {
        let user = self.finder.only_user(self.output)?;
        Some((user, self.finder.graph.node(user)))
    }

    /// The only user, if it is of the same shape and lies channels-last.
    fn follows(&self) -> Option<(NodeId, &'g Node)> {
        let (user, node) = self.next()?;
        let is_alike = node.ty.shape == self.finder.graph.node(self.output).ty.shape;
        (is_alike && conv::lies_channels_last(node)).then_some((user, node))
    }

    fn take(&mut self, node: NodeId) {
        self.nodes.push(node);
        self.output = node;
    }

    /// Takes an addition of another image along.
    fn skip(&mut self) -> Skip {
        let Some((sum, node)) = self.follows() else { return Skip::Absent };
        let (Op::Binary(Binary::Add), &[a, b]) = (&node.op, node.inputs.as_slice()) else {
            return Skip::Absent;
        };
        let other = if a == self.output { b } else { a };
        if other == self.output || !is_image(self.finder, other) {
            return Skip::Absent;
        }
        self.inputs.push(other);
        self.take(sum);
        Skip::Added
    }

    /// Takes the mask of what was 0 along.
    fn mask(&mut self) -> Option<f64> {
        let (user, node) = self.follows()?;
        let (Op::MaskNonZero(scale), &[y, dy]) = (&node.op, node.inputs.as_slice()) else {
            return None;
        };
        if dy != self.output || y == self.output || !is_image(self.finder, y) {
            return None;
        }
        self.inputs.push(y);
        self.take(user);
        Some(*scale)
    }

    /// Takes dropout along whose runs of elements begin where those of channels do.
    fn dropout(&mut self, channels: usize) -> Option<Dropout> {
        let (user, node) = self.follows()?;
        let Op::Dropout(dropout) = node.op else { return None };
        let by_pixels = matches!(dropout.drops, Drops::Elements | Drops::Channels);
        let fits = by_pixels
            && channels.is_multiple_of(ELEMENTS_PER_BLOCK as usize)
            && super::counts_as_stored(node, dropout)
            && dropout.rate.constant_scale().is_some();
        fits.then(|| {
            self.take(user);
            dropout
        })
    }

    fn cluster(mut self, kernel: FusedImages) -> Cluster {
        self.nodes.sort_unstable();
        let (nodes, inputs) = (self.nodes, self.inputs);
        Cluster { kernel: Kernel::FusedImages(kernel), nodes, inputs, outputs: vec![self.output] }
    }
}

/// Whether a value is in memory as kernels take images, and no number that stands for all of them.
fn is_image(finder: &Finder<'_>, id: NodeId) -> bool {
    let node = finder.graph.node(id);
    let is_number = matches!(node.op, Op::Broadcast(_) | Op::Constant(_) | Op::Scalar(_));
    conv::lies_channels_last(node) && !is_number
}

/// `conv(x, weight) [+ bias] [-> relu] -> max_pool [-> dropout] [-> to_format]`
pub(super) fn find_conv_pool(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    if !reaches(finder) {
        return None;
    }
    let Cluster { kernel, nodes, inputs, outputs } = conv::find(finder, root)?;
    let Kernel::Conv { conv, mut tail, .. } = kernel else { return None };
    if tail.dropout.is_some() || !matches!(tail.activation, None | Some(Unary::Relu)) {
        return None;
    }
    let mut chain = Chain { finder, nodes, inputs, output: outputs[0] };
    let (pooled, node) = chain.next()?;
    let Op::MaxPool(pool) = node.op else { return None };
    if !follows_without_gap(&pool) || !conv::lies_channels_last(node) {
        return None;
    }
    chain.take(pooled);
    let results: Vec<NodeId> = finder.results(pooled).iter().map(|(_, result)| *result).collect();
    chain.nodes.extend(&results);
    // The index is a value beside the pool's, not one made of it.
    let users: Vec<NodeId> =
        finder.users(pooled).iter().copied().filter(|user| !results.contains(user)).collect();
    let mut planes = Planes::Interleaved;
    if let ([user], false) = (users.as_slice(), finder.is_returned(pooled)) {
        let node = finder.graph.node(*user);
        let of_group = node.ty.shape.dims().get(1).map_or(0, |channels| channels / conv.groups);
        match node.op {
            Op::Dropout(dropout) if finder.is_free(*user) => {
                let by_pixels = matches!(dropout.drops, Drops::Elements | Drops::Channels);
                if by_pixels
                    && of_group.is_multiple_of(ELEMENTS_PER_BLOCK as usize)
                    && super::counts_as_stored(node, dropout)
                    && dropout.rate.constant_scale().is_some()
                {
                    tail.dropout = Some(dropout);
                    chain.take(*user);
                    planes = to_planes(&mut chain);
                }
            }
            Op::ToFormat(MemoryFormat::Contiguous) if finder.is_free(*user) => {
                planes = Planes::Apart;
                chain.take(*user);
            }
            _ => {}
        }
    }
    let mut cluster = chain.cluster(FusedImages::ConvPool { conv, tail, pool, planes });
    cluster.outputs.extend(results);
    Some(cluster)
}

/// `conv(x, weight) [+ bias] -> normalize(., mean, ...) [+ skip] [-> activation] [-> dropout]`, with statistics
/// that are state: in evaluation.
pub(super) fn find_conv_normalize(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    if !reaches(finder) {
        return None;
    }
    let Cluster { kernel, nodes, inputs, outputs } = conv::find(finder, root)?;
    let Kernel::Conv { conv, mut tail, .. } = kernel else { return None };
    if tail.activation.is_some() || tail.dropout.is_some() {
        return None;
    }
    let mut chain = Chain { finder, nodes, inputs, output: outputs[0] };
    let (user, node) = chain.follows()?;
    let Op::Normalize(normalize @ Normalize { over: Over::Channels, .. }) = node.op else {
        return None;
    };
    let (x, known) = node.inputs.split_first()?;
    let is_known = |id: &NodeId| matches!(finder.graph.node(*id).op, Op::Parameter(_));
    if *x != chain.output || !known.iter().all(is_known) {
        return None;
    }
    chain.inputs.extend(known);
    chain.take(user);
    let skip = chain.skip();
    if let Some((user, &Node { op: Op::Unary(function), .. })) = chain.follows() {
        if linear::in_tail(function) {
            tail.activation = Some(function);
            chain.take(user);
        }
    }
    tail.dropout = chain.dropout(channels(&node.ty.shape) / conv.groups);
    Some(chain.cluster(FusedImages::ConvNormalize { conv, tail, normalize, skip }))
}

/// Takes along that an image is put plane by plane.
fn to_planes(chain: &mut Chain<'_, '_>) -> Planes {
    match chain.next() {
        Some((user, node)) if node.op == Op::ToFormat(MemoryFormat::Contiguous) => {
            chain.take(user);
            Planes::Apart
        }
        _ => Planes::Interleaved,
    }
}

/// Whether windows of a few elements follow each other without a gap.
fn follows_without_gap(MaxPool(window): &MaxPool) -> bool {
    window.kernel == window.stride
        && window.kernel.iter().all(|extent| extent.is_power_of_two())
        && (2..=LARGEST_WINDOW).contains(&window.taps())
        && window.dilation == [1; 3]
        && window.padding == [[0; 2]; 3]
        && window.rounding == Rounding::Floor
}

/// `conv_input_grad(dy, weight) [+ skip] [-> mask_nonzero(y, .)] [-> max_pool_grad(index, .)]`, if one of the
/// first and the last is there.
pub(super) fn find_conv_input_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let node = finder.graph.node(root);
    let Op::ConvInputGrad(conv, _) = node.op else { return None };
    if !reaches(finder) || !conv::is_ours(finder, node) {
        return None;
    }
    let inputs = node.inputs.clone();
    let mut chain = Chain { finder, nodes: vec![root], inputs, output: root };
    let skip = chain.skip();
    let mask = chain.mask();
    let unpool = unpooled(&mut chain);
    if skip == Skip::Absent && unpool.is_none() {
        return None;
    }
    Some(chain.cluster(FusedImages::ConvInputGradient { conv, skip, mask, unpool }))
}

fn unpooled(chain: &mut Chain<'_, '_>) -> Option<MaxPool> {
    let (user, node) = chain.next()?;
    let (Op::MaxPoolGrad(pool, image), &[index, dy]) = (&node.op, node.inputs.as_slice()) else {
        return None;
    };
    let covers = |(extent, kernel): (usize, usize)| extent.is_multiple_of(kernel);
    let fits = dy == chain.output
        && follows_without_gap(pool)
        && spatial(image).into_iter().zip(pool.0.kernel).all(covers)
        && conv::lies_channels_last(node)
        && is_image(chain.finder, index);
    fits.then(|| {
        chain.inputs.push(index);
        chain.take(user);
        *pool
    })
}

/// The gradients of a few layers that store theirs, beginning with this one's.
pub(super) fn find_conv_weight_gradients(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    if !reaches(finder) {
        return None;
    }
    stored(finder, root)?;
    let mut layers = Vec::new();
    let mut taken = BTreeSet::new();
    let (mut nodes, mut inputs, mut outputs) = (vec![], vec![], vec![]);
    for (id, _) in finder.graph.nodes().filter(|(id, _)| *id >= root && finder.is_free(*id)) {
        let Some((layer, cluster)) = stored(finder, id) else { continue };
        // Two layers never share a node: a bias gradient goes to the first that finds it.
        if cluster.nodes.iter().any(|node| taken.contains(node)) {
            continue;
        }
        layers.push(layer);
        taken.extend(cluster.nodes.iter().copied());
        nodes.extend(cluster.nodes);
        inputs.extend(cluster.inputs);
        outputs.extend(cluster.outputs);
        if layers.len() == LAYERS {
            break;
        }
    }
    nodes.sort_unstable();
    let kernel = Kernel::FusedImages(FusedImages::ConvWeightGradients(layers));
    Some(Cluster { kernel, nodes, inputs, outputs })
}

fn stored(finder: &Finder<'_>, root: NodeId) -> Option<(ConvGradient, Cluster)> {
    let cluster = conv::find_weight_gradient(finder, root)?;
    match cluster.kernel {
        Kernel::ConvWeightGradient { conv, sink: Some(Sink::Store(store)), bias, .. } => {
            Some((ConvGradient { conv, store, bias }, cluster))
        }
        _ => None,
    }
}

/// `statistics(x) -> running_average...`, with the count of batches.
pub(super) fn find_batch_statistics(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
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
pub(super) fn find_batch_apply(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
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

fn channels(image: &Shape) -> usize {
    image.dims().get(1).copied().unwrap_or(0)
}

/// `[mask_nonzero(y, dy) ->] normalize_grad(x, ., ...) + statistics_grad(x, ...)`, with the gradients of
/// weight and bias where they go.
pub(super) fn find_batch_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
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

/// `avg_pool -> to_contiguous`
pub(super) fn find_pool_to_planes(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let node = finder.graph.node(root);
    let Op::AvgPool(pool) = node.op else { return None };
    if !reaches(finder) || !conv::is_ours(finder, node) {
        return None;
    }
    let inputs = node.inputs.clone();
    let mut chain = Chain { finder, nodes: vec![root], inputs, output: root };
    match to_planes(&mut chain) {
        Planes::Apart => Some(chain.cluster(FusedImages::AvgPoolToPlanes(pool))),
        Planes::Interleaved => None,
    }
}

/// `to_channels_last -> pool_grad`
pub(super) fn find_pool_gradient_of_planes(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let turned = graph.node(root);
    if turned.op != Op::ToFormat(MemoryFormat::ChannelsLast) || !reaches(finder) {
        return None;
    }
    let user = finder.only_user(root)?;
    let node = graph.node(user);
    let (kernel, inputs) = match (&node.op, node.inputs.as_slice()) {
        (Op::AvgPoolGrad(pool, _), [_]) => {
            (FusedImages::AvgPoolGradientOfPlanes(*pool), turned.inputs.clone())
        }
        (Op::MaxPoolGrad(pool, _), &[index, dy]) if dy == root => {
            (FusedImages::MaxPoolGradientOfPlanes(*pool), vec![index, turned.inputs[0]])
        }
        _ => return None,
    };
    let lies_so = conv::is_ours(finder, node) && node.ty.shape.rank() >= 3;
    let is_number = matches!(graph.node(turned.inputs[0]).op, Op::Broadcast(_));
    if !lies_so || is_number {
        return None;
    }
    let kernel = Kernel::FusedImages(kernel);
    Some(Cluster { kernel, nodes: vec![root, user], inputs, outputs: vec![user] })
}
