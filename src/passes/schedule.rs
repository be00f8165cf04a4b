// SPDX-License-Identifier: MIT OR Apache-2.0
//! The schedule pass: an order for the steps, a lane for each, and the events between lanes.
//!
//! Order follows from the buffers that each step declares to read and write, and from nothing else:
//! a step runs after the writers of what it reads, and after the readers of what it overwrites.

use super::fuse::{is_view, Cluster};
use crate::backend::Facts;
use crate::graph::{Graph, NodeId, ParamId};
use crate::op::Op;
use crate::plan::{Event, Lane};

/// Steps in the order in which they are issued.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// The steps.
    pub(crate) steps: Vec<Scheduled>,
    /// Number of events.
    pub(crate) events: usize,
}

/// A cluster with its place in time.
#[derive(Clone, Debug)]
pub(crate) struct Scheduled {
    /// What is computed.
    pub(crate) cluster: Cluster,
    /// The lane it runs on.
    pub(crate) lane: Lane,
    /// Events of other lanes that it waits for.
    pub(crate) waits: Vec<Event>,
    /// The event that it records when done, if another lane waits for it.
    pub(crate) records: Option<Event>,
    /// For each lane, the number of its steps that are done before this one starts.
    clock: Vec<usize>,
    /// Position on its own lane, counted from 1.
    position: usize,
}

impl Schedule {
    /// Whether step `first` is certain to be done before step `second` starts.
    pub(crate) fn ordered(&self, first: usize, second: usize) -> bool {
        let (first, second) = (&self.steps[first], &self.steps[second]);
        second.clock[first.lane.index()] >= first.position
    }
}

/// A place that steps read or write, before memory is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Resource {
    Value(NodeId),
    Parameter(ParamId),
    Gradient(ParamId),
    /// State in the course of a run: its changes take effect in the order in which they were
    /// recorded.
    State(ParamId),
}

/// Orders the clusters and spreads independent ones over the backend's lanes.
pub(super) fn order(graph: &Graph, clusters: Vec<Cluster>, facts: &Facts) -> Schedule {
    let before = dependencies(graph, &clusters);
    let sequence = topological(&clusters, &before);
    let mut steps: Vec<Scheduled> = Vec::with_capacity(clusters.len());
    let mut placed: Vec<Option<usize>> = vec![None; clusters.len()];
    let mut lane_length = vec![0usize; facts.lanes.max(1)];
    let mut events = 0;
    for index in sequence {
        let mut earlier: Vec<usize> = before[index].iter().filter_map(|&b| placed[b]).collect();
        earlier.sort_unstable();
        let lane = choose_lane(&steps, &earlier, &lane_length);
        let mut clock = vec![0; lane_length.len()];
        if let Some(previous) = steps.iter().rev().find(|step| step.lane == lane) {
            clock.clone_from(&previous.clock);
        }
        clock[lane.index()] = lane_length[lane.index()];
        let mut waits = Vec::new();
        // The latest first: what it waited for needs no wait of its own.
        for &dependency in earlier.iter().rev() {
            let (other, position) = (steps[dependency].lane, steps[dependency].position);
            if clock[other.index()] >= position {
                continue;
            }
            let event = *steps[dependency].records.get_or_insert_with(|| {
                events += 1;
                Event::at(events - 1)
            });
            waits.push(event);
            for (own, theirs) in clock.iter_mut().zip(&steps[dependency].clock) {
                *own = (*own).max(*theirs);
            }
            clock[other.index()] = clock[other.index()].max(position);
        }
        lane_length[lane.index()] += 1;
        let position = lane_length[lane.index()];
        placed[index] = Some(steps.len());
        let cluster = clusters[index].clone();
        steps.push(Scheduled { cluster, lane, waits, records: None, clock, position });
    }
    Schedule { steps, events }
}

