// SPDX-License-Identifier: MIT OR Apache-2.0
//! An independent judge of schedules and memory plans. It knows lanes, events and addresses, and
//! nothing of how the passes work.
//!
//! A step happens before another if it is earlier on the same lane, if the other waits for an event
//! that it (or a later step of its lane) recorded, or by way of a third step. Two steps that touch
//! the same bytes, one of them writing, must be ordered; and whatever is read must still be there.

use kiln::graph::NodeId;
use kiln::op::Op;
use kiln::plan::{BufferId, Place, Plan};

/// Bytes or an object that a step touches.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Region {
    Arena { start: usize, end: usize },
    Output(usize),
    Parameter(usize),
    Gradient(usize),
    Average(usize),
}

#[derive(Clone, Copy, Debug)]
struct Access {
    step: usize,
    region: Region,
    writes: bool,
}

/// Everything that is wrong with a plan's order and places; empty if nothing is.
pub(crate) fn faults(plan: &Plan) -> Vec<String> {
    let mut faults = unordered(plan);
    faults.extend(overwritten(plan));
    faults.extend(outside(plan));
    faults
}

/// For each step, the steps that are certain to be done before it starts.
fn happens_before(plan: &Plan) -> Vec<Vec<bool>> {
    let count = plan.steps.len();
    let mut before: Vec<Vec<bool>> = Vec::with_capacity(count);
    for (index, step) in plan.steps.iter().enumerate() {
        let mut done = vec![false; count];
        let on_lane = (0..index).rev().find(|&i| plan.steps[i].lane == step.lane);
        let waited = step.waits.iter().filter_map(|event| {
            (0..index).find(|&earlier| plan.steps[earlier].records == Some(*event))
        });
        for earlier in on_lane.into_iter().chain(waited) {
            done[earlier] = true;
            for (own, theirs) in done.iter_mut().zip(&before[earlier]) {
                *own |= theirs;
            }
        }
        before.push(done);
    }
    before
}

fn region(plan: &Plan, buffer: BufferId) -> Option<Region> {
    let buffer = plan.buffer(buffer);
    match buffer.place {
        Place::Arena(start) | Place::Uploaded(_, start) => {
            let bytes = buffer.ty.shape.elements() * buffer.ty.dtype.bytes();
            Some(Region::Arena { start: start.0, end: start.0 + bytes })
        }
        Place::Output(slot) => Some(Region::Output(slot)),
        Place::Parameter(parameter) => Some(Region::Parameter(parameter.index())),
        Place::Gradient(parameter) => Some(Region::Gradient(parameter.index())),
        Place::Average(parameter) => Some(Region::Average(parameter.index())),
        Place::Input(_) => None,
    }
}

/// What each step touches: its declared buffers, and the state that its nodes change.
fn accesses(plan: &Plan) -> Vec<Access> {
    let mut all = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let mut touch = |region: Option<Region>, writes| {
            all.extend(region.map(|region| Access { step: index, region, writes }));
        };
        step.reads.iter().flatten().for_each(|&buffer| touch(region(plan, buffer), false));
        step.writes.iter().for_each(|&buffer| touch(region(plan, buffer), true));
        for &node in &step.nodes {
            match plan.graph.node(node).op {
                Op::Update(parameter, _) => touch(Some(Region::Parameter(parameter.index())), true),
                Op::Gradient(parameter, _) => {
                    touch(Some(Region::Gradient(parameter.index())), true);
                }
                _ => {}
            }
        }
    }
    all
}

impl Region {
    fn meets(self, other: Region) -> bool {
        match (self, other) {
            (Region::Arena { start, end }, Region::Arena { start: from, end: to }) => {
                start < to && from < end
            }
            _ => self == other,
        }
    }
}

fn unordered(plan: &Plan) -> Vec<String> {
    let before = happens_before(plan);
    let accesses = accesses(plan);
    let mut faults = Vec::new();
    for (index, a) in accesses.iter().enumerate() {
        for b in &accesses[index + 1..] {
            let conflict = a.step != b.step && (a.writes || b.writes) && a.region.meets(b.region);
            if conflict && !before[b.step][a.step] {
                let name = |access: &Access| plan.steps[access.step].kernel.name();
                let (first, second) = (name(a), name(b));
                let (i, j) = (a.step, b.step);
                faults.push(format!("{first} ({i}) and {second} ({j}) race on {:?}", a.region));
            }
        }
    }
    faults
}

/// Plays the steps in issue order on a picture of the arena in which every byte knows which value
/// it belongs to.
fn overwritten(plan: &Plan) -> Vec<String> {
    let mut owner: Vec<Option<BufferId>> = vec![None; plan.arena.0];
    let mut faults = Vec::new();
    let held = |owner: &[Option<BufferId>], buffer: BufferId| match region(plan, buffer) {
        Some(Region::Arena { start, end }) => {
            owner[start..end].iter().all(|byte| *byte == Some(buffer))
        }
        _ => true,
    };
    for &buffer in plan.steps.iter().flat_map(|step| step.reads.iter().flatten()) {
        let uploaded = matches!(plan.buffer(buffer).place, Place::Uploaded(..));
        if let (true, Some(Region::Arena { start, end })) = (uploaded, region(plan, buffer)) {
            owner[start..end].fill(Some(buffer));
        }
    }
    for (index, step) in plan.steps.iter().enumerate() {
        for &buffer in step.reads.iter().flatten() {
            if !held(&owner, buffer) {
                faults.push(format!("step {index} reads {buffer:?}, which is gone"));
            }
        }
        for &buffer in &step.writes {
            if let Some(Region::Arena { start, end }) = region(plan, buffer) {
                let own_input = step.reads.iter().flatten().find(|&&read| {
                    region(plan, read).is_some_and(|r| r.meets(Region::Arena { start, end }))
                });
                if let Some(read) = own_input {
                    faults.push(format!("step {index} writes {buffer:?} over its input {read:?}"));
                }
                owner[start..end].fill(Some(buffer));
            }
        }
        for &buffer in &step.writes {
            if !held(&owner, buffer) {
                faults.push(format!("step {index} writes {buffer:?} twice over"));
            }
        }
    }
    for &(node, buffer) in &plan.outputs {
        if !held(&owner, buffer) {
            faults.push(format!("output {node:?} is overwritten before it is returned"));
        }
    }
    faults
}

/// Buffers that reach past the arena's end.
fn outside(plan: &Plan) -> Vec<String> {
    let buffers = plan.steps.iter().flat_map(|step| step.writes.iter().copied());
    let past = buffers.filter(|&buffer| {
        matches!(region(plan, buffer), Some(Region::Arena { end, .. }) if end > plan.arena.0)
    });
    past.map(|buffer| format!("{buffer:?} reaches past the arena")).collect()
}

/// Values that steps take though no step before them yields them.
pub(crate) fn unwritten(plan: &Plan) -> Vec<NodeId> {
    let graph = &plan.graph;
    let mut known: Vec<bool> = graph.nodes().map(|(_, node)| is_given(&node.op)).collect();
    let mut missing = Vec::new();
    for step in &plan.steps {
        for &input in &step.inputs {
            let mut id = input;
            while matches!(graph.node(id).op, Op::Reshape(_)) {
                id = graph.node(id).inputs[0];
            }
            if !known[id.index()] {
                missing.push(input);
            }
        }
        step.outputs.iter().for_each(|output| known[output.index()] = true);
    }
    missing
}

fn is_given(op: &Op) -> bool {
    matches!(op, Op::Input(_) | Op::Parameter(_) | Op::Constant(_) | Op::Scalar(_))
}
