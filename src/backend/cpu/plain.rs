// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps by the plain meaning of their nodes: the reference that fast kernels are compared with,
//! and the way to run what has no fast kernel.

use std::collections::BTreeMap;

use super::memory::Arenas;
use super::state::training_state;
use crate::backend::{counters_of, words_of, Arena, Memory, Run, Span};
use crate::graph::reference::{interpret, State};
use crate::graph::{Graph, MemoryFormat, NodeId, ParamId, ParamSpec};
use crate::op::Array;
use crate::plan::{BufferId, Bytes, Place, Step};
use crate::{allocate, DType, Error, Result, Shape};

/// Runs a step by interpreting its nodes.
pub(super) fn launch(arenas: &mut Arenas, run: &mut Run<'_>, step: usize) -> Result<()> {
    let (plan, step) = (run.plan, &run.plan.steps[step]);
    let graph = &plan.graph;
    allocate::probe(needed(graph, step), "a step by the meaning of its operations")?;
    let mut values = BTreeMap::new();
    for (&node, read) in step.inputs.iter().zip(&step.reads) {
        let Some(buffer) = read else { continue };
        // A parameter is read when its node is; what changed one must not be computed again.
        let is_parameter = matches!(plan.buffer(*buffer).place, Place::Parameter(_));
        if !is_parameter || graph.node(node).op.is_effect() {
            values.insert(node, load(arenas, run, node, *buffer)?);
        }
    }
    let (memory, specs) = (run.memory, graph.parameters());
    let mut state = Parameters { arenas, memory, specs, failed: None };
    interpret(graph, &step.nodes, run.scalars, &mut state, &mut values);
    if let Some(error) = state.failed {
        return Err(error);
    }
    for (&node, &buffer) in step.outputs.iter().zip(&step.writes) {
        if !graph.node(node).op.is_effect() {
            store(arenas, run, (node, buffer), &values[&node])?;
        }
    }
    Ok(())
}

/// Bytes of all that the interpreter holds of a step, about.
fn needed(graph: &Graph, step: &Step) -> usize {
    let values = step.inputs.iter().chain(&step.nodes);
    let sizes = values.map(|&id| graph.node(id).ty.shape.elements() * std::mem::size_of::<f64>());
    sizes.fold(0, usize::saturating_add)
}

/// The arena span of a buffer in the plan's arena.
pub(super) fn span(memory: &Memory, offset: Bytes, shape: &Shape) -> Span {
    Span { arena: memory.plan, start: offset, length: Bytes(shape.elements() * 4) }
}

fn load(arenas: &Arenas, run: &Run<'_>, node: NodeId, id: BufferId) -> Result<Array> {
    let (shape, format) = stored_as(&run.plan.graph, node);
    let is_integer = run.plan.buffer(id).ty.dtype == DType::I32;
    // Memory holds words: integers by their bits.
    let wide = |words: &[f32]| -> Vec<f64> {
        match is_integer {
            true => words.iter().map(|word| f64::from(word.to_bits() as i32)).collect(),
            false => words.iter().map(|&x| f64::from(x)).collect(),
        }
    };
    let data: Vec<f64> = match run.plan.buffer(id).place {
        Place::Input(input) | Place::Uploaded(input, _) => {
            let tensor = &run.inputs[input.index()];
            match tensor.integers() {
                Ok(integers) => integers.iter().map(|&i| f64::from(i)).collect(),
                Err(_) => wide(tensor.values()?),
            }
        }
        Place::Arena(offset) => wide(arenas.slice(span(run.memory, offset, &shape))),
        Place::Output(slot) => wide(&run.outputs[slot]),
        Place::Gradient(parameter) => {
            let specs = run.plan.graph.parameters();
            return Ok(unpack(arenas, run.memory, gradients(run.memory)?, parameter, specs));
        }
        Place::Parameter(parameter) => {
            let specs = run.plan.graph.parameters();
            return Ok(unpack(arenas, run.memory, run.memory.home(parameter), parameter, specs));
        }
        Place::Average(parameter) => {
            let specs = run.plan.graph.parameters();
            let arena = averages(run.memory, parameter)?;
            return Ok(unpack(arenas, run.memory, arena, parameter, specs));
        }
    };
    let data = format.unpack(&shape, data);
    Ok(Array::new(shape, data))
}

fn stored_as(graph: &Graph, node: NodeId) -> (Shape, MemoryFormat) {
    let node = graph.node(node);
    (node.ty.shape.clone(), node.format)
}

fn store(
    arenas: &mut Arenas,
    run: &mut Run<'_>,
    (node, id): (NodeId, BufferId),
    value: &Array,
) -> Result<()> {
    let (shape, format) = stored_as(&run.plan.graph, node);
    let target = match run.plan.buffer(id).place {
        Place::Arena(offset) => arenas.slice_mut(span(run.memory, offset, &value.shape))?,
        Place::Output(slot) => &mut run.outputs[slot],
        place => {
            let message = format!("a step writes to {place:?}");
            return Err(Error::Internal { pass: "plain", message });
        }
    };
    let is_integer = run.plan.buffer(id).ty.dtype == DType::I32;
    for (target, value) in target.iter_mut().zip(format.pack(&shape, value.data.clone())) {
        *target = match is_integer {
            true => f32::from_bits(value as i32 as u32),
            false => value as f32,
        };
    }
    Ok(())
}

