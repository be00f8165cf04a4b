// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions and their gradients with what follows.

use std::collections::BTreeSet;

use super::batch_norm::find_line;
use super::{
    channels, is_image, reaches, to_planes, Chain, ConvGradient, ConvLine, FusedImages, Planes,
    Skip,
};
use crate::graph::{MemoryFormat, Node, NodeId};
use crate::kernel::{
    conv, counts_as_stored, linear, sees_few, weight_gradients, Cluster, Finder, Fusion, Kernel,
    Sink,
};
use crate::op::{spatial, Drops, MaxPool, Normalize, Op, Over, Rounding, Unary};
use crate::philox::ELEMENTS_PER_BLOCK;

/// Layers whose weights have their gradients in one launch: what they read is kept until the last one's is
/// there.
const LAYERS: usize = 4;
/// Most elements of a window that are compared where a convolution yields them.
const LARGEST_WINDOW: usize = 4;

/// `conv(x, weight) [+ bias] [-> relu] -> max_pool [-> dropout] [-> to_format]`
pub(crate) fn find_conv_pool(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
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
                    && counts_as_stored(node, dropout)
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
/// that are state: in evaluation. What comes past both is added where kernels span layers.
pub(crate) fn find_conv_normalize(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let Cluster { kernel, nodes, inputs, outputs } = conv::find(finder, root)?;
    let Kernel::Conv { conv, way, mut tail } = kernel else { return None };
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
    let skip = match finder.facts.fusion {
        Fusion::AcrossLayers => chain.skip(),
        Fusion::WithinLayers => Skip::Absent,
    };
    if let Some((user, &Node { op: Op::Unary(function), .. })) = chain.follows() {
        if linear::in_tail(function) {
            tail.activation = Some(function);
            chain.take(user);
        }
    }
    tail.dropout = chain.dropout(channels(&node.ty.shape) / conv.groups);
    Some(chain.cluster(FusedImages::ConvNormalize { conv, way, tail, normalize, skip }))
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
pub(crate) fn find_conv_input_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
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

/// The gradients of a few layers that store theirs, beginning with this one's; a linear layer's too, if it would have a
/// launch for itself otherwise.
pub(crate) fn find_conv_weight_gradients(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
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
    if let Some((layer, cluster)) = weight_gradients::lone(finder).filter(|_| layers.len() < LAYERS)
    {
        layers.push(layer);
        nodes.extend(cluster.nodes);
        inputs.extend(cluster.inputs);
        outputs.extend(cluster.outputs);
    }
    nodes.sort_unstable();
    let kernel = Kernel::FusedImages(FusedImages::ConvWeightGradients(layers));
    Some(Cluster { kernel, nodes, inputs, outputs })
}

fn stored(finder: &Finder<'_>, root: NodeId) -> Option<(ConvGradient, Cluster)> {
    let mut cluster = conv::find_weight_gradient(finder, root)?;
    let Kernel::ConvWeightGradient { conv, sink: Some(Sink::Store(store)), bias, .. } =
        cluster.kernel
    else {
        return None;
    };
    let line = take_line(finder, root, &mut cluster);
    Some((ConvGradient { conv, store, bias, line }, cluster))
}

/// Takes the end of a batch norm's gradient along if nothing else wants it: where results see few channels, dy passes
/// registers anyway.
fn take_line(finder: &Finder<'_>, root: NodeId, cluster: &mut Cluster) -> Option<ConvLine> {
    let [dy, x] = *cluster.inputs.as_slice() else { return None };
    let filters = finder.graph.node(root).ty.shape.dims();
    let is_own = finder.users(dy).iter().all(|user| cluster.nodes.contains(user));
    if !is_own || finder.is_returned(dy) || !sees_few(filters[1], filters[2..].iter().product()) {
        return None;
    }
    let line = find_line(finder, dy)?;
    let Kernel::FusedImages(FusedImages::BatchGradient(batch)) = line.kernel else { return None };
    let (masked, rest) = line.inputs.split_first()?;
    cluster.inputs = [&[*masked, x], rest].concat();
    cluster.nodes.extend(line.nodes);
    Some(ConvLine { normalize: batch.normalize, inputs: rest.len() })
}
