// SPDX-License-Identifier: MIT OR Apache-2.0
//! The weight gradients of all linear layers in one launch: each alone is too small for a GPU.

use std::collections::BTreeSet;

use super::Fusion;
use super::{weight_gradient, Kernel, LayerGradient, Sink};
use super::{Cluster, Finder};
use crate::graph::NodeId;

/// Every cluster that [`weight_gradient`] finds and that stores its gradients.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    if finder.facts.fusion != Fusion::AcrossLayers {
        return None;
    }
    stored(finder, root)?;
    let mut layers = Vec::new();
    let mut taken = BTreeSet::new();
    let mut group =
        Cluster { kernel: Kernel::Plain, nodes: vec![], inputs: vec![], outputs: vec![] };
    for (id, _) in finder.graph.nodes().filter(|(id, _)| finder.is_free(*id)) {
        let Some((layer, cluster)) = stored(finder, id) else { continue };
        // Two layers never share a node: a bias gradient goes to the first that finds it.
        if cluster.nodes.iter().any(|node| taken.contains(node)) {
            continue;
        }
        layers.push(layer);
        taken.extend(cluster.nodes.iter().copied());
        group.nodes.extend(cluster.nodes);
        group.inputs.extend(cluster.inputs);
        group.outputs.extend(cluster.outputs);
    }
    group.nodes.sort_unstable();
    group.kernel = Kernel::WeightGradients(layers);
    Some(group)
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
