// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weighted sums along an extent, wherever that lies in memory.

use super::{ImageKernels, Kernel};
use crate::graph::{MemoryFormat, Node, NodeId};
use crate::kernel::Finder;
use crate::op::{around, Op};

/// The kernel of [`Op::Blend`], if the backend has one.
pub(super) fn kernel(finder: &Finder<'_>, id: NodeId) -> Option<Kernel> {
    let node = finder.graph.node(id);
    let Op::Blend(blend) = &node.op else { return None };
    let x = finder.graph.node(node.inputs[0]);
    let lies_alike = x.format == node.format
        || MemoryFormat::coincides(&x.ty.shape) && MemoryFormat::coincides(&node.ty.shape);
    let is_ours = finder.facts.images != ImageKernels::Absent && lies_alike;
    is_ours.then(|| {
        let [outer, _, inner] = around_stored(x, blend.axis);
        Kernel::Blend { blend: blend.clone(), outer, inner }
    })
}

/// Products of the extents before, at and behind an axis, as the value lies in memory.
fn around_stored(x: &Node, axis: usize) -> [usize; 3] {
    let shape = &x.ty.shape;
    match (x.format, shape.dims()) {
        (MemoryFormat::ChannelsLast, [samples, channels, spatial @ ..]) => {
            let stored: Vec<usize> =
                [*samples].iter().chain(spatial).chain([channels]).copied().collect();
            let axis = match axis {
                0 => 0,
                1 => stored.len() - 1,
                spatial => spatial - 1,
            };
            around(&stored.into(), axis)
        }
        _ => around(shape, axis),
    }
}
