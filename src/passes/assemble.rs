// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts together what the passes found.

use std::sync::Arc;

use super::memory::Placement;
use super::schedule::Schedule;
use crate::graph::{Graph, NodeId};
use crate::kernel::{origin, Facts};
use crate::plan::{BufferId, Plan, Step};

/// Puts together what the passes found.
pub(super) fn plan(graph: Graph, schedule: Schedule, placement: Placement, facts: &Facts) -> Plan {
    let buffer = |id: NodeId| placement.buffer_of.get(&origin(&graph, id)).copied();
    let mut steps = Vec::with_capacity(schedule.steps.len());
    for scheduled in &schedule.steps {
        let cluster = &scheduled.cluster;
        let stored = |id: NodeId| match buffer(id) {
            Some(id) => placement.buffers[id.index()].ty.dtype,
            None => graph.node(id).ty.dtype,
        };
        let cost = cluster.kernel.cost(&graph, cluster, stored);
        // A fused step counts to the layer that begins it: the linear layer, not its dropout.
        let path = |id: &NodeId| graph.layer(*id).path.as_str();
        let layer = cluster.nodes.iter().map(path).find(|path| !path.is_empty());
        steps.push(Step {
            kernel: cluster.kernel.clone(),
            nodes: cluster.nodes.clone(),
            inputs: cluster.inputs.clone(),
            outputs: cluster.outputs.clone(),
            reads: cluster.inputs.iter().map(|&id| buffer(id)).collect(),
            writes: cluster.outputs.iter().filter_map(|&id| buffer(id)).collect(),
            lane: scheduled.lane,
            waits: scheduled.waits.clone(),
            records: scheduled.records,
            layer: layer.unwrap_or_default().to_string(),
            bytes: cost.bytes,
            flops: cost.flops,
        });
    }
    let returned = |id: &&NodeId| !graph.node(**id).op.is_effect();
    let outputs: Vec<(NodeId, BufferId)> = graph
        .outputs()
        .iter()
        .filter(returned)
        .filter_map(|&id| buffer(id).map(|buffer| (id, buffer)))
        .collect();
    Plan {
        steps,
        outputs,
        arena: placement.arena,
        buffers: placement.buffers,
        lanes: facts.lanes,
        events: schedule.events,
        graph: Arc::new(graph),
    }
}