/// For each cluster, the clusters that must be done before it.
fn dependencies(graph: &Graph, clusters: &[Cluster]) -> Vec<Vec<usize>> {
    let accesses: Vec<(Vec<Resource>, Vec<Resource>)> =
        clusters.iter().map(|cluster| access(graph, cluster)).collect();
    let mut before = vec![Vec::new(); clusters.len()];
    for (later, (reads, writes)) in accesses.iter().enumerate() {
        for (earlier, (_, their_writes)) in accesses.iter().enumerate() {
            if earlier == later {
                continue;
            }
            let (their_reads, _) = &accesses[earlier];
            let read_after_write = reads.iter().any(|r| {
                matches!(r, Resource::Value(_) | Resource::Gradient(_)) && their_writes.contains(r)
            });
            let write_after_read = writes
                .iter()
                .any(|w| matches!(w, Resource::Parameter(_)) && their_reads.contains(w));
            let state = |r: &&Resource| matches!(r, Resource::State(_));
            let state_in_order = first_node(&clusters[earlier]) < first_node(&clusters[later])
                && writes.iter().chain(reads).filter(state).any(|r| {
                    their_writes.contains(r) || (writes.contains(r) && their_reads.contains(r))
                });
            if read_after_write || write_after_read || state_in_order {
                before[later].push(earlier);
            }
        }
    }
    before
}

/// What a cluster reads and writes. A parameter is read before the step that updates it, a value
/// and a stored gradient after the step that writes them.
fn access(graph: &Graph, cluster: &Cluster) -> (Vec<Resource>, Vec<Resource>) {
    let read = |id: &NodeId| match graph.node(origin(graph, *id)).op {
        Op::Parameter(parameter) => Resource::Parameter(parameter),
        Op::Gradient(parameter, _) => Resource::Gradient(parameter),
        _ => Resource::Value(origin(graph, *id)),
    };
    let mut reads: Vec<Resource> = cluster.inputs.iter().map(read).collect();
    reads.extend(cluster.inputs.iter().filter_map(|id| match graph.node(*id).op {
        Op::SetState(parameter, _) => Some(Resource::State(parameter)),
        _ => None,
    }));
    let mut writes: Vec<Resource> = cluster.outputs.iter().map(|&id| Resource::Value(id)).collect();
    for id in &cluster.nodes {
        match graph.node(*id).op {
            Op::Update(parameter, _) => writes.push(Resource::Parameter(parameter)),
            Op::Gradient(parameter, _) => writes.push(Resource::Gradient(parameter)),
            Op::SetState(parameter, _) => {
                writes.extend([Resource::Parameter(parameter), Resource::State(parameter)]);
            }
            _ => {}
        }
    }
    (reads, writes)
}

fn first_node(cluster: &Cluster) -> Option<NodeId> {
    cluster.nodes.iter().min().copied()
}

/// The node whose buffer a view renames.
pub(crate) fn origin(graph: &Graph, mut id: NodeId) -> NodeId {
    while is_view(&graph.node(id).op) {
        id = graph.node(id).inputs[0];
    }
    id
}

/// Clusters in dependency order; among those that are ready, the one whose last node was recorded
/// first, so that the plan reads as the network does.
fn topological(clusters: &[Cluster], before: &[Vec<usize>]) -> Vec<usize> {
    let rank = |index: usize| first_node(&clusters[index]);
    let mut done = vec![false; clusters.len()];
    let mut sequence = Vec::with_capacity(clusters.len());
    while sequence.len() < clusters.len() {
        let ready = (0..clusters.len())
            .filter(|&index| !done[index] && before[index].iter().all(|&b| done[b]))
            .min_by_key(|&index| rank(index));
        // Values flow forward and updates come last, so the dependencies have no cycle.
        let Some(next) = ready else { break };
        done[next] = true;
        sequence.push(next);
    }
    sequence
}

/// The lane of the latest step that this one waits for, if nothing was put behind that step yet;
/// else the lane with the fewest steps.
fn choose_lane(steps: &[Scheduled], earlier: &[usize], lane_length: &[usize]) -> Lane {
    let tail = earlier.iter().rev().map(|&index| &steps[index]);
    for step in tail {
        if step.position == lane_length[step.lane.index()] {
            return step.lane;
        }
    }
    let shortest = (0..lane_length.len()).min_by_key(|&lane| lane_length[lane]);
    Lane::at(shortest.unwrap_or(0))
}
