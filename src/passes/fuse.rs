// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuse pass: covers the graph with kernels.
//!
//! The graph itself stays as it is. Each cluster names the nodes that one kernel computes; what the
//! kernel must compute is what those nodes mean, and that is how it is tested.

use crate::graph::Graph;
use crate::kernel::{self, is_leaf, is_read_through, origin, Cluster, Facts, Finder};
use crate::{Error, Result};

/// Covers the graph: the kernels that replace most are tried first, each remaining node gets the
/// kernel of its operation.
pub(super) fn clusters(graph: &Graph, facts: &Facts) -> Result<Vec<Cluster>> {
    let mut finder = Finder::new(graph, facts);
    let mut clusters: Vec<Cluster> = Vec::new();
    for find in kernel::FINDERS {
        for (id, _) in graph.nodes() {
            if finder.is_free(id) {
                if let Some(cluster) = find(&finder, id) {
                    finder.claim(&cluster);
                    clusters.push(cluster);
                }
            }
        }
    }
    for chain in kernel::chains(&finder, &clusters) {
        finder.claim(&chain);
        clusters.push(chain);
    }
    for (id, node) in graph.nodes() {
        if finder.is_free(id) && !is_leaf(&node.op) && !is_read_through(&node.op) {
            let cluster = kernel::single(&finder, id);
            finder.claim(&cluster);
            clusters.push(cluster);
        }
    }
    check_cover(graph, &clusters)?;
    Ok(clusters)
}

/// Every node is computed exactly once, and whatever a cluster takes is there.
fn check_cover(graph: &Graph, clusters: &[Cluster]) -> Result<()> {
    let mut count = vec![0; graph.nodes.len()];
    let mut is_there: Vec<bool> = graph.nodes().map(|(_, node)| is_leaf(&node.op)).collect();
    for cluster in clusters {
        cluster.nodes.iter().for_each(|id| count[id.index()] += 1);
        cluster.outputs.iter().for_each(|id| is_there[id.index()] = true);
    }
    let wrong = |message| Err(Error::Internal { pass: "fuse", message });
    for (id, node) in graph.nodes() {
        let count = count[id.index()];
        if count != 1 && !is_leaf(&node.op) && !is_read_through(&node.op) {
            return wrong(format!("node {id:?} ({}) is computed {count} times", node.op.name()));
        }
    }
    let taken = clusters.iter().flat_map(|cluster| &cluster.inputs).chain(graph.outputs());
    match taken.map(|&id| origin(graph, id)).find(|id| !is_there[id.index()]) {
        None => Ok(()),
        Some(id) => wrong(format!("nothing yields node {id:?} ({})", graph.node(id).op.name())),
    }
}
