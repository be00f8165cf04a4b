// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plan of which single steps are launched again and again.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kiln::backend::cpu::Cpu;
use kiln::backend::{slots, Backend, Memory, PlanId, Run, Span};
use kiln::plan::{Bytes, Place, Plan};
use kiln::{Result, Scalars, Tensor};

use super::random_values;

/// Random parameters are scaled by this, so that no sum overflows however often it is repeated.
const PARAMETER_SCALE: f32 = 0.03;
/// So small that an update repeated a million times leaves the parameters in range.
const LEARNING_RATE: f32 = 1e-7;
/// Adam keeps two moments, and no rule more.
const MOMENTS: usize = 2;

/// A plan with everything its steps read and write.
pub(crate) struct Isolated {
    cpu: Cpu,
    id: PlanId,
    plan: Plan,
    memory: Memory,
    scalars: Scalars,
    inputs: Vec<Tensor>,
    outputs: Vec<Vec<f32>>,
}

impl Isolated {
    /// Sets a plan up with random parameters and runs it once, so that every step finds its inputs.
    pub(crate) fn new(plan: Plan, inputs: Vec<Tensor>, threads: NonZeroUsize) -> Result<Self> {
        let mut cpu = Cpu::new(threads);
        let memory = reserve(&mut cpu, &plan)?;
        let scalars = Scalars { learning_rate: LEARNING_RATE, ..Scalars::new(7) };
        let outputs = outputs(&plan);
        let mut isolated =
            Isolated { cpu, id: PlanId::fresh(), plan, memory, scalars, inputs, outputs };
        for step in 0..isolated.plan.steps.len() {
            isolated.launch(step)?;
        }
        Ok(isolated)
    }

    /// Launches one step and waits for it.
    pub(crate) fn launch(&mut self, step: usize) -> Result<()> {
        let mut run = Run {
            id: self.id,
            plan: &self.plan,
            memory: &self.memory,
            scalars: &self.scalars,
            inputs: &self.inputs,
            outputs: &mut self.outputs,
        };
        self.cpu.launch(&mut run, step)?;
        self.cpu.sync()
    }
}

/// Memory for the plan and for the state of its network, one aligned slot per parameter.
fn reserve(cpu: &mut Cpu, plan: &Plan) -> Result<Memory> {
    let alignment = cpu.facts().alignment;
    let specs = plan.graph.parameters();
    let (slots, [size, state]) = slots(specs, alignment, |spec| cpu.layout(spec));
    let values = cpu.reserve(size)?;
    for (spec, slot) in specs.iter().zip(&slots) {
        let parameter: Vec<f32> =
            random_values(spec.shape.elements()).iter().map(|v| v * PARAMETER_SCALE).collect();
        let packed = slot.layout.pack(&spec.shape, &parameter);
        let length = Bytes(packed.len() * size_of::<f32>());
        cpu.write(Span { arena: values, start: slot.start, length }, &packed)?;
    }
    Ok(Memory {
        plan: cpu.reserve(plan.arena)?,
        values,
        state: cpu.reserve(state)?,
        gradients: Some(cpu.reserve(size)?),
        moments: (0..MOMENTS).map(|_| cpu.reserve(size)).collect::<Result<_>>()?,
        averages: [None; 2],
        training: None,
        slots: Arc::new(slots),
    })
}

/// Host memory for the values that a run writes to its outputs.
fn outputs(plan: &Plan) -> Vec<Vec<f32>> {
    let mut outputs = vec![Vec::new(); plan.outputs.len()];
    for (node, buffer) in &plan.outputs {
        if let Place::Output(slot) = plan.buffer(*buffer).place {
            outputs[slot] = vec![0.0; plan.graph.node(*node).ty.shape.elements()];
        }
    }
    outputs
}