fn gradients(memory: &Memory) -> Result<Arena> {
    memory.gradients.ok_or_else(|| Error::Internal {
        pass: "plain",
        message: "gradients are used but were not reserved".into(),
    })
}

/// The arena of a parameter's moving average.
pub(super) fn averages(memory: &Memory, parameter: ParamId) -> Result<Arena> {
    memory.home_of_average(parameter).ok_or_else(|| Error::Internal {
        pass: "cpu",
        message: "averages are used but were not reserved".into(),
    })
}

/// The parameters in the backend's memory.
struct Parameters<'a> {
    arenas: &'a mut Arenas,
    memory: &'a Memory,
    specs: &'a [ParamSpec],
    /// Why a value could not be stored.
    failed: Option<Error>,
}

impl State for Parameters<'_> {
    fn value(&self, parameter: ParamId) -> Array {
        unpack(self.arenas, self.memory, self.memory.home(parameter), parameter, self.specs)
    }

    fn gradient(&self, parameter: ParamId) -> Array {
        match self.memory.gradients {
            Some(arena) => unpack(self.arenas, self.memory, arena, parameter, self.specs),
            None => Array::zeros(&self.specs[parameter.index()].shape),
        }
    }

    fn moments(&self, parameter: ParamId) -> Vec<Array> {
        let moment = |&arena| unpack(self.arenas, self.memory, arena, parameter, self.specs);
        self.memory.moments.iter().map(moment).collect()
    }

    fn update(&self) -> u32 {
        training_state(self.arenas, self.memory).update()
    }

    fn loss_scale(&self) -> f32 {
        training_state(self.arenas, self.memory).loss_scale
    }

    fn average(&self, parameter: ParamId) -> Array {
        match self.memory.home_of_average(parameter) {
            Some(arena) => unpack(self.arenas, self.memory, arena, parameter, self.specs),
            None => Array::zeros(&self.specs[parameter.index()].shape),
        }
    }

    fn set_average(&mut self, parameter: ParamId, average: &Array) {
        if let Some(arena) = self.memory.home_of_average(parameter) {
            self.pack(arena, parameter, average);
        }
    }

    fn set_gradient(&mut self, parameter: ParamId, gradient: &Array) {
        if let Some(arena) = self.memory.gradients {
            self.pack(arena, parameter, gradient);
        }
    }

    fn set_state(&mut self, parameter: ParamId, value: &Array) {
        self.pack(self.memory.state, parameter, value);
    }

    fn set_value(&mut self, parameter: ParamId, value: &Array, moments: &[Array]) {
        self.pack(self.memory.values, parameter, value);
        for (arena, moment) in self.memory.moments.clone().into_iter().zip(moments) {
            self.pack(arena, parameter, moment);
        }
    }
}

impl Parameters<'_> {
    fn pack(&mut self, arena: Arena, parameter: ParamId, value: &Array) {
        let spec = &self.specs[parameter.index()];
        let layout = self.memory.slots[parameter.index()].layout;
        let stored = match spec.dtype {
            DType::I64 => words_of(&value.data.iter().map(|&x| x as i64).collect::<Vec<_>>()),
            _ => {
                let values: Vec<f32> = value.data.iter().map(|&x| x as f32).collect();
                layout.pack(&value.shape, &values)
            }
        };
        let span = parameter_span(self.memory, arena, parameter, spec);
        match self.arenas.slice_mut(span) {
            Ok(place) => place.copy_from_slice(&stored),
            Err(error) => self.failed = Some(error),
        }
    }
}

/// The span of a parameter in one of the state's arenas.
pub(super) fn parameter_span(
    memory: &Memory,
    arena: Arena,
    parameter: ParamId,
    spec: &ParamSpec,
) -> Span {
    let slot = &memory.slots[parameter.index()];
    let length = Bytes(slot.layout.elements(&spec.shape) * spec.dtype.bytes());
    Span { arena, start: memory.start(arena, parameter), length }
}

fn unpack(
    arenas: &Arenas,
    memory: &Memory,
    arena: Arena,
    parameter: ParamId,
    specs: &[ParamSpec],
) -> Array {
    let spec = &specs[parameter.index()];
    let stored = arenas.slice(parameter_span(memory, arena, parameter, spec));
    let values = match spec.dtype {
        DType::I64 => counters_of(stored).into_iter().map(|count| count as f64).collect(),
        _ => {
            let values = memory.slots[parameter.index()].layout.unpack(&spec.shape, stored);
            values.into_iter().map(f64::from).collect()
        }
    };
    Array::new(spec.shape.clone(), values)
}
