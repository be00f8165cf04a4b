// SPDX-License-Identifier: MIT OR Apache-2.0
//! A linear layer's gradients with respect to weight and bias, and what becomes of them: stored,
//! or, where nothing else needs them, taken by the optimiser while they are in registers.

use super::optimizer::average_of;
use super::UpdatePlace;
use super::{BiasGradient, Kernel, Sink};
use super::{Cluster, Finder};
use crate::graph::{NodeId, ParamUsage};
use crate::op::{MatMul, Op};

/// `matmul(dy^T, x) -> gradient [-> update]`, with `sum_to(dy) -> gradient [-> update]` of the same
/// layer's bias.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let product = graph.node(root);
    if !matches!(product.op, Op::MatMul(p) if p.is_like(MatMul::WEIGHT_GRADIENT)) {
        return None;
    }
    let weight = destination(finder, root)?;
    let Op::Gradient(parameter, _) = graph.node(weight.gradient).op else { return None };
    if graph.parameters()[parameter.index()].usage != ParamUsage::LinearWeight {
        return None;
    }
    let mut nodes = vec![root];
    nodes.extend(weight.nodes());
    let mut outputs: Vec<NodeId> = weight.outputs().collect();
    let mut bias = BiasGradient::Absent;
    let columns = graph.node(product.inputs[0]).ty.shape.last();
    let sums = finder.users(product.inputs[0]).iter().copied().filter(
        |&user| matches!(&graph.node(user).op, Op::SumTo(shape) if shape.dims() == [columns]),
    );
    for sum in sums.filter(|&sum| finder.is_free(sum)) {
        let Some(found) = destination(finder, sum) else { continue };
        if found.sink.is_like(weight.sink) {
            bias = BiasGradient::Computed;
            nodes.push(sum);
            nodes.extend(found.nodes());
            outputs.extend(found.outputs());
            break;
        }
    }
    nodes.sort_unstable();
    let kernel = Kernel::WeightGradient { sink: weight.sink, bias };
    Some(Cluster { kernel, nodes, inputs: product.inputs.clone(), outputs })
}

pub(super) struct Destination {
    gradient: NodeId,
    update: Option<NodeId>,
    /// The parameter's average, moved along with its update.
    average: Option<NodeId>,
    pub(super) sink: Sink,
}

impl Destination {
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        [Some(self.gradient), self.update, self.average].into_iter().flatten()
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = NodeId> {
        std::iter::once(self.update.unwrap_or(self.gradient)).chain(self.average)
    }
}

/// Where a gradient goes. The update is taken along only if it is the gradient's sole user and
/// waits for nothing else, such as the norm of all gradients.
pub(super) fn destination(finder: &Finder<'_>, value: NodeId) -> Option<Destination> {
    let graph = finder.graph;
    let gradient = finder.only_user(value)?;
    let Op::Gradient(_, store) = graph.node(gradient).op else { return None };
    let stored = Destination { gradient, update: None, average: None, sink: Sink::Store(store) };
    if finder.facts.update_place == UpdatePlace::Flat || store != crate::op::Store::Overwrite {
        return Some(stored);
    }
    let Some(update) = finder.only_user(gradient) else { return Some(stored) };
    match &graph.node(update).op {
        Op::Update(_, own) if graph.node(update).inputs == [gradient] => Some(Destination {
            gradient,
            update: Some(update),
            average: average_of(finder, update),
            sink: Sink::Update(own.rule),
        }),
        _ => Some(stored),
    }
}
