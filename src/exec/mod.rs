// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running plans: outputs are recycled, steps are issued in order with the waits that the plan says.

mod indices;
mod store;
mod stream;
mod timing;
mod training;

use std::sync::Arc;
use std::time::Instant;

pub(crate) use store::{Frozen, Store};
pub(crate) use stream::Role;
pub use timing::Span;
pub(crate) use timing::Timing;

use crate::backend::{Backend, Begun, Memory, Pending, PlanId, Run, StepClock, StepTime};
use crate::op::TensorType;
use crate::plan::{Place, Plan};
use crate::scalars::Scalars;
use crate::{allocate, DType, Result, Tensor};
use indices::Indices;

/// A plan, ready to run.
#[derive(Debug)]
pub(crate) struct Executable {
    id: PlanId,
    plan: Plan,
    /// Buffers handed out as outputs; one that nobody holds any more is used again.
    recycled: Vec<Vec<Arc<Vec<f32>>>>,
    /// Integers among the inputs that are looked at before a run.
    indices: Vec<Indices>,
    /// How long its steps take, if somebody asked.
    timing: Option<Timing>,
}

/// The outputs of a run that are numbers.
#[derive(Debug)]
pub(crate) enum Numbers {
    There(Vec<Option<f32>>),
    Coming(Arc<dyn Pending>),
}

/// An output of one element. It holds nothing else of its run.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    There(f32),
    Coming(Arc<dyn Pending>, usize),
}

/// Outputs kept for reuse per output; more are alive only if the user keeps them.
const RECYCLED_OUTPUTS: usize = 4;

impl Executable {
    pub(crate) fn new(plan: Plan) -> Self {
        let recycled = plan.outputs.iter().map(|_| Vec::new()).collect();
        let indices = indices::of(&plan.graph);
        Executable { id: PlanId::fresh(), plan, recycled, indices, timing: None }
    }

    pub(crate) fn id(&self) -> PlanId {
        self.id
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes the times of steps from now on, counted from a moment.
    pub(crate) fn time_from(&mut self, origin: Instant) {
        let steps = self.plan.steps.len();
        self.timing.get_or_insert_with(|| Timing::new(origin, steps));
    }

    pub(crate) fn timing(&self) -> Option<&Timing> {
        self.timing.as_ref()
    }

    /// Looks at the integers among the inputs of a run that choose from something.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for one that names nothing.
    pub(crate) fn check(&self, inputs: &[Tensor]) -> Result<()> {
        self.indices.iter().try_for_each(|indices| indices.check(inputs))
    }

    /// Runs the plan once, in the memory of `store`, and returns its outputs.
    pub(crate) fn run(
        &mut self,
        backend: &mut dyn Backend,
        (store, memory): (&Store, &Memory),
        scalars: &Scalars,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        let mut outputs = self.take_outputs()?;
        let (id, plan) = (self.id, &self.plan);
        let mut run = Run { id, plan, memory, scalars, inputs, outputs: &mut outputs };
        begin(backend, &mut run, self.timing.as_mut())?;
        backend.finish(&mut run)?;
        self.finish(backend, store, inputs, outputs)
    }

    /// Runs the plan once, without waiting for it where the backend can.
    pub(crate) fn run_later(
        &mut self,
        backend: &mut dyn Backend,
        (store, memory): (&Store, &Memory),
        scalars: &Scalars,
        inputs: &[Tensor],
    ) -> Result<Numbers> {
        self.check(inputs)?;
        let mut outputs = self.take_outputs()?;
        let (id, plan) = (self.id, &self.plan);
        let mut run = Run { id, plan, memory, scalars, inputs, outputs: &mut outputs };
        begin(backend, &mut run, self.timing.as_mut())?;
        match backend.finish_later(&mut run)? {
            None => {
                let outputs = self.finish(backend, store, inputs, outputs)?;
                Ok(Numbers::There(outputs.iter().map(|output| output.item().ok()).collect()))
            }
            Some(pending) => {
                for (kept, output) in self.recycled.iter_mut().zip(outputs) {
                    kept.push(Arc::new(output));
                }
                Ok(Numbers::Coming(pending))
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
            let TensorType { shape, dtype } = self.plan.graph.node(*node).ty.clone();
            let place = self.plan.buffer(*buffer).place;
            tensors.push(match place {
                Place::Output(slot) if dtype == DType::I32 => {
                    Tensor::from_words(shape, &shared[slot])?
                }
                Place::Arena(_) if dtype == DType::I32 => {
                    Tensor::from_words(shape, &shared[index])?
                }
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
                Place::Average(parameter) => {
                    store.read_average(backend, parameter)?.reshaped(shape)?
                }
            });
        }
        Ok(tensors)
    }
}

impl Numbers {
    /// The output at a position, if there is one and it is a number.
    pub(crate) fn get(&self, output: usize) -> Option<Number> {
        match self {
            Numbers::There(numbers) => numbers.get(output).copied().flatten().map(Number::There),
            Numbers::Coming(pending) => {
                pending.has(output).then(|| Number::Coming(pending.clone(), output))
            }
        }
    }
}

impl Number {
    /// The number, as soon as it is there.
    pub(crate) fn item(&self) -> Result<f32> {
        match self {
            Number::There(number) => Ok(*number),
            Number::Coming(pending, output) => pending.number(*output),
        }
    }
}

/// Begins a run and issues its steps, unless the backend replays them.
fn begin(backend: &mut dyn Backend, run: &mut Run<'_>, timing: Option<&mut Timing>) -> Result<()> {
    match (backend.begin(run)?, timing) {
        (Begun::Issue, None) => {
            issue(backend, run, |backend, run, index| backend.launch(run, index))
        }
        (Begun::Issue, Some(timing)) => {
            timing.begin();
            let mut steps = Vec::with_capacity(run.plan.steps.len());
            issue(backend, run, |backend, run, index| {
                let start = timing.elapsed();
                backend.launch(run, index)?;
                steps.push(StepTime { start, length: timing.elapsed().saturating_sub(start) });
                Ok(())
            })?;
            let whole = timing.elapsed();
            match backend.step_times()? {
                None => timing.end(StepClock::Host, &steps, whole),
                Some((clock, steps)) => {
                    let ends = steps.iter().map(|step| step.start + step.length);
                    timing.end(clock, &steps, ends.max().unwrap_or_default());
                }
            }
            Ok(())
        }
        (Begun::Replayed, _) => Ok(()),
    }
}

/// Issues the steps of a run in order.
fn issue(
    backend: &mut dyn Backend,
    run: &mut Run<'_>,
    mut launch: impl FnMut(&mut dyn Backend, &mut Run<'_>, usize) -> Result<()>,
) -> Result<()> {
    for index in 0..run.plan.steps.len() {
        let step = &run.plan.steps[index];
        for &event in &step.waits {
            backend.wait(step.lane, event)?;
        }
        launch(backend, run, index)?;
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
