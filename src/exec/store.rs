// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network's state on a device: one flat arena per role, so that an optimiser, clipping and a
//! checkpoint each see one array.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Role;
use crate::backend::{counters_of, slots, words_of, Arena, Backend, Memory, Slot, Snapshot, Span};
use crate::graph::{ParamId, ParamRole, ParamSpec};
use crate::plan::Bytes;
use crate::{allocate, DType, Error, Result, Tensor};

/// Values, gradients and moments of all parameters.
#[derive(Debug)]
pub(crate) struct Store {
    specs: Arc<Vec<ParamSpec>>,
    ids: Arc<BTreeMap<String, ParamId>>,
    slots: Arc<Vec<Slot>>,
    /// Size of an arena of all trained parameters.
    size: Bytes,
    values: Arena,
    state: Arena,
    gradients: Option<Arena>,
    moments: Vec<Arena>,
}

impl Store {
    /// Reserves the values of parameters, all zero.
    pub(crate) fn new(backend: &mut dyn Backend, specs: Arc<Vec<ParamSpec>>) -> Result<Self> {
        let alignment = backend.facts().alignment;
        within_reach(&specs, backend)?;
        let (slots, [size, state]) = slots(&specs, alignment, |spec| backend.layout(spec));
        let (values, state) = (backend.reserve(size)?, backend.reserve(state)?);
        let named = specs.iter().enumerate();
        let ids = named.map(|(index, spec)| (spec.name.clone(), ParamId::at(index))).collect();
        let (ids, slots) = (Arc::new(ids), Arc::new(slots));
        Ok(Store { specs, ids, slots, size, values, state, gradients: None, moments: vec![] })
    }

    /// The parameter of this name.
    pub(crate) fn find(&self, name: &str) -> Option<ParamId> {
        self.ids.get(name).copied()
    }

    /// The values as they are now.
    pub(crate) fn freeze(&self, backend: &mut dyn Backend) -> Result<Frozen> {
        let (specs, ids, slots) = (self.specs.clone(), self.ids.clone(), self.slots.clone());
        let values = backend.snapshot(&[self.values, self.state])?;
        Ok(Frozen { specs, ids, slots, size: self.size, values })
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
            state: self.state,
            gradients: self.gradients,
            moments: self.moments.clone(),
            slots: self.slots.clone(),
        }
    }

    /// A parameter's value, row-major.
    pub(crate) fn read(&self, backend: &mut dyn Backend, id: ParamId) -> Result<Tensor> {
        self.read_from(backend, self.home(id), id)
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
        value: &Tensor,
    ) -> Result<()> {
        match value.dtype() {
            DType::I64 => backend.write(self.span(self.home(id), id), &words_of(value.counters()?)),
            _ => self.write_to(backend, self.home(id), id, value.values()?),
        }
    }

    /// The arena that holds what of a parameter is meant.
    pub(super) fn arena(&self, role: Role, id: ParamId) -> Arena {
        match role {
            Role::Value => self.home(id),
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
        allocate::probe(size_of_val(stored.as_slice()), &spec.name)?; // for the turned copy
        if spec.dtype == DType::I64 {
            return Tensor::from_counters(spec.shape.clone(), counters_of(&stored));
        }
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
        let at = self.span(arena, id);
        allocate::probe(2 * at.length.0, &spec.name)?; // a copy, and the copy turned
        backend.write(at, &slot.layout.pack(&spec.shape, values))
    }

    fn span(&self, arena: Arena, id: ParamId) -> Span {
        let (spec, slot) = (&self.specs[id.index()], &self.slots[id.index()]);
        let bytes = slot.layout.elements(&spec.shape) * spec.dtype.bytes();
        Span { arena, start: slot.start, length: Bytes(bytes) }
    }

    /// The arena of a parameter's value.
    fn home(&self, id: ParamId) -> Arena {
        match self.specs[id.index()].role {
            ParamRole::Trained => self.values,
            ParamRole::State => self.state,
        }
    }
}

/// Values of all parameters at one moment, for other backends.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    specs: Arc<Vec<ParamSpec>>,
    ids: Arc<BTreeMap<String, ParamId>>,
    slots: Arc<Vec<Slot>>,
    size: Bytes,
    values: Arc<dyn Snapshot>,
}

impl Frozen {
    /// A backend of its own, and the values there.
    pub(crate) fn open(&self) -> Result<(Store, Box<dyn Backend>)> {
        let (backend, arenas) = self.values.open()?;
        let [values, state] = *arenas else {
            let message = format!("a snapshot of 2 arenas has {}", arenas.len());
            return Err(Error::Internal { pass: "store", message });
        };
        let (specs, ids, slots) = (self.specs.clone(), self.ids.clone(), self.slots.clone());
        let (size, gradients, moments) = (self.size, None, vec![]);
        Ok((Store { specs, ids, slots, size, values, state, gradients, moments }, backend))
    }
}

/// What the arenas of parameters take must be a number that can be asked for.
fn within_reach(specs: &[ParamSpec], backend: &dyn Backend) -> Result<()> {
    let size = |spec: &ParamSpec| {
        let elements = backend.layout(spec).elements(&spec.shape).next_multiple_of(ALIGNED);
        elements as u128 * spec.dtype.bytes() as u128
    };
    let bytes: u128 = specs.iter().map(size).sum();
    if bytes <= isize::MAX as u128 {
        return Ok(());
    }
    let message = format!("cannot reserve {bytes} bytes for parameters");
    Err(Error::Device { device: backend.facts().name.clone(), message })
}

/// Elements after which any backend's next parameter may begin.
const ALIGNED: usize = 64;
