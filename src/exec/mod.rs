// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running plans: memory is reserved once per plan, outputs are recycled, steps are issued in order
//! with the waits that the plan says.

pub mod reference;
mod store;
mod stream;

use std::sync::Arc;

pub(crate) use store::Store;
pub(crate) use stream::Role;

use crate::backend::{Arena, Backend, Begun, Pending, Run};
use crate::plan::{Place, Plan};
use crate::scalars::Scalars;
use crate::{allocate, Result, Shape, Tensor};

/// A plan with its memory on a device, ready to run.
#[derive(Debug)]
pub(crate) struct Executable {
    plan: Plan,
    arena: Arena,
    /// Buffers handed out as outputs; one that nobody holds any more is used again.
    recycled: Vec<Vec<Arc<Vec<f32>>>>,
}

/// Outputs of a run.
#[derive(Debug)]
pub(crate) enum Outputs {
    There(Vec<Tensor>),
    Coming(Arc<dyn Pending>),
}

/// An output of one element.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    There(Tensor),
    Coming(Arc<dyn Pending>, usize),
}

/// Outputs kept for reuse per output; more are alive only if the user keeps them.
const RECYCLED_OUTPUTS: usize = 4;

impl Executable {
    /// Reserves the memory of a plan.
    pub(crate) fn new(plan: Plan, backend: &mut dyn Backend) -> Result<Self> {
        let arena = backend.reserve(plan.arena)?;
        let recycled = plan.outputs.iter().map(|_| Vec::new()).collect();
        Ok(Executable { plan, arena, recycled })
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the plan once and returns its outputs.
    pub(crate) fn run(
        &mut self,
        backend: &mut dyn Backend,
        store: &Store,
        scalars: &Scalars,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        let memory = store.memory(self.arena);
        let mut outputs = self.take_outputs()?;
        let mut run =
            Run { plan: &self.plan, memory: &memory, scalars, inputs, outputs: &mut outputs };
        begin(backend, &mut run)?;
        backend.finish(&mut run)?;
        self.finish(backend, store, inputs, outputs)
    }

    /// Runs the plan once, without waiting for it where the backend can.
    pub(crate) fn run_later(
        &mut self,
        backend: &mut dyn Backend,
        store: &Store,
        scalars: &Scalars,
        inputs: &[Tensor],
    ) -> Result<Outputs> {
        let memory = store.memory(self.arena);
        let mut outputs = self.take_outputs()?;
        let mut run =
            Run { plan: &self.plan, memory: &memory, scalars, inputs, outputs: &mut outputs };
        begin(backend, &mut run)?;
        match backend.finish_later(&mut run)? {
            None => self.finish(backend, store, inputs, outputs).map(Outputs::There),
            Some(pending) => {
                for (kept, output) in self.recycled.iter_mut().zip(outputs) {
                    kept.push(Arc::new(output));
                }
                Ok(Outputs::Coming(pending))
            }
        }
    }

    fn take_outputs(&mut self) -> Result<Vec<Vec<f32>>> {
        let mut outputs = Vec::with_capacity(self.plan.outputs.len());
        for (index, (node, buffer)) in self.plan.outputs.iter().enumerate() {
            let elements = self.plan.graph.node(*node).ty.shape.elements();
            outputs.push(match self.plan.buffer(*buffer).place {
                Place::Output(slot) if slot != index => Vec::new(),
                Place::Output(_) | Place::Arena(_) => recycle(&mut self.recycled[index], elements)?,
                _ => Vec::new(),
            });
        }
        Ok(outputs)
    }

    fn finish(
        &mut self,
        backend: &mut dyn Backend,
        store: &Store,
        inputs: &[Tensor],
        outputs: Vec<Vec<f32>>,
    ) -> Result<Vec<Tensor>> {
        let shared: Vec<Arc<Vec<f32>>> = outputs.into_iter().map(Arc::new).collect();
        let mut tensors = Vec::with_capacity(shared.len());
        for (index, (node, buffer)) in self.plan.outputs.iter().enumerate() {
            let shape = self.plan.graph.node(*node).ty.shape.clone();
            tensors.push(match self.plan.buffer(*buffer).place {
                Place::Output(slot) if slot != index => {
                    Tensor::from_shared(shape, shared[slot].clone())
                }
                Place::Output(_) | Place::Arena(_) => {
                    let data = shared[index].clone();
                    let kept = &mut self.recycled[index];
                    if kept.len() < RECYCLED_OUTPUTS {
                        kept.push(data.clone());
                    }
                    Tensor::from_shared(shape, data)
                }
                Place::Input(input) | Place::Uploaded(input, _) => {
                    inputs[input.index()].reshaped(shape)?
                }
                Place::Parameter(parameter) => store.read(backend, parameter)?.reshaped(shape)?,
                Place::Gradient(parameter) => {
                    store.read_gradient(backend, parameter)?.reshaped(shape)?
                }
            });
        }
        Ok(tensors)
    }
}

impl Outputs {
    /// One of them, if there are as many.
    pub(crate) fn number(&self, index: usize) -> Option<Number> {
        match self {
            Outputs::There(tensors) => tensors.get(index).cloned().map(Number::There),
            Outputs::Coming(pending) => {
                (index < pending.outputs()).then(|| Number::Coming(pending.clone(), index))
            }
        }
    }
}

impl Number {
    /// The number, as soon as it is there.
    pub(crate) fn item(&self) -> Result<f32> {
        match self {
            Number::There(tensor) => tensor.item(),
            Number::Coming(pending, index) => {
                let values = pending.output(*index)?;
                Tensor::new(Shape::from([values.len()]), values)?.item()
            }
        }
    }
}

/// Begins a run and issues its steps, unless the backend replays them.
fn begin(backend: &mut dyn Backend, run: &mut Run<'_>) -> Result<()> {
    match backend.begin(run)? {
        Begun::Issue => issue(backend, run),
        Begun::Replayed => Ok(()),
    }
}

/// Issues the steps of a run in order.
fn issue(backend: &mut dyn Backend, run: &mut Run<'_>) -> Result<()> {
    for index in 0..run.plan.steps.len() {
        let step = &run.plan.steps[index];
        for &event in &step.waits {
            backend.wait(step.lane, event)?;
        }
        backend.launch(run, index)?;
        if let Some(event) = step.records {
            backend.record(step.lane, event)?;
        }
    }
    Ok(())
}

/// A buffer that nobody holds, or a new one.
fn recycle(kept: &mut Vec<Arc<Vec<f32>>>, elements: usize) -> Result<Vec<f32>> {
    let idle = kept.iter_mut().position(|buffer| Arc::get_mut(buffer).is_some());
    match idle.map(|index| Arc::try_unwrap(kept.swap_remove(index))) {
        Some(Ok(buffer)) => Ok(buffer),
        _ => allocate::zeros(elements, "an output"),
    }
}
