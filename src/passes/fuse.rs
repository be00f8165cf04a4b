// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuse pass: covers the graph with kernels.
//!
//! The graph itself stays as it is. Each cluster names the nodes that one kernel computes; what the
//! kernel must compute is what those nodes mean, and that is how it is tested.

use crate::graph::Graph;
use crate::kernel::{self, is_leaf, is_view, Cluster, Facts, Finder};
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
    for (id, node) in graph.nodes() {
        if finder.is_free(id) && !is_leaf(&node.op) && !is_view(&node.op) {
            let cluster = kernel::single(&finder, id);
            finder.claim(&cluster);
            clusters.push(cluster);
        }
    }
    check_cover(graph, &clusters)?;
    Ok(clusters)
}

/// Every node is computed exactly once.
fn check_cover(graph: &Graph, clusters: &[Cluster]) -> Result<()> {
    let mut count = vec![0; graph.nodes.len()];
    for id in clusters.iter().flat_map(|cluster| &cluster.nodes) {
        count[id.index()] += 1;
    }
    let wrong = graph.nodes().find(|(id, node)| {
        let free_of_charge = is_leaf(&node.op) || is_view(&node.op);
        count[id.index()] > 1 || (count[id.index()] == 0 && !free_of_charge)
    });
    match wrong {
        None => Ok(()),
        Some((id, node)) => Err(Error::Internal {
            pass: "fuse",
            message: format!(
                "node {id:?} ({}) is computed {} times",
                node.op.name(),
                count[id.index()]
            ),
        }),
    }
}
