// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pools whose results lie plane by plane.

use super::{reaches, to_planes, Chain, FusedImages, Planes};
use crate::graph::{MemoryFormat, NodeId};
use crate::kernel::{conv, Cluster, Finder, Kernel};
use crate::op::Op;

/// `avg_pool -> to_contiguous`
pub(crate) fn find_pool_to_planes(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
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
pub(crate) fn find_pool_gradient_of_planes(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
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
