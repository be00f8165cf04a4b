// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network's state on a device: one flat arena per role, so that an optimiser, clipping and a
//! checkpoint each see one array.

use std::sync::Arc;

use super::Role;
use crate::backend::{Arena, Backend, Memory, Slot, Span};
use crate::graph::{ParamId, ParamSpec};
use crate::plan::Bytes;
use crate::{Result, Tensor};

/// Values, gradients and moments of all parameters.
#[derive(Debug)]
pub(crate) struct Store {
    specs: Arc<Vec<ParamSpec>>,
    slots: Arc<Vec<Slot>>,
    size: Bytes,
    values: Arena,
    gradients: Option<Arena>,
    moments: Vec<Arena>,
}

impl Store {
    /// Reserves the values of parameters, all zero.
    pub(crate) fn new(backend: &mut dyn Backend, specs: Arc<Vec<ParamSpec>>) -> Result<Self> {
        let alignment = backend.facts().alignment;
        let mut slots = Vec::with_capacity(specs.len());
        let mut end = 0;
        for spec in specs.iter() {
            let layout = backend.layout(spec);
            let bytes = layout.elements(&spec.shape) * std::mem::size_of::<f32>();
            slots.push(Slot { start: Bytes(end), layout });
            end = (end + bytes).next_multiple_of(alignment);
        }
        let size = Bytes(end);
        let values = backend.reserve(size)?;
        let slots = Arc::new(slots);
        Ok(Store { specs, slots, size, values, gradients: None, moments: vec![] })
    }

    /// The parameters, in order.
    pub(crate) fn specs(&self) -> &Arc<Vec<ParamSpec>> {
        &self.specs
    }

    /// Makes sure that gradients can be stored.
    pub(crate) fn ensure_gradients(&mut self, backend: &mut dyn Backend) -> Result<()> {
        if self.gradients.is_none() {
            self.gradients = Some(backend.reserve(self.size)?);
        }
        Ok(())
    }

    /// Makes sure that there are at least `count` moments, zero at first.
    pub(crate) fn ensure_moments(&mut self, backend: &mut dyn Backend, count: usize) -> Result<()> {
        while self.moments.len() < count {
            self.moments.push(backend.reserve(self.size)?);
        }
        Ok(())
    }

    /// The memory of a run in `plan`'s arena.
    pub(crate) fn memory(&self, plan: Arena) -> Memory {
        Memory {
            plan,
            values: self.values,
            gradients: self.gradients,
            moments: self.moments.clone(),
            slots: self.slots.clone(),
        }
    }

    /// A parameter's value, row-major.
    pub(crate) fn read(&self, backend: &mut dyn Backend, id: ParamId) -> Result<Tensor> {
        self.read_from(backend, self.values, id)
    }

    /// A parameter's gradient, row-major; zeros before the first was stored.
    pub(crate) fn read_gradient(&self, backend: &mut dyn Backend, id: ParamId) -> Result<Tensor> {
        match self.gradients {
            Some(arena) => self.read_from(backend, arena, id),
            None => Ok(Tensor::zeros(self.specs[id.index()].shape.clone())),
        }
    }

    /// Sets a parameter's value, given row-major.
    pub(crate) fn write(
        &self,
        backend: &mut dyn Backend,
        id: ParamId,
        values: &[f32],
    ) -> Result<()> {
        self.write_to(backend, self.values, id, values)
    }

    /// The arena of a role.
    pub(super) fn arena(&self, role: Role) -> Arena {
        match role {
            Role::Value => self.values,
            Role::Moment(moment) => self.moments[moment],
        }
    }

    /// Where a parameter lies.
    pub(super) fn slot(&self, id: ParamId) -> (&ParamSpec, &Slot) {
        (&self.specs[id.index()], &self.slots[id.index()])
    }

    fn read_from(&self, backend: &mut dyn Backend, arena: Arena, id: ParamId) -> Result<Tensor> {
        let (spec, slot) = (&self.specs[id.index()], &self.slots[id.index()]);
        let stored = backend.read(self.span(arena, id))?;
        Tensor::new(spec.shape.clone(), slot.layout.unpack(&spec.shape, &stored))
    }

    fn write_to(
        &self,
        backend: &mut dyn Backend,
        arena: Arena,
        id: ParamId,
        values: &[f32],
    ) -> Result<()> {
        let (spec, slot) = (&self.specs[id.index()], &self.slots[id.index()]);
        backend.write(self.span(arena, id), &slot.layout.pack(&spec.shape, values))
    }

    fn span(&self, arena: Arena, id: ParamId) -> Span {
        let (spec, slot) = (&self.specs[id.index()], &self.slots[id.index()]);
        let bytes = slot.layout.elements(&spec.shape) * std::mem::size_of::<f32>();
        Span { arena, start: slot.start, length: Bytes(bytes) }
    }
}
