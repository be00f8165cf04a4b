// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network's state on a device: one flat arena per role, so that an optimiser, clipping and a
//! checkpoint each see one array.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::training::Training;
use super::Role;
use crate::backend::{counters_of, slots, words_of, Arena, Backend, Memory, Slot, Snapshot, Span};
use crate::graph::{ParamId, ParamRole, ParamSpec};
use crate::plan::Bytes;
use crate::{allocate, DType, Error, Result, Tensor};

/// Values, gradients and moments of all parameters.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) specs: Arc<Vec<ParamSpec>>,
    ids: Arc<BTreeMap<String, ParamId>>,
    pub(super) slots: Arc<Vec<Slot>>,
    /// Sizes of an arena of all trained parameters and of that of the state.
    pub(super) sizes: [Bytes; 2],
    values: Arena,
    state: Arena,
    pub(super) training: Training,
}

impl Store {
    /// Reserves the values of parameters, all zero.
    pub(crate) fn new(backend: &mut dyn Backend, specs: Arc<Vec<ParamSpec>>) -> Result<Self> {
        let alignment = backend.facts().alignment;
        within_reach(&specs, backend)?;
        let (slots, [size, state_size]) = slots(&specs, alignment, |spec| backend.layout(spec));
        let (values, state) = (backend.reserve(size)?, backend.reserve(state_size)?);
        let training = Training::new(&specs);
        let named = specs.iter().enumerate();
        let ids = named.map(|(index, spec)| (spec.name.clone(), ParamId::at(index))).collect();
        let (ids, slots) = (Arc::new(ids), Arc::new(slots));
        let sizes = [size, state_size];
        Ok(Store { specs, ids, slots, sizes, values, state, training })
    }

    /// The parameter of this name.
    pub(crate) fn find(&self, name: &str) -> Option<ParamId> {
        self.ids.get(name).copied()
    }

    /// The values as they are now.
    pub(crate) fn freeze(&self, backend: &mut dyn Backend) -> Result<Frozen> {
        self.frozen(backend, [self.values, self.state])
    }

    /// The moving averages as they are now, in the place of values; what has none is as it is.
    pub(crate) fn freeze_averages(&self, backend: &mut dyn Backend) -> Result<Frozen> {
        let [values, state] = self.training.averages;
        self.frozen(backend, [values.unwrap_or(self.values), state.unwrap_or(self.state)])
    }

    fn frozen(&self, backend: &mut dyn Backend, arenas: [Arena; 2]) -> Result<Frozen> {
        let (specs, ids, slots) = (self.specs.clone(), self.ids.clone(), self.slots.clone());
        let values = backend.snapshot(&arenas)?;
        Ok(Frozen { specs, ids, slots, sizes: self.sizes, values })
    }

    /// The parameters, in order.
    pub(crate) fn specs(&self) -> &Arc<Vec<ParamSpec>> {
        &self.specs
    }

    /// The memory of a run in `plan`'s arena.
    pub(crate) fn memory(&self, plan: Arena) -> Memory {
        Memory {
            plan,
            values: self.values,
            state: self.state,
            gradients: self.training.gradients,
            moments: self.training.moments.clone(),
            averages: self.training.averages,
            training: self.training.state,
            slots: self.slots.clone(),
        }
    }

    /// A parameter's value, row-major.
    pub(crate) fn read(&self, backend: &mut dyn Backend, id: ParamId) -> Result<Tensor> {
        self.read_from(backend, self.home(id), id)
    }

    /// A parameter's gradient, row-major; zeros before the first was stored.
    pub(crate) fn read_gradient(&self, backend: &mut dyn Backend, id: ParamId) -> Result<Tensor> {
        match self.training.gradients {
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
            Role::Moment(moment) => self.training.moments[moment],
            Role::Average => self.home_of_average(id),
        }
    }

    /// Where a parameter lies.
    pub(super) fn slot(&self, id: ParamId) -> (&ParamSpec, &Slot) {
        (&self.specs[id.index()], &self.slots[id.index()])
    }

    pub(super) fn read_from(
        &self,
        backend: &mut dyn Backend,
        arena: Arena,
        id: ParamId,
    ) -> Result<Tensor> {
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

    pub(super) fn span(&self, arena: Arena, id: ParamId) -> Span {
        let (spec, slot) = (&self.specs[id.index()], &self.slots[id.index()]);
        let bytes = slot.layout.elements(&spec.shape) * spec.dtype.bytes();
        let start = match self.training.moments.contains(&arena) {
            true => slot.moments,
            false => slot.start,
        };
        Span { arena, start, length: Bytes(bytes) }
    }

    /// The arena of a parameter's moving average; that of its value, where none is kept.
    pub(super) fn home_of_average(&self, id: ParamId) -> Arena {
        let [trained, state] = self.training.averages;
        let average = match self.specs[id.index()].role {
            ParamRole::Trained => trained,
            ParamRole::State => state,
        };
        average.filter(|_| self.specs[id.index()].dtype == DType::F32).unwrap_or(self.home(id))
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
    sizes: [Bytes; 2],
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
        let (sizes, training) = (self.sizes, Training::new(&self.specs));
        Ok((Store { specs, ids, slots, sizes, values, state, training }, backend))
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
