// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan: what a backend runs. Plain data, printable, the same for the same input.

use std::sync::Arc;

use serde::Serialize;

use crate::graph::{Graph, InputId, NodeId, ParamId};
use crate::kernel::Kernel;
use crate::op::{Op, TensorType};
use crate::DType;

/// A number of bytes, or an offset in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Bytes(pub usize);

/// Index of a buffer in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(u32);

/// A queue of steps that run in order; a stream on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u32);

/// A point on a lane that other lanes can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event(u32);

/// Memory that steps read and write.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Shape and element type of the value when it is written.
    pub ty: TensorType,
    /// What its elements are rounded to when they are written; the element type if they are not.
    pub rounded: DType,
    /// Where it lives.
    pub place: Place,
}

/// Where a buffer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the plan's arena, at an offset.
    Arena(Bytes),
    /// A tensor given with the run, which kernels read where it is.
    Input(InputId),
    /// A tensor given with the run, copied to the plan's arena, at an offset, before the first step.
    Uploaded(InputId, Bytes),
    /// A tensor returned from the run.
    Output(usize),
    /// A parameter's value, in the backend's layout.
    Parameter(ParamId),
    /// A parameter's gradient, in the backend's layout.
    Gradient(ParamId),
    /// A parameter's moving average, in the backend's layout.
    Average(ParamId),
}

/// One kernel launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The kernel.
    pub kernel: Kernel,
    /// The nodes of the graph that it computes.
    pub nodes: Vec<NodeId>,
    /// The values it takes, in the kernel's order.
    pub inputs: Vec<NodeId>,
    /// The values it yields, in the kernel's order.
    pub outputs: Vec<NodeId>,
    /// The buffers behind `inputs`; constants and run scalars have none.
    pub reads: Vec<Option<BufferId>>,
    /// The buffers behind `outputs`.
    pub writes: Vec<BufferId>,
    /// The lane it runs on.
    pub lane: Lane,
    /// Events that it waits for.
    pub waits: Vec<Event>,
    /// The event that it records.
    pub records: Option<Event>,
    /// Path of the layer it computes.
    pub layer: String,
    /// Bytes that the kernel reads and writes: each input once and each output once, moments of an
    /// optimiser included.
    pub bytes: usize,
    /// Floating-point operations of its matrix products.
    pub flops: usize,
}

/// A compiled graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The graph, after all passes: the meaning of the steps.
    pub graph: Arc<Graph>,
    /// The steps in issue order.
    pub steps: Vec<Step>,
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// The buffer and node of each value that a run returns.
    pub outputs: Vec<(NodeId, BufferId)>,
    /// Types of the function's results. Of a training step a run returns the first alone, the loss.
    pub results: Vec<TensorType>,
    /// The inputs whose gradients are returned, in order, behind the results.
    pub gradients: Vec<InputId>,
    /// Size of the arena.
    pub arena: Bytes,
    /// What it would be if no buffers shared bytes.
    pub unshared: Bytes,
    /// Number of lanes in use.
    pub lanes: usize,
    /// Number of events.
    pub events: usize,
}

/// Sums over a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Number of steps.
    pub steps: usize,
    /// Bytes that all steps read and write.
    pub bytes: usize,
    /// Floating-point operations of all matrix products.
    pub flops: usize,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// What the arena's buffers would take if none shared bytes.
    pub unshared_bytes: usize,
    /// Bytes of buffers that hold nothing but random decisions.
    pub mask_bytes: usize,
    /// Number of steps that draw random numbers.
    pub random_steps: usize,
}

impl Plan {
    /// The buffer at an index.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.index()]
    }

    /// Sums over the plan.
    pub fn totals(&self) -> Totals {
        let size = |ty: &TensorType| ty.shape.elements() * ty.dtype.bytes();
        let sum = |numbers: &mut dyn Iterator<Item = usize>| numbers.fold(0, usize::saturating_add);
        let draws = |id: &NodeId| self.graph.node(*id).op.is_random();
        // A random operation without a tensor to act on yields nothing but its decisions.
        let is_mask = |id: &&NodeId| draws(id) && self.graph.node(**id).inputs.is_empty();
        let written = || self.steps.iter().flat_map(|step| &step.outputs);
        Totals {
            steps: self.steps.len(),
            bytes: sum(&mut self.steps.iter().map(|step| step.bytes)),
            flops: sum(&mut self.steps.iter().map(|step| step.flops)),
            arena_bytes: self.arena.0,
            unshared_bytes: self.unshared.0,
            mask_bytes: written().filter(is_mask).map(|&id| size(&self.graph.node(id).ty)).sum(),
            random_steps: self.steps.iter().filter(|s| s.nodes.iter().any(draws)).count(),
        }
    }

    /// Parameters whose gradients the plan stores.
    pub fn stored_gradients(&self) -> impl Iterator<Item = ParamId> + '_ {
        self.graph.nodes().filter_map(|(_, node)| match node.op {
            Op::Gradient(parameter, _) => Some(parameter),
            _ => None,
        })
    }
}

impl BufferId {
    /// Position among the plan's buffers.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn at(index: usize) -> Self {
        BufferId(index as u32)
    }
}

impl Lane {
    /// Number of the lane.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn at(index: usize) -> Self {
        Lane(index as u32)
    }
}

impl Event {
    /// Number of the event.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn at(index: usize) -> Self {
        Event(index as u32)
    }
}
