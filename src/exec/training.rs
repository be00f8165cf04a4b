// SPDX-License-Identifier: MIT OR Apache-2.0
//! What training keeps beside the values: gradients, moments of what is not frozen, and averages.

use super::Store;
use crate::backend::{with_moments, Arena, Backend, Slot, Span};
use crate::graph::{ParamId, ParamRole, ParamSpec};
use crate::plan::Bytes;
use crate::scalars::TrainingState;
use crate::{Result, Tensor};

/// Arenas that only training needs.
#[derive(Debug)]
pub(super) struct Training {
    pub(super) gradients: Option<Arena>,
    pub(super) moments: Vec<Arena>,
    /// Of trained parameters and of the state.
    pub(super) averages: [Option<Arena>; 2],
    /// What the device counts.
    pub(super) state: Option<Arena>,
    /// Which parameters have moments.
    keeps: Vec<bool>,
}

/// A parameter's moment as it lies on the device.
type Stored = (ParamId, Vec<f32>);

impl Training {
    /// Nothing reserved yet.
    pub(super) fn new(specs: &[ParamSpec]) -> Self {
        let keeps = specs.iter().map(|spec| spec.role == ParamRole::Trained).collect();
        Training { gradients: None, moments: vec![], averages: [None; 2], state: None, keeps }
    }
}

impl Store {
    /// Makes sure that gradients can be stored.
    pub(crate) fn ensure_gradients(&mut self, backend: &mut dyn Backend) -> Result<()> {
        if self.training.gradients.is_none() {
            self.training.gradients = Some(backend.reserve(self.sizes[0])?);
        }
        Ok(())
    }

    /// Makes sure that there are at least `count` moments, zero at first.
    pub(crate) fn ensure_moments(&mut self, backend: &mut dyn Backend, count: usize) -> Result<()> {
        let (_, size) = self.places(backend, &self.training.keeps);
        while self.training.moments.len() < count {
            self.training.moments.push(backend.reserve(size)?);
        }
        Ok(())
    }

    /// Makes sure that averages of parameters can be kept, and with `state` of the state too.
    pub(crate) fn ensure_averages(
        &mut self,
        backend: &mut dyn Backend,
        roles: &[ParamRole],
    ) -> Result<()> {
        let averages = self.training.averages.iter_mut().zip(self.sizes);
        for (role, (arena, size)) in [ParamRole::Trained, ParamRole::State].iter().zip(averages) {
            if arena.is_none() && roles.contains(role) {
                *arena = Some(backend.reserve(size)?);
            }
        }
        Ok(())
    }

    /// Makes sure that the device can count updates.
    pub(crate) fn ensure_training_state(&mut self, backend: &mut dyn Backend) -> Result<Span> {
        let arena = match self.training.state {
            Some(arena) => arena,
            None => *self.training.state.insert(backend.reserve(Bytes(TrainingState::BYTES))?),
        };
        Ok(Span { arena, start: Bytes(0), length: Bytes(TrainingState::BYTES) })
    }

    /// What the device says of the training.
    pub(crate) fn training_state(&self, backend: &mut dyn Backend) -> Result<TrainingState> {
        let Some(arena) = self.training.state else { return Ok(TrainingState::default()) };
        let span = Span { arena, start: Bytes(0), length: Bytes(TrainingState::BYTES) };
        Ok(TrainingState::of_words(&backend.read(span)?))
    }

    /// Sets from where the device counts on.
    pub(crate) fn set_training_state(
        &mut self,
        backend: &mut dyn Backend,
        state: TrainingState,
    ) -> Result<()> {
        if self.training.state.is_none() && state == TrainingState::default() {
            return Ok(());
        }
        let span = self.ensure_training_state(backend)?;
        backend.write(span, &state.words())
    }

    /// Whether moments are kept of exactly these parameters.
    pub(crate) fn keeps_moments_of(&self, keeps: &[bool]) -> bool {
        self.training.keeps == keeps
    }

    /// Keeps moments of these parameters alone. Those of parameters that had some stay, and others
    /// begin as zeros. What was made ready to run knows the old places.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is too little memory; the moments are as they were then.
    pub(crate) fn keep_moments(&mut self, backend: &mut dyn Backend, keeps: &[bool]) -> Result<()> {
        let mut held: Vec<Vec<Stored>> = Vec::with_capacity(self.training.moments.len());
        for &arena in &self.training.moments {
            let mut stored = Vec::new();
            for index in (0..keeps.len()).filter(|&index| self.training.keeps[index]) {
                let id = ParamId::at(index);
                stored.push((id, backend.read(self.span(arena, id))?));
            }
            held.push(stored);
        }
        let before = std::mem::replace(&mut self.training.keeps, keeps.to_vec());
        let Err(error) = self.lay_moments(backend, &held) else { return Ok(()) };
        self.training.keeps = before;
        self.lay_moments(backend, &held)?;
        Err(error)
    }

    /// Forgets all moments: an optimiser that begins anew begins with zeros, of all parameters.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is too little memory.
    pub(crate) fn forget_moments(&mut self, backend: &mut dyn Backend) -> Result<()> {
        let nothing = vec![Vec::new(); self.training.moments.len()];
        self.training.keeps = Training::new(&self.specs).keeps;
        self.lay_moments(backend, &nothing)
    }

    /// Whether there are moments that hold anything, or not of all parameters.
    pub(crate) fn has_moments(&self) -> bool {
        !self.training.moments.is_empty()
            || !self.keeps_moments_of(&Training::new(&self.specs).keeps)
    }

    /// A parameter's moving average, row-major; its value, where none is kept.
    pub(crate) fn read_average(&self, backend: &mut dyn Backend, id: ParamId) -> Result<Tensor> {
        self.read_from(backend, self.home_of_average(id), id)
    }

    /// Lays the arenas of moments out anew and fills them with what of `held` is kept.
    fn lay_moments(&mut self, backend: &mut dyn Backend, held: &[Vec<Stored>]) -> Result<()> {
        let (slots, size) = self.places(backend, &self.training.keeps);
        self.slots = slots.into();
        for (&arena, stored) in self.training.moments.iter().zip(held) {
            backend.grow(arena, size)?;
            for (id, moment) in stored.iter().filter(|(id, _)| self.training.keeps[id.index()]) {
                backend.write(self.span(arena, *id), moment)?;
            }
        }
        Ok(())
    }

    fn places(&self, backend: &dyn Backend, keeps: &[bool]) -> (Vec<Slot>, Bytes) {
        with_moments(&self.slots, &self.specs, backend.facts().alignment, |index| keeps[index])
    }
}
