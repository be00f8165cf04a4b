// SPDX-License-Identifier: MIT OR Apache-2.0
//! The weight gradients of linear layers in few launches: each alone is too small for a GPU.

use std::collections::BTreeSet;

use super::{weight_gradient, BiasGradient, ConvGradient, Kernel, LayerGradient, Sink};
use super::{Cluster, Finder};
use super::{Fusion, Grouping};
use crate::graph::NodeId;
use crate::op::{Conv, Op, Window};

/// Clusters of one kind that [`weight_gradient`] finds and that store their gradients, and bias gradients that are the
/// same sums.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    if finder.facts.fusion != Fusion::AcrossLayers {
        return None;
    }
    stored(finder, root)?;
    let (mut layers, mut outputs) = (Vec::new(), Vec::new());
    let mut taken = BTreeSet::new();
    // Biases with one gradient: the layer, the sum and its gradient.
    let mut shared: Vec<(usize, NodeId, NodeId)> = Vec::new();
    let mut group =
        Cluster { kernel: Kernel::Plain, nodes: vec![], inputs: vec![], outputs: vec![] };
    for (id, layer, cluster) in members(finder, root) {
        let of_bias = shared_sum(finder, id, layer);
        shared.extend(of_bias.map(|(sum, gradient)| (layers.len(), sum, gradient)));
        layers.push(layer);
        taken.extend(cluster.nodes.iter().copied());
        group.nodes.extend(cluster.nodes);
        group.inputs.extend(cluster.inputs);
        outputs.push(cluster.outputs);
    }
    // A sum that a product of another launch needs too stays a step of its own.
    for &(layer, sum, gradient) in &shared {
        let here = shared.iter().filter(|(_, of, _)| *of == sum).count();
        if here == finder.users(sum).len() {
            layers[layer].bias = BiasGradient::Computed;
            outputs[layer].push(gradient);
            group.nodes.push(gradient);
            if taken.insert(sum) {
                group.nodes.push(sum);
            }
        }
    }
    group.outputs = outputs.concat();
    group.nodes.sort_unstable();
    group.kernel = Kernel::WeightGradients(layers);
    Some(group)
}

/// The products that share a launch with one, the first of its kind that has none: those of its kind. The last of these
/// launches takes along a product that would keep the device busy alone, if all the others' factors are there before and
/// the fast kernels take it too: a launch is of one kernel.
fn members(finder: &Finder<'_>, root: NodeId) -> Vec<(NodeId, LayerGradient, Cluster)> {
    let kind = Kind::of(finder, root);
    let most = if kind == Kind::Alone { 1 } else { finder.facts.grouping.most };
    let mut taken = BTreeSet::new();
    let mut next = |from: usize, joins: &dyn Fn(NodeId) -> bool| {
        let nodes = finder.graph.nodes().skip(from).map(|(id, _)| id);
        nodes.filter(|id| finder.is_free(*id) && joins(*id)).find_map(|id| {
            let (layer, cluster) = stored(finder, id)?;
            // Two layers never share a node: a bias gradient goes to the first that finds it.
            let shares = cluster.nodes.iter().any(|node| taken.contains(node));
            (!shares).then(|| {
                taken.extend(cluster.nodes.iter().copied());
                (id, layer, cluster)
            })
        })
    };
    let mut members = Vec::new();
    let mut from = root.index();
    let is_alike = |id: NodeId| Kind::of(finder, id) == kind;
    while members.len() < most {
        let Some(member) = next(from, &is_alike) else { break };
        from = member.0.index() + 1;
        members.push(member);
    }
    if kind == Kind::Whole && members.len() < most {
        let is_large = |id: NodeId| Kind::of(finder, id) == Kind::Alone && is_whole(finder, id);
        members.extend(next(from, &is_large));
    }
    members
}

