// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory pass: one arena for all values that do not outlive the run.
//!
//! Two buffers may share bytes only if every use of one is certain to be done before the other is
//! written; certainty is what the schedule's lanes and events give. What crosses between host and
//! device shares with nothing: it lies together at the arena's beginning, so that one copy each brings
//! it up and down.

mod arena;
mod exchange;
mod ranges;
mod timeline;

use std::collections::BTreeMap;

use arena::{Lifetime, Until};
use exchange::Exchange;
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
    /// What it would be if nothing shared bytes.
    pub(crate) unshared: Bytes,
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
    let mut exchange = Exchange::new(facts.given, facts.alignment);
    let mut lifetimes = Vec::new();
    for (id, node) in graph.nodes() {
        match (&node.op, facts.host_memory) {
            (Op::Input(input), HostMemory::Direct) => {
                add(&mut buffers, id, Place::Input(*input));
            }
            (Op::Input(input), HostMemory::Copied) => {
                exchange.input(buffers.len(), values.bytes(id));
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
            match place {
                Place::Arena(_) if values.is_returned_number(output) => {
                    exchange.number(buffers.len() - 1, values.bytes(output));
                }
                Place::Arena(_) => {
                    lifetimes.push(values.lifetime(buffers.len() - 1, output, index));
                }
                _ => {}
            }
        }
    }
    let mut put = |buffer: usize, offset: Bytes| {
        let place = &mut buffers[buffer].place;
        *place = match *place {
            Place::Uploaded(input, _) => Place::Uploaded(input, offset),
            _ => Place::Arena(offset),
        };
    };
    let Bytes(exchanged) = exchange.assign(&mut put);
    let timeline = Timeline::of(schedule);
    let Bytes(shared) = arena::assign(&lifetimes, &timeline, facts.alignment, |buffer, offset| {
        put(buffer, Bytes(exchanged + offset.0));
    });
    let apart = lifetimes.iter().map(|life| life.bytes.next_multiple_of(facts.alignment));
    let unshared = Bytes(exchanged + apart.sum::<usize>());
    Placement { buffers, buffer_of, arena: Bytes(exchanged + shared), unshared }
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

    fn bytes(&self, node: NodeId) -> usize {
        let (ty, _) = self.storage(node);
        ty.shape.elements() * ty.dtype.bytes()
    }

    /// Whether a run returns it and it has one element.
    fn is_returned_number(&self, node: NodeId) -> bool {
        self.returned[node.index()] && self.graph.node(node).ty.shape.elements() == 1
    }

    fn lifetime(&self, buffer: usize, node: NodeId, written: usize) -> Lifetime {
        let (bytes, written) = (self.bytes(node), Some(written));
        let until = match self.returned[node.index()] {
            true => Until::Returned,
            false => Until::LastUse,
        };
        Lifetime { buffer, bytes, written, uses: self.uses[node.index()].clone(), until }
    }
}
