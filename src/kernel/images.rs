// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pooling and normalisation: one kernel for each operation.

use super::conv::{is_ours, lies_channels_last};
use super::{Finder, ImageKernels, Kernel};
use crate::graph::NodeId;
use crate::op::{Normalize, Op, Over};

/// The kernel of an operation on images, if the backend has one.
pub(super) fn single(finder: &Finder<'_>, id: NodeId) -> Option<Kernel> {
    let graph = finder.graph;
    let node = graph.node(id);
    let kernel = match node.op {
        Op::MaxPool(pool) => Kernel::MaxPool(pool),
        Op::MaxPoolGrad(pool, _) => Kernel::MaxPoolGradient(pool),
        Op::AvgPool(pool) => Kernel::AvgPool(pool),
        Op::AvgPoolGrad(pool, _) => Kernel::AvgPoolGradient(pool),
        Op::Statistics(over) => Kernel::Statistics(over),
        Op::StatisticsGrad(over) => Kernel::StatisticsGradient(over),
        Op::Normalize(normalize) => Kernel::Normalize(normalize),
        Op::NormalizeGrad(normalize) => Kernel::NormalizeGradient(normalize),
        _ => return None,
    };
    let lies_so = match node.op {
        Op::Statistics(Over::Rows)
        | Op::StatisticsGrad(Over::Rows)
        | Op::Normalize(Normalize { over: Over::Rows, .. })
        | Op::NormalizeGrad(Normalize { over: Over::Rows, .. }) => {
            finder.facts.images != ImageKernels::Absent
        }
        Op::Statistics(Over::Channels) => {
            finder.facts.images != ImageKernels::Absent
                && lies_channels_last(graph.node(node.inputs[0]))
        }
        _ => is_ours(finder, node),
    };
    lies_so.then_some(kernel)
}
