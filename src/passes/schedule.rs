// SPDX-License-Identifier: MIT OR Apache-2.0
//! The schedule pass: an order for the steps, a lane for each, and the events between lanes.
//!
//! Order follows from the buffers that each step declares to read and write, and from nothing else:
//! a step runs after the writers of what it reads, and after the readers of what it overwrites.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::graph::{Graph, NodeId, ParamId};
use crate::kernel::{origin, Cluster, Facts};
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
    pub(super) clock: Vec<usize>,
    /// Position on its own lane, counted from 1.
    position: usize,
}

/// Orders the clusters and spreads independent ones over the backend's lanes.
pub(super) fn order(graph: &Graph, clusters: Vec<Cluster>, facts: &Facts) -> Schedule {
    let before = dependencies(graph, &clusters);
    let sequence = topological(&clusters, &before);
    let mut clusters: Vec<Option<Cluster>> = clusters.into_iter().map(Some).collect();
    let mut steps: Vec<Scheduled> = Vec::with_capacity(clusters.len());
    let mut placed: Vec<Option<usize>> = vec![None; clusters.len()];
    let mut lanes = vec![Tail::default(); facts.lanes.max(1)];
    let mut events = 0;
    for index in sequence {
        let Some(cluster) = clusters[index].take() else { continue };
        let mut earlier: Vec<usize> = before[index].iter().filter_map(|&b| placed[b]).collect();
        earlier.sort_unstable();
        let lane = choose_lane(&steps, &earlier, &lanes);
        let own = &mut lanes[lane.index()];
        let mut clock = match own.last {
            Some(last) => steps[last].clock.clone(),
            None => vec![0; facts.lanes.max(1)],
        };
        clock[lane.index()] = own.length;
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
        own.length += 1;
        own.last = Some(steps.len());
        let position = own.length;
        placed[index] = Some(steps.len());
        steps.push(Scheduled { cluster, lane, waits, records: None, clock, position });
    }
    Schedule { steps, events }
}

/// What a lane holds so far.
#[derive(Clone, Debug, Default)]
struct Tail {
    /// Number of its steps.
    length: usize,
    /// Its last step.
    last: Option<usize>,
}

/// For each cluster, the clusters that must be done before it, in order: what writes the values and
/// stored gradients that it reads, and what reads the parameters that it changes.
fn dependencies(graph: &Graph, clusters: &[Cluster]) -> Vec<Vec<usize>> {
    let mut writers = Users::of(graph);
    let mut readers = Users::of(graph);
    for (index, cluster) in clusters.iter().enumerate() {
        reads(graph, cluster).for_each(|resource| readers.of_mut(resource).push(index));
        writes(graph, cluster).for_each(|resource| writers.of_mut(resource).push(index));
    }
    let mut before = vec![Vec::new(); clusters.len()];
    for (index, cluster) in clusters.iter().enumerate() {
        for resource in reads(graph, cluster) {
            if !matches!(resource, Resource::Parameter(_)) {
                before[index].extend(writers.of_ref(resource));
            }
        }
        for resource in writes(graph, cluster) {
            if matches!(resource, Resource::Parameter(_)) {
                before[index].extend(readers.of_ref(resource));
            }
        }
    }
    order_changes_of_state(graph, clusters, &mut before);
    for (index, before) in before.iter_mut().enumerate() {
        before.retain(|&other| other != index);
        before.sort_unstable();
        before.dedup();
    }
    before
}

/// State changes in the course of a run, in the order in which its changes were recorded: each waits
/// for the one before and for what reads that one's result.
fn order_changes_of_state(graph: &Graph, clusters: &[Cluster], before: &mut [Vec<usize>]) {
    let mut recorded: Vec<usize> = (0..clusters.len()).collect();
    recorded.sort_unstable_by_key(|&index| first_node(&clusters[index]));
    let parameters = graph.parameters().len();
    let mut last_change: Vec<Option<usize>> = vec![None; parameters];
    let mut read_since: Vec<Vec<usize>> = vec![Vec::new(); parameters];
    let changed = |id: NodeId| match graph.node(id).op {
        Op::SetState(parameter, _) => Some(parameter.index()),
        _ => None,
    };
    for index in recorded {
        let inputs = clusters[index].inputs.iter().map(|&id| origin(graph, id));
        for parameter in inputs.filter_map(changed) {
            before[index].extend(last_change[parameter]);
            read_since[parameter].push(index);
        }
        for parameter in clusters[index].nodes.iter().copied().filter_map(changed) {
            before[index].extend(last_change[parameter].replace(index));
            before[index].append(&mut read_since[parameter]);
        }
    }
}

