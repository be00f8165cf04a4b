// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slices and elements chosen by integers, and the sums that are their gradients.

use super::recurrent::element_dropout;
use super::{counts_as_stored, Cluster, Finder, Fusion, Kernel};
use crate::graph::{Graph, NodeId};
use crate::op::{around, Dropout, Op};
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

/// `take -> dropout`, where nothing else needs what was taken.
pub(super) fn find_take(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    if finder.facts.fusion != Fusion::AcrossLayers {
        return None;
    }
    let Kernel::Take(picks) = kernel(graph, root)? else { return None };
    let user = finder.only_user(root)?;
    let kernel = Kernel::TakeDropout(picks, dropout_as_stored(finder, user)?);
    let inputs = graph.node(root).inputs.clone();
    Some(Cluster { kernel, nodes: vec![root, user], inputs, outputs: vec![user] })
}

/// `dropout -> take_grad`, where nothing else needs what dropout left.
pub(super) fn find_take_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    if finder.facts.fusion != Fusion::AcrossLayers {
        return None;
    }
    let Kernel::TakeGradient(picks, padding) = kernel(graph, root)? else { return None };
    let [index, dy] = *graph.node(root).inputs else { return None };
    if !finder.is_free(dy) || finder.only_user(dy) != Some(root) {
        return None;
    }
    let kernel = Kernel::TakeGradientDropout(picks, padding, dropout_as_stored(finder, dy)?);
    let inputs = vec![index, graph.node(dy).inputs[0]];
    Some(Cluster { kernel, nodes: vec![dy, root], inputs, outputs: vec![root] })
}

/// Dropout of single elements that counts them as they lie in memory.
fn dropout_as_stored(finder: &Finder<'_>, id: NodeId) -> Option<Dropout> {
    let dropout = element_dropout(finder, id)?;
    counts_as_stored(finder.graph.node(id), dropout).then_some(dropout)
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
