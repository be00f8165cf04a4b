// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plans that a network keeps: found by what they were made for, the least recently used goes.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::num::NonZeroUsize;

use crate::backend::PlanId;
use crate::exec::Executable;
use crate::op::TensorType;
use crate::passes::{Goal, Request};
use crate::values::Form;
use crate::{DType, Shape, Tensor};

/// Plans kept unless the user wants others: as many as batch sizes and modes commonly in use.
const MOST: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// Plans with what they were made for.
#[derive(Debug)]
pub(crate) struct Kept {
    plans: HashMap<PlanId, Entry>,
    /// Plans by a hash of what they were made for.
    by_hash: HashMap<u64, Vec<PlanId>>,
    most: NonZeroUsize,
    /// Number of look-ups so far.
    now: u64,
}

#[derive(Debug)]
struct Entry {
    request: Request,
    loss: Option<String>,
    types: TypeId,
    lists: Vec<usize>,
    inputs: Vec<TensorType>,
    hash: u64,
    executable: Executable,
    returned: Vec<usize>,
    last_used: u64,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) request: &'a Request,
    /// The loss's key.
    pub(crate) loss: Option<&'a str>,
    pub(crate) form: Form<'a>,
    pub(crate) inputs: Types<'a>,
}

/// Types of inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Types<'a> {
    Of(&'a [Tensor]),
    Are(&'a [TensorType]),
}

impl Default for Kept {
    fn default() -> Self {
        Kept { plans: HashMap::new(), by_hash: HashMap::new(), most: MOST, now: 0 }
    }
}

impl Kept {
    /// The plan for what is wanted, which counts as used.
    pub(crate) fn find(&mut self, wanted: &Wanted<'_>) -> Option<PlanId> {
        self.now += 1;
        let of_hash = self.by_hash.get(&wanted.hash())?;
        let found = of_hash.iter().find(|id| self.plans[*id].is_for(wanted)).copied()?;
        self.plans.get_mut(&found)?.last_used = self.now;
        Some(found)
    }

    /// Keeps a plan with the lengths of the lists that it returns. Gives those that are kept no more.
    pub(crate) fn add(
        &mut self,
        wanted: &Wanted<'_>,
        executable: Executable,
        returned: Vec<usize>,
    ) -> Vec<Executable> {
        let gone = self.shrink(self.most.get() - 1);
        let (id, hash) = (executable.id(), wanted.hash());
        let entry = Entry {
            request: wanted.request.clone(),
            loss: wanted.loss.map(String::from),
            types: wanted.form.types,
            lists: wanted.form.lists.to_vec(),
            inputs: wanted.inputs.to_vec(),
            hash,
            executable,
            returned,
            last_used: self.now,
        };
        self.by_hash.entry(hash).or_default().push(id);
        self.plans.insert(id, entry);
        gone
    }

    /// Keeps at most this many plans from now on, and returns those that are kept no more.
    pub(crate) fn keep(&mut self, most: NonZeroUsize) -> Vec<Executable> {
        self.most = most;
        self.shrink(most.get())
    }

    pub(crate) fn get(&self, id: PlanId) -> Option<&Executable> {
        self.plans.get(&id).map(|entry| &entry.executable)
    }

    /// Lengths of the lists that a plan returns.
    pub(crate) fn returned(&self, id: PlanId) -> &[usize] {
        self.plans.get(&id).map_or(&[], |entry| &entry.returned)
    }

    pub(crate) fn get_mut(&mut self, id: PlanId) -> Option<&mut Executable> {
        self.plans.get_mut(&id).map(|entry| &mut entry.executable)
    }

    /// The plans, with what they are for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Request, &Executable)> {
        self.plans.values().map(|entry| (&entry.request, &entry.executable))
    }

    pub(crate) fn len(&self) -> usize {
        self.plans.len()
    }

    pub(crate) fn most(&self) -> NonZeroUsize {
        self.most
    }

    /// Takes the plans of training steps out.
    pub(crate) fn drain_steps(&mut self) -> Vec<Executable> {
        let is_step = |entry: &Entry| matches!(entry.request.goal, Goal::Step(_));
        let steps = self.plans.iter().filter(|(_, entry)| is_step(entry)).map(|(id, _)| *id);
        let steps: Vec<PlanId> = steps.collect();
        steps.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn shrink(&mut self, most: usize) -> Vec<Executable> {
        let mut gone = Vec::new();
        while self.plans.len() > most {
            let oldest = self.plans.iter().min_by_key(|(_, entry)| entry.last_used);
            let Some(id) = oldest.map(|(id, _)| *id) else { break };
            gone.extend(self.remove(id));
        }
        gone
    }

    fn remove(&mut self, id: PlanId) -> Option<Executable> {
        let entry = self.plans.remove(&id)?;
        if let Some(of_hash) = self.by_hash.get_mut(&entry.hash) {
            of_hash.retain(|other| *other != id);
            if of_hash.is_empty() {
                self.by_hash.remove(&entry.hash);
            }
        }
        Some(entry.executable)
    }
}

impl Entry {
    fn is_for(&self, wanted: &Wanted<'_>) -> bool {
        self.request == *wanted.request
            && self.loss.as_deref() == wanted.loss
            && Form { types: self.types, lists: &self.lists } == wanted.form
            && wanted.inputs.are(&self.inputs)
    }
}

impl Wanted<'_> {
    /// A hash of everything but the numbers of a request, by which few plans of one network differ.
    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (discriminant(&self.request.mode), discriminant(&self.request.goal)).hash(&mut hasher);
        self.loss.hash(&mut hasher);
        self.form.hash(&mut hasher);
        self.inputs.each(|shape, dtype| {
            shape.hash(&mut hasher);
            discriminant(&dtype).hash(&mut hasher);
        });
        hasher.finish()
    }
}

impl Types<'_> {
    pub(crate) fn to_vec(self) -> Vec<TensorType> {
        match self {
            Types::Of(tensors) => tensors.iter().map(Tensor::ty).collect(),
            Types::Are(types) => types.to_vec(),
        }
    }

    fn each(self, mut take: impl FnMut(&Shape, DType)) {
        match self {
            Types::Of(tensors) => tensors.iter().for_each(|t| take(t.shape(), t.dtype())),
            Types::Are(types) => types.iter().for_each(|ty| take(&ty.shape, ty.dtype)),
        }
    }

    fn are(self, types: &[TensorType]) -> bool {
        match self {
            Types::Of(tensors) => {
                let is = |(t, ty): (&Tensor, &TensorType)| {
                    *t.shape() == ty.shape && t.dtype() == ty.dtype
                };
                tensors.len() == types.len() && tensors.iter().zip(types).all(is)
            }
            Types::Are(own) => own == types,
        }
    }
}