/// A place that steps read or write, before memory is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Value(NodeId),
    Parameter(ParamId),
    Gradient(ParamId),
}

/// Clusters by what they use.
struct Users {
    values: Vec<Vec<usize>>,
    parameters: Vec<Vec<usize>>,
    gradients: Vec<Vec<usize>>,
}

impl Users {
    fn of(graph: &Graph) -> Self {
        let (values, parameters) = (graph.nodes().len(), graph.parameters().len());
        Users {
            values: vec![Vec::new(); values],
            parameters: vec![Vec::new(); parameters],
            gradients: vec![Vec::new(); parameters],
        }
    }

    fn of_ref(&self, resource: Resource) -> &[usize] {
        match resource {
            Resource::Value(id) => &self.values[id.index()],
            Resource::Parameter(id) => &self.parameters[id.index()],
            Resource::Gradient(id) => &self.gradients[id.index()],
        }
    }

    fn of_mut(&mut self, resource: Resource) -> &mut Vec<usize> {
        match resource {
            Resource::Value(id) => &mut self.values[id.index()],
            Resource::Parameter(id) => &mut self.parameters[id.index()],
            Resource::Gradient(id) => &mut self.gradients[id.index()],
        }
    }
}

/// What a cluster reads. A parameter is read before the step that changes it, a value and a stored
/// gradient after the step that writes them.
fn reads<'a>(graph: &'a Graph, cluster: &'a Cluster) -> impl Iterator<Item = Resource> + 'a {
    cluster.inputs.iter().map(|&id| {
        let id = origin(graph, id);
        match graph.node(id).op {
            Op::Parameter(parameter) => Resource::Parameter(parameter),
            Op::Gradient(parameter, _) => Resource::Gradient(parameter),
            _ => Resource::Value(id),
        }
    })
}

fn writes<'a>(graph: &'a Graph, cluster: &'a Cluster) -> impl Iterator<Item = Resource> + 'a {
    let state = cluster.nodes.iter().filter_map(|&id| match graph.node(id).op {
        Op::Update(parameter, _) | Op::SetState(parameter, _) => {
            Some(Resource::Parameter(parameter))
        }
        Op::Gradient(parameter, _) => Some(Resource::Gradient(parameter)),
        _ => None,
    });
    cluster.outputs.iter().map(|&id| Resource::Value(id)).chain(state)
}

fn first_node(cluster: &Cluster) -> Option<NodeId> {
    cluster.nodes.iter().min().copied()
}

/// Clusters in dependency order; among those that are ready, the one whose last node was recorded
/// first, so that the plan reads as the network does.
fn topological(clusters: &[Cluster], before: &[Vec<usize>]) -> Vec<usize> {
    let rank = |index: usize| Reverse((first_node(&clusters[index]), index));
    let mut missing: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut after = vec![Vec::new(); clusters.len()];
    for (later, earlier) in before.iter().enumerate() {
        earlier.iter().for_each(|&earlier| after[earlier].push(later));
    }
    let free = (0..clusters.len()).filter(|&index| missing[index] == 0);
    let mut ready: BinaryHeap<_> = free.map(rank).collect();
    let mut sequence = Vec::with_capacity(clusters.len());
    // Values flow forward and updates come last, so the dependencies have no cycle.
    while let Some(Reverse((_, next))) = ready.pop() {
        sequence.push(next);
        for &later in &after[next] {
            missing[later] -= 1;
            if missing[later] == 0 {
                ready.push(rank(later));
            }
        }
    }
    sequence
}

/// The lane of the latest step that this one waits for, if nothing was put behind that step yet;
/// else the lane with the fewest steps.
fn choose_lane(steps: &[Scheduled], earlier: &[usize], lanes: &[Tail]) -> Lane {
    let tail = earlier.iter().rev().map(|&index| &steps[index]);
    for step in tail {
        if step.position == lanes[step.lane.index()].length {
            return step.lane;
        }
    }
    let shortest = (0..lanes.len()).min_by_key(|&lane| lanes[lane].length);
    Lane::at(shortest.unwrap_or(0))
}
