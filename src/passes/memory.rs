// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory pass: one arena for all values that do not outlive the run.
//!
//! Two buffers may share bytes only if every use of one is certain to be done before the other is
//! written; certainty is what the schedule's lanes and events give.

use std::collections::BTreeMap;

use super::precision;
use super::schedule::{origin, Schedule};
use crate::backend::{Facts, HostMemory, Storage};
use crate::graph::{Graph, NodeId};
use crate::op::{Op, TensorType};
use crate::plan::{Buffer, BufferId, Bytes, Place};
use crate::DType;

/// Where every value lives.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// The buffers.
    pub(crate) buffers: Vec<Buffer>,
    /// The buffer of each node that has one.
    pub(crate) buffer_of: BTreeMap<NodeId, BufferId>,
    /// Size of the arena.
    pub(crate) arena: Bytes,
}

struct Lifetime {
    buffer: usize,
    bytes: usize,
    /// The step that writes it; `None` for what is uploaded before the first step.
    written: Option<usize>,
    uses: Vec<usize>,
}

/// Gives every value a place.
pub(super) fn place(graph: &Graph, schedule: &Schedule, facts: &Facts) -> Placement {
    let users = graph.users();
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut buffer_of: BTreeMap<NodeId, BufferId> = BTreeMap::new();
    let mut add = |buffers: &mut Vec<Buffer>, node: NodeId, place: Place| {
        buffer_of.insert(node, BufferId::at(buffers.len()));
        let (ty, rounded) = storage(graph, &users, node, facts);
        buffers.push(Buffer { ty, rounded, place });
    };
    let lifetime = |buffer: usize, node: NodeId, written: Option<usize>| {
        let (ty, _) = storage(graph, &users, node, facts);
        let bytes = ty.shape.elements() * ty.dtype.bytes();
        Lifetime { buffer, bytes, written, uses: uses(graph, schedule, node) }
    };
    let mut lifetimes = Vec::new();
    for (id, node) in graph.nodes() {
        match (&node.op, facts.host_memory) {
            (Op::Input(input), HostMemory::Direct) => {
                add(&mut buffers, id, Place::Input(*input));
            }
            (Op::Input(input), HostMemory::Copied) => {
                lifetimes.push(lifetime(buffers.len(), id, None));
                add(&mut buffers, id, Place::Uploaded(*input, Bytes(0)));
            }
            (Op::Parameter(parameter), _) => add(&mut buffers, id, Place::Parameter(*parameter)),
            _ => {}
        }
    }
    for (index, step) in schedule.steps.iter().enumerate() {
        for &output in &step.cluster.outputs {
            let place = match graph.node(output).op {
                Op::Gradient(parameter, _) => Place::Gradient(parameter),
                Op::Update(parameter, _) | Op::SetState(parameter, _) => {
                    Place::Parameter(parameter)
                }
                _ => match output_slot(graph, output, facts) {
                    Some(slot) => Place::Output(slot),
                    None => Place::Arena(Bytes(0)),
                },
            };
            add(&mut buffers, output, place);
            if let Place::Arena(_) = place {
                lifetimes.push(lifetime(buffers.len() - 1, output, Some(index)));
            }
        }
    }
    let arena = assign(&mut buffers, lifetimes, schedule, facts.alignment);
    Placement { buffers, buffer_of, arena }
}

/// The type in which a value lies in memory, and the type that it is rounded to.
fn storage(
    graph: &Graph,
    users: &[Vec<NodeId>],
    node: NodeId,
    facts: &Facts,
) -> (TensorType, DType) {
    let mut ty = graph.node(node).ty.clone();
    let rounded = precision::stored(graph, users, node, facts.precision);
    let returned = || graph.outputs().iter().any(|&out| origin(graph, out) == node);
    if facts.storage == Storage::Typed && !returned() {
        ty.dtype = rounded;
    }
    (ty, rounded)
}

/// The output slot that a value is returned in, where kernels can write host memory directly.
fn output_slot(graph: &Graph, node: NodeId, facts: &Facts) -> Option<usize> {
    match facts.host_memory {
        HostMemory::Direct => {
            let returned = graph.outputs().iter().filter(|out| !graph.node(**out).op.is_effect());
            returned.map(|&out| origin(graph, out)).position(|out| out == node)
        }
        HostMemory::Copied => None,
    }
}

/// Steps that take a value; a returned value is in use until the end.
fn uses(graph: &Graph, schedule: &Schedule, node: NodeId) -> Vec<usize> {
    let takes = |id: &NodeId| origin(graph, *id) == node;
    let mut uses: Vec<usize> = (0..schedule.steps.len())
        .filter(|&step| schedule.steps[step].cluster.inputs.iter().any(takes))
        .collect();
    if graph.outputs().iter().any(takes) {
        uses.push(usize::MAX);
    }
    uses
}

/// Largest buffers first, each at the lowest offset where nothing that may be alive at the same
/// time overlaps it.
fn assign(
    buffers: &mut [Buffer],
    mut lifetimes: Vec<Lifetime>,
    schedule: &Schedule,
    alignment: usize,
) -> Bytes {
    lifetimes.sort_by_key(|life| (std::cmp::Reverse(life.bytes), life.buffer));
    let mut placed: Vec<(usize, usize, &Lifetime)> = Vec::new();
    let mut end = 0;
    for life in &lifetimes {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, _, other)| !apart(schedule, life, other))
            .map(|&(start, stop, _)| (start, stop))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, stop) in taken {
            if offset + life.bytes <= start {
                break;
            }
            offset = offset.max(stop.next_multiple_of(alignment));
        }
        let place = &mut buffers[life.buffer].place;
        *place = match *place {
            Place::Uploaded(input, _) => Place::Uploaded(input, Bytes(offset)),
            _ => Place::Arena(Bytes(offset)),
        };
        placed.push((offset, offset + life.bytes, life));
        end = end.max((offset + life.bytes).next_multiple_of(alignment));
    }
    Bytes(end)
}

/// Whether one buffer's last use is certain to come before the other's writer starts.
fn apart(schedule: &Schedule, a: &Lifetime, b: &Lifetime) -> bool {
    let done_before = |first: &Lifetime, second: &Lifetime| {
        let Some(writer) = second.written else { return false };
        let mut ends = first.written.iter().chain(&first.uses);
        ends.all(|&step| step != usize::MAX && schedule.ordered(step, writer))
    };
    done_before(a, b) || done_before(b, a)
}
