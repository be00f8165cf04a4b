// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts together what the passes found.

use std::sync::Arc;

use super::memory::Placement;
use super::schedule::Schedule;
use super::Returned;
use crate::graph::{Graph, NodeId};
use crate::kernel::{origin, Facts};
use crate::plan::{BufferId, Plan, Step};
use crate::{Error, Result};

/// Puts together what the passes found.
///
/// # Errors
/// [`Error::Shape`] for a result that is the same number whatever comes in: no buffer holds it.
pub(super) fn plan(
    graph: Graph,
    schedule: Schedule,
    placement: Placement,
    returned: Returned,
    facts: &Facts,
) -> Result<Plan> {
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
    let mut outputs: Vec<(NodeId, BufferId)> = Vec::new();
    let mut gradients = Vec::new();
    for (place, &id) in graph.outputs().iter().enumerate() {
        match buffer(id) {
            _ if graph.node(id).op.is_effect() => {}
            None if place < returned.results => return Err(constant(&graph, id)),
            None => {}
            Some(buffer) => {
                outputs.push((id, buffer));
                let gradient = place.checked_sub(returned.results);
                gradients.extend(gradient.and_then(|place| returned.gradients.get(place)));
            }
        }
    }
    Ok(Plan {
        steps,
        outputs,
        gradients,
        results: returned.types,
        arena: placement.arena,
        unshared: placement.unshared,
        buffers: placement.buffers,
        lanes: facts.lanes,
        events: schedule.events,
        graph: Arc::new(graph),
    })
}

fn constant(graph: &Graph, id: NodeId) -> Error {
    let node = graph.node(id);
    Error::Shape {
        layer: graph.layer(id).path.clone(),
        op: "forward".into(),
        expected: "results that depend on inputs or parameters".into(),
        got: node.op.name().into(),
    }
}