/// The gradient of a layer that would have a launch for itself without keeping the device busy, as that of a convolution of
/// images of one pixel.
pub(super) fn lone(finder: &Finder<'_>) -> Option<(ConvGradient, Cluster)> {
    let free = finder.graph.nodes().map(|(id, _)| id).filter(|&id| finder.is_free(id));
    let products: Vec<(NodeId, Kind)> = free
        .filter(|&id| stored(finder, id).is_some())
        .map(|id| (id, Kind::of(finder, id)))
        .collect();
    let is_lone = |&&(id, kind): &&(NodeId, Kind)| {
        kind != Kind::Alone
            && products.iter().filter(|(_, other)| *other == kind).count() == 1
            && members(finder, id).len() == 1
    };
    let (id, _) = products.iter().find(is_lone)?;
    let (LayerGradient { sink: Sink::Store(store), bias }, cluster) = stored(finder, *id)? else {
        return None;
    };
    let Op::MatMul(product) = finder.graph.node(*id).op else { return None };
    let conv = Conv { factors: product.factors, ..Conv::new(Window::ONE, 1) };
    let is_matrix = |id: &NodeId| finder.graph.node(*id).ty.shape.rank() == 2;
    let layer = ConvGradient { conv, store, bias, line: None };
    cluster.inputs.iter().all(is_matrix).then_some((layer, cluster))
}

/// What decides who shares a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It keeps the device busy: it waits for no other, and no memory for it.
    Alone,
    /// The fast kernels take it.
    Whole,
    /// They do not.
    Odd,
}

impl Kind {
    fn of(finder: &Finder<'_>, product: NodeId) -> Self {
        let elements = finder.graph.node(product).ty.shape.elements();
        match elements >= finder.facts.grouping.fills {
            true => Kind::Alone,
            false if is_whole(finder, product) => Kind::Whole,
            false => Kind::Odd,
        }
    }
}

/// Whether the fast kernels take a product.
fn is_whole(finder: &Finder<'_>, product: NodeId) -> bool {
    let Grouping { whole, .. } = finder.facts.grouping;
    let extents = finder.graph.node(product).ty.shape.dims();
    whole.is_none_or(|[least, multiple]| {
        extents.iter().all(|&extent| extent >= least && extent % multiple == 0)
    })
}

fn stored(finder: &Finder<'_>, root: NodeId) -> Option<(LayerGradient, Cluster)> {
    let cluster = weight_gradient::find(finder, root)?;
    match cluster.kernel {
        Kernel::WeightGradient { sink: sink @ Sink::Store(_), bias } => {
            Some((LayerGradient { sink, bias }, cluster))
        }
        _ => None,
    }
}

/// A sum of columns that several biases have as their gradient, as the two of a recurrent layer, and the gradient that
/// this product stores: each product of the same factor takes the sum again and stores it for one of them.
fn shared_sum(
    finder: &Finder<'_>,
    product: NodeId,
    layer: LayerGradient,
) -> Option<(NodeId, NodeId)> {
    let LayerGradient { sink: Sink::Store(store), bias: BiasGradient::Absent } = layer else {
        return None;
    };
    let graph = finder.graph;
    let dy = graph.node(product).inputs[0];
    let users = || finder.users(dy).iter().copied().filter(|&user| finder.is_free(user));
    let without_bias = |&user: &NodeId| match stored(finder, user) {
        Some((other, _)) => other == layer && graph.node(user).inputs[0] == dy,
        None => false,
    };
    let products: Vec<NodeId> = users().filter(without_bias).collect();
    let place = products.iter().position(|&other| other == product)?;
    let columns = graph.node(dy).ty.shape.last();
    let is_sum = |sum: &NodeId| match &graph.node(*sum).op {
        Op::SumTo(shape) => shape.dims() == [columns],
        _ => false,
    };
    let is_stored = |gradient: &NodeId| {
        finder.is_free(*gradient)
            && matches!(graph.node(*gradient).op, Op::Gradient(_, of) if of == store)
    };
    let sum = users().filter(is_sum).find(|&sum| {
        let gradients = finder.users(sum);
        (2..=products.len()).contains(&gradients.len())
            && !finder.is_returned(sum)
            && gradients.iter().all(is_stored)
    })?;
    Some((sum, *finder.users(sum).get(place)?))
}
