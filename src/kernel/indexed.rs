// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slices and elements chosen by integers, and the sums that are their gradients.

use super::Kernel;
use crate::graph::{Graph, NodeId};
use crate::op::{around, Op};
use crate::Shape;

/// How the tensors of [`Kernel::Take`] and its kin lie: `x [outer, rows, inner]`, chosen from `picks`
/// times along the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picks {
    /// Product of the extents before the axis.
    pub outer: usize,
    /// The axis, along which is chosen.
    pub rows: usize,
    /// Product of the extents behind it.
    pub inner: usize,
    /// How many are chosen.
    pub picks: usize,
}

/// The kernel of an operation that chooses by integers.
pub(super) fn kernel(graph: &Graph, id: NodeId) -> Option<Kernel> {
    let node = graph.node(id);
    let shape = |input: usize| &graph.node(node.inputs[input]).ty.shape;
    let of = |x: &Shape, axis: usize, picks: usize| {
        let [outer, rows, inner] = around(x, axis);
        Picks { outer, rows, inner, picks }
    };
    Some(match &node.op {
        Op::Take { axis, .. } => Kernel::Take(of(shape(0), *axis, shape(1).elements())),
        Op::TakeGrad { axis, padding, .. } => {
            Kernel::TakeGradient(of(&node.ty.shape, *axis, shape(0).elements()), *padding)
        }
        Op::Gather(axis) => Kernel::Gather(of(shape(0), *axis, shape(1).dims()[*axis])),
        Op::GatherGrad(axis, _) => {
            Kernel::GatherGradient(of(&node.ty.shape, *axis, shape(0).dims()[*axis]))
        }
        _ => return None,
    })
}
