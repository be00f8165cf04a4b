// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a classifier of images with the beginning of its gradient, of which a block can have a sample.

use super::{
    channels, find_batch_apply, find_batch_gradient, find_pool_gradient_of_planes,
    find_pool_to_planes, reaches, BatchGradient, FusedImages, Skip,
};
use crate::graph::NodeId;
use crate::kernel::{
    input_gradient, linear_cross_entropy, Cluster, Finder, Kernel, LinearCrossEntropy, LossGradient,
};
use crate::op::{spatial, AvgPool, Divisor, Normalize, Op, Unary};
use crate::Shape;

/// Most channels, and most features that the scores are sums of: what a block has threads and shared memory for.
const CHANNELS: std::ops::RangeInclusive<usize> = 8..=1024;
const FEATURES: usize = 8192;

/// What [`FusedImages::ClassifierHead`] computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassifierHead {
    /// The normalisation.
    pub normalize: Normalize,
    /// Whether another value is added.
    pub skip: Skip,
    /// The pool, whose windows cover the image.
    pub pool: AvgPool,
    /// The linear layer and the loss.
    pub loss: LinearCrossEntropy,
    /// Which input the layer's weight is.
    pub weight: usize,
    /// The gradient of the normalisation.
    pub batch: BatchGradient,
}

/// `normalize [+ skip] -> relu -> avg_pool -> linear -> cross_entropy`, and its gradient up to and with
/// [`find_batch_gradient`] of that normalisation.
pub(crate) fn find_classifier_head(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    if !reaches(finder) || !matches!(graph.node(root).op, Op::Normalize(_)) {
        return None;
    }
    let apply = find_batch_apply(finder, root)?;
    let Kernel::FusedImages(FusedImages::BatchApply {
        normalize,
        skip,
        activation: Some(Unary::Relu),
        dropout: None,
    }) = apply.kernel
    else {
        return None;
    };
    let y = apply.outputs[0];
    let pooled = finder.users(y).iter().find_map(|&user| find_pool_to_planes(finder, user))?;
    let Kernel::FusedImages(FusedImages::AvgPoolToPlanes(pool)) = pooled.kernel else {
        return None;
    };
    let [image, means] = [y, pooled.outputs[0]].map(|id| &graph.node(id).ty.shape);
    if !covers(&pool, image) || !fits(image, means) {
        return None;
    }
    let mut losses = graph.nodes().filter_map(|(id, _)| linear_cross_entropy::find(finder, id));
    let from_here = |loss: &Cluster| super::origin(graph, loss.inputs[0]) == pooled.outputs[0];
    let loss = losses.find(from_here)?;
    let Kernel::LinearCrossEntropy(layer) = loss.kernel else { return None };
    if layer.gradient == LossGradient::Absent {
        return None;
    }

    // And back.
    let of_scores = finder.users(loss.outputs[1]).iter();
    let of_layer = of_scores.copied().find_map(|user| input_gradient::find(finder, user))?;
    let mut views = Vec::new();
    let turned = finder.only_user_past_views(of_layer.outputs[0], &mut views)?;
    let unpooled = find_pool_gradient_of_planes(finder, turned)?;
    let masked = finder.only_user(unpooled.outputs[0])?;
    let mut behind = finder.users(masked).iter().copied();
    let batch = behind.find_map(|user| find_batch_gradient(finder, user))?;
    let Kernel::FusedImages(FusedImages::BatchGradient(gradient)) = batch.kernel else {
        return None;
    };
    let is_its_own = of_layer.kernel == Kernel::InputGradient { mask: None }
        && of_layer.inputs[1] == loss.inputs[1]
        && unpooled.kernel == Kernel::FusedImages(FusedImages::AvgPoolGradientOfPlanes(pool))
        && gradient.mask.is_some()
        && gradient.normalize == normalize
        && batch.inputs[..2] == [apply.inputs[0], unpooled.outputs[0]]
        && batch.inputs.last() == Some(&y)
        && batch.inputs[2..4] == apply.inputs[1..3];
    let parts = [&apply, &pooled, &loss, &of_layer, &unpooled, &batch];
    let mut nodes: Vec<NodeId> = parts.iter().flat_map(|part| part.nodes.iter().copied()).collect();
    nodes.extend(views);
    nodes.sort_unstable();
    let sees_all = finder.users(y).iter().all(|user| nodes.binary_search(user).is_ok());
    let is_disjoint = nodes.windows(2).all(|pair| pair[0] != pair[1]);
    if !is_its_own || !sees_all || !is_disjoint || finder.is_returned(y) {
        return None;
    }
    let weight = apply.inputs.len();
    let mut inputs = apply.inputs;
    inputs.extend(&loss.inputs[1..]);
    let mut outputs = vec![loss.outputs[0], batch.outputs[0], pooled.outputs[0]];
    outputs.extend(&loss.outputs[1..]);
    outputs.extend(&batch.outputs[1..]);
    let head = ClassifierHead { normalize, skip, pool, loss: layer, weight, batch: gradient };
    let kernel = Kernel::FusedImages(FusedImages::ClassifierHead(head));
    Some(Cluster { kernel, nodes, inputs, outputs })
}

/// Whether windows of a flat image follow each other without a gap up to its end.
fn covers(pool: &AvgPool, image: &Shape) -> bool {
    let AvgPool { window, divisor } = pool;
    let mut extents = spatial(image).into_iter().zip(window.kernel);
    image.rank() == 4
        && window.kernel == window.stride
        && window.dilation == [1; 3]
        && window.padding == [[0; 2]; 3]
        && !matches!(divisor, Divisor::Fixed(_))
        && extents.all(|(extent, kernel)| extent.is_multiple_of(kernel))
}

/// Whether the threads of a block divide the channels evenly and its shared memory holds the means.
fn fits(image: &Shape, means: &Shape) -> bool {
    let channels = channels(image);
    CHANNELS.contains(&channels)
        && channels.is_power_of_two()
        && means.sample_elements() <= FEATURES
}
