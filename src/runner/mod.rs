// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs a network: its state on a device, and the plans that were made for it.
//!
//! All plans of a network work in one arena, as large as the largest needs: their runs follow one
//! another.

mod kept;

use std::num::NonZeroUsize;
use std::time::Instant;

pub(crate) use kept::{Types, Wanted};

use crate::backend::{Arena, Backend, PlanId};
use crate::exec::{Executable, Numbers, Store};
use crate::graph::{ParamId, ParamRole, Traced};
use crate::loss_scale::LossScale;
use crate::passes::{self, Goal, Request};
use crate::plan::{Bytes, Plan};
use crate::scalars::Scalars;
use crate::{Error, Result, Tensor};
use kept::Kept;

/// A function, traced.
pub(crate) struct Recorded {
    pub(crate) traced: Traced,
    /// Lengths of the lists among its outputs.
    pub(crate) lists: Vec<usize>,
}

/// A network's state and plans on a device.
#[derive(Debug)]
pub(crate) struct Runner {
    kept: Kept,
    /// The arena of all plans, once there is one, and its size.
    arena: Option<(Arena, Bytes)>,
    store: Store,
    backend: Box<dyn Backend>,
    /// Since when the times of steps are taken.
    timed_from: Option<Instant>,
}

impl Runner {
    pub(crate) fn new(store: Store, backend: Box<dyn Backend>) -> Self {
        Runner { kept: Kept::default(), arena: None, store, backend, timed_from: None }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn state(&mut self) -> (&mut Store, &mut dyn Backend) {
        (&mut self.store, &mut *self.backend)
    }

    /// Takes the times of steps from now on.
    ///
    /// # Errors
    /// [`Error::Device`] if the device's driver cannot tell them.
    pub(crate) fn time_steps(&mut self) -> Result<()> {
        self.backend.time_steps()?;
        self.timed_from.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// The plans that are kept, with what they are for.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (&Request, &Executable)> {
        self.kept.iter()
    }

    /// Keeps at most this many plans.
    pub(crate) fn keep(&mut self, most: NonZeroUsize) {
        let gone = self.kept.keep(most);
        self.forget(gone);
    }

    /// The most plans that are kept.
    pub(crate) fn most_plans(&self) -> NonZeroUsize {
        self.kept.most()
    }

    /// Number of plans that are kept now.
    pub(crate) fn plans(&self) -> usize {
        self.kept.len()
    }

    /// The plan for what is wanted, compiled from what `record` yields if there is none yet. It is
    /// kept at least until another is asked for.
    pub(crate) fn plan_for(
        &mut self,
        wanted: &Wanted<'_>,
        record: impl FnOnce() -> Result<Recorded>,
    ) -> Result<PlanId> {
        match self.kept.find(wanted) {
            Some(id) => Ok(id),
            None => record().and_then(|recorded| self.compile(wanted, recorded)),
        }
    }

    fn compile(&mut self, wanted: &Wanted<'_>, recorded: Recorded) -> Result<PlanId> {
        let Recorded { traced, lists } = recorded;
        let plan = passes::compile(traced, wanted.request, self.backend.facts())?;
        match &wanted.request.goal {
            Goal::Forward | Goal::Layers => {}
            Goal::Gradients(_) => self.store.ensure_gradients(&mut *self.backend)?,
            Goal::Step(step) => {
                self.store.ensure_gradients(&mut *self.backend)?;
                let moments = step.update.as_ref().map_or(0, |update| update.rule.moments());
                let averages =
                    step.update.as_ref().map_or(&[][..], |update| update.averages.roles());
                self.store.ensure_moments(&mut *self.backend, moments)?;
                self.store.ensure_averages(&mut *self.backend, averages)?;
                if step.update.is_some() || step.scale != LossScale::Off {
                    self.store.ensure_training_state(&mut *self.backend)?;
                }
            }
        }
        self.ensure_arena(plan.arena)?;
        let executable = Executable::new(plan);
        let id = executable.id();
        let gone = self.kept.add(wanted, executable, lists);
        self.forget(gone);
        Ok(id)
    }

    /// Keeps moments of these parameters alone; those of parameters that had some stay.
    ///
    /// # Errors
    /// [`Error::Device`] if there is too little memory; the moments are as they were then.
    pub(crate) fn keep_moments(&mut self, keeps: &[bool]) -> Result<()> {
        if self.store.keeps_moments_of(keeps) {
            return Ok(());
        }
        self.forget_steps();
        self.store.keep_moments(&mut *self.backend, keeps)
    }

    /// Forgets the moments of an earlier training.
    ///
    /// # Errors
    /// [`Error::Device`] if there is too little memory.
    pub(crate) fn forget_moments(&mut self) -> Result<()> {
        if !self.store.has_moments() {
            return Ok(());
        }
        self.forget_steps();
        self.store.forget_moments(&mut *self.backend)
    }

    /// Forgets the plans of training steps, which know where the moments lie.
    fn forget_steps(&mut self) {
        let gone = self.kept.drain_steps();
        self.forget(gone);
    }

    pub(crate) fn plan(&self, id: PlanId) -> Result<&Plan> {
        self.kept.get(id).map(Executable::plan).ok_or_else(missing)
    }

    /// Looks at the integers among the inputs of a run, as the run itself does.
    pub(crate) fn check(&self, id: PlanId, inputs: &[Tensor]) -> Result<()> {
        self.kept.get(id).ok_or_else(missing)?.check(inputs)
    }

    /// Lengths of the lists among the outputs of a plan.
    pub(crate) fn lists(&self, id: PlanId) -> &[usize] {
        self.kept.returned(id)
    }

    /// Runs a plan and returns its outputs.
    pub(crate) fn run(
        &mut self,
        id: PlanId,
        scalars: &Scalars,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        let Some((arena, _)) = self.arena else { return Err(missing()) };
        let executable = self.kept.get_mut(id).ok_or_else(missing)?;
        if let Some(origin) = self.timed_from {
            executable.time_from(origin);
        }
        let memory = self.store.memory(arena);
        executable.run(&mut *self.backend, (&self.store, &memory), scalars, inputs)
    }

    /// Runs a plan and returns those of its outputs that are numbers, without waiting for a device
    /// that works on its own.
    pub(crate) fn run_later(
        &mut self,
        id: PlanId,
        scalars: &Scalars,
        inputs: &[Tensor],
    ) -> Result<Numbers> {
        let Some((arena, _)) = self.arena else { return Err(missing()) };
        let executable = self.kept.get_mut(id).ok_or_else(missing)?;
        if let Some(origin) = self.timed_from {
            executable.time_from(origin);
        }
        let memory = self.store.memory(arena);
        executable.run_later(&mut *self.backend, (&self.store, &memory), scalars, inputs)
    }

    /// The gradients that the last run of a plan stored, by parameter.
    pub(crate) fn stored_gradients(&mut self, id: PlanId) -> Result<Vec<(String, Tensor)>> {
        let stored: Vec<ParamId> = self.plan(id)?.stored_gradients().collect();
        let read = |id: ParamId| {
            let name = self.store.specs()[id.index()].name.clone();
            Ok((name, self.store.read_gradient(&mut *self.backend, id)?))
        };
        stored.into_iter().map(read).collect()
    }

    /// The state that is not trained, as it is.
    pub(crate) fn untrained(&mut self) -> Result<Vec<(ParamId, Tensor)>> {
        let specs = self.store.specs().iter().enumerate();
        let states = specs.filter(|(_, spec)| spec.role == ParamRole::State);
        let ids: Vec<ParamId> = states.map(|(index, _)| ParamId::at(index)).collect();
        let read = |id| Ok((id, self.store.read(&mut *self.backend, id)?));
        ids.into_iter().map(read).collect()
    }

    /// Puts values in the place of those that parameters or states have.
    pub(crate) fn set_parameters(&mut self, values: Vec<(ParamId, Tensor)>) -> Result<()> {
        let mut values = values.into_iter();
        values.try_for_each(|(id, value)| self.store.write(&mut *self.backend, id, &value))
    }

    fn ensure_arena(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.arena {
            None => self.arena = Some((self.backend.reserve(bytes)?, bytes)),
            Some((arena, size)) if *size < bytes => {
                self.backend.grow(*arena, bytes)?;
                *size = bytes;
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn forget(&mut self, gone: Vec<Executable>) {
        gone.iter().for_each(|executable| self.backend.forget(executable.id()));
    }
}

fn missing() -> Error {
    Error::Internal { pass: "runner", message: "a plan that is not kept is asked for".into() }
}

#[cfg(test)]
mod tests;
