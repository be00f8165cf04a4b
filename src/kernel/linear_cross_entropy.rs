// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last linear layer of a classifier with its loss: the scores need not leave the chip.

use super::Fusion;
use super::{cross_entropy, linear, Kernel, LinearCrossEntropy, LinearTail, Scores};
use super::{Cluster, Finder};
use crate::graph::NodeId;
use crate::op::Op;

/// Most classes: a block of the kernel holds the scores of its rows.
const MOST_CLASSES: usize = 64;

/// `matmul(x, weight^T) [+ broadcast(bias)] -> cross_entropy`.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    if finder.facts.fusion != Fusion::AcrossLayers {
        return None;
    }
    let loss = cross_entropy::find(finder, root)?;
    let Kernel::CrossEntropy { nll, gradient } = loss.kernel else { return None };
    let scores = loss.inputs[0];
    if graph.node(scores).ty.shape.last() > MOST_CLASSES || finder.users(scores) != [root] {
        return None;
    }
    let product = match graph.node(scores).op {
        Op::Binary(_) => graph.node(scores).inputs[0],
        _ => scores,
    };
    if !finder.is_free(product) || !finder.is_free(scores) {
        return None;
    }
    let layer = linear::find(finder, product)?;
    let Kernel::Linear { tail: LinearTail { bias, activation: None, dropout: None } } =
        layer.kernel
    else {
        return None;
    };
    if layer.outputs != [scores] {
        return None;
    }
    let mut inputs = layer.inputs;
    inputs.extend(&loss.inputs[1..]);
    let mut nodes = layer.nodes;
    nodes.extend(&loss.nodes);
    nodes.sort_unstable();
    let mut outputs = loss.outputs;
    let returned = finder.is_returned(scores);
    outputs.extend(returned.then_some(scores));
    let stored = if returned { Scores::Stored } else { Scores::Dropped };
    let options = LinearCrossEntropy { bias, nll, gradient, scores: stored };
    Some(Cluster { kernel: Kernel::LinearCrossEntropy(options), nodes, inputs, outputs })
}
