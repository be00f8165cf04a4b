// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory pass: one arena for all values that do not outlive the run.
//!
//! Two buffers may share bytes only if every use of one is certain to be done before the other is
//! written; certainty is what the schedule's lanes and events give.

mod arena;
mod ranges;
mod timeline;

use std::collections::BTreeMap;

use arena::{Lifetime, Until};
use timeline::Timeline;

use super::precision;
use super::schedule::Schedule;
use crate::graph::{Graph, NodeId};
use crate::kernel::{origin, Facts, HostMemory, Storage};
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

/// What the pass knows about the values of a graph, gathered once.
struct Values<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    users: Vec<Vec<NodeId>>,
    /// Steps that take a node's value, in order.
    uses: Vec<Vec<usize>>,
    /// Whether a run returns a node's value.
    returned: Vec<bool>,
    /// The slot that a value is returned in, where kernels can write host memory directly.
    slots: Vec<Option<usize>>,
}

/// Gives every value a place.
pub(super) fn place(graph: &Graph, schedule: &Schedule, facts: &Facts) -> Placement {
    let values = Values::of(graph, schedule, facts);
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut buffer_of: BTreeMap<NodeId, BufferId> = BTreeMap::new();
    let mut add = |buffers: &mut Vec<Buffer>, node: NodeId, place: Place| {
        buffer_of.insert(node, BufferId::at(buffers.len()));
        let (ty, rounded) = values.storage(node);
        buffers.push(Buffer { ty, rounded, place });
    };
    let mut lifetimes = Vec::new();
    for (id, node) in graph.nodes() {
        match (&node.op, facts.host_memory) {
            (Op::Input(input), HostMemory::Direct) => {
                add(&mut buffers, id, Place::Input(*input));
            }
            (Op::Input(input), HostMemory::Copied) => {
                lifetimes.push(values.lifetime(buffers.len(), id, None));
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
                Op::Average(parameter) => Place::Average(parameter),
                _ => match values.slots[output.index()] {
                    Some(slot) => Place::Output(slot),
                    None => Place::Arena(Bytes(0)),
                },
            };
            add(&mut buffers, output, place);
            if let Place::Arena(_) = place {
                lifetimes.push(values.lifetime(buffers.len() - 1, output, Some(index)));
            }
        }
    }
    let timeline = Timeline::of(schedule);
    let arena = arena::assign(&lifetimes, &timeline, facts.alignment, |buffer, offset| {
        let place = &mut buffers[buffer].place;
        *place = match *place {
            Place::Uploaded(input, _) => Place::Uploaded(input, offset),
            _ => Place::Arena(offset),
        };
    });
    Placement { buffers, buffer_of, arena }
}

impl<'a> Values<'a> {
    fn of(graph: &'a Graph, schedule: &Schedule, facts: &'a Facts) -> Self {
        let mut uses = vec![Vec::new(); graph.nodes.len()];
        for (index, step) in schedule.steps.iter().enumerate() {
            for &input in &step.cluster.inputs {
                let uses: &mut Vec<usize> = &mut uses[origin(graph, input).index()];
                if uses.last() != Some(&index) {
                    uses.push(index);
                }
            }
        }
        let mut returned = vec![false; graph.nodes.len()];
        let mut slots = vec![None; graph.nodes.len()];
        let mut slot = 0;
        for &output in graph.outputs() {
            let node = origin(graph, output).index();
            returned[node] = true;
            if facts.host_memory == HostMemory::Direct && !graph.node(output).op.is_effect() {
                slots[node].get_or_insert(slot);
                slot += 1;
            }
        }
        Values { graph, facts, users: graph.users(), uses, returned, slots }
    }

    /// The type in which a value lies in memory, and the type that it is rounded to.
    fn storage(&self, node: NodeId) -> (TensorType, DType) {
        let mut ty = self.graph.node(node).ty.clone();
        let rounded = precision::stored(self.graph, &self.users, node, self.facts.precision);
        if self.facts.storage == Storage::Typed && !self.returned[node.index()] {
            ty.dtype = rounded;
        }
        (ty, rounded)
    }

    fn lifetime(&self, buffer: usize, node: NodeId, written: Option<usize>) -> Lifetime {
        let (ty, _) = self.storage(node);
        let until = match self.returned[node.index()] {
            true => Until::Returned,
            false => Until::LastUse,
        };
        let bytes = ty.shape.elements() * ty.dtype.bytes();
        Lifetime { buffer, bytes, written, uses: self.uses[node.index()].clone(), until }
    }
}
