// SPDX-License-Identifier: MIT OR Apache-2.0
//! Preparing batches in order: the same code on the caller's thread and ahead of it.

use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use super::collate::{collate, BATCH};
use super::serving::{taken, Serving, Way};
use super::{Batch, LastBatch, LoaderConfig, Position, SampleShape, Shuffle};
use crate::data::random::{self, Purpose};
use crate::data::{Dataset, Elements, Field, Fields, Pass};
use crate::{allocate, Error, Result, Shape, Tensor};

/// Batches that are sorted by length together: enough to find like ones, few enough that each epoch has
/// other batches.
const STRETCH: usize = 16;

/// What memory is wanted for.
const ORDER: &str = "the order of an epoch";

/// The checked description of all batches.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) dataset: Arc<dyn Dataset>,
    pub(super) config: LoaderConfig,
    pub(super) batches_per_epoch: u64,
    /// Samples when the loader was made; a data set that grows must not change the order.
    pub(super) len: usize,
    pub(super) fields: Fields,
    pub(super) serving: Serving,
}

impl Plan {
    pub(super) fn new(dataset: Arc<dyn Dataset>, config: LoaderConfig) -> Result<Self> {
        let len = dataset.len();
        let fields = dataset.fields();
        fields.check()?;
        if len == 0 {
            return Err(Error::argument("dataset", "at least one sample", len));
        }
        if len > Shape::MOST_ELEMENTS {
            let expected = format!("at most {} samples", Shape::MOST_ELEMENTS);
            return Err(Error::argument("dataset", expected, len));
        }
        if config.batch_size == 0 {
            return Err(Error::argument("batch_size", "at least 1", 0));
        }
        let batches = match config.last_batch {
            LastBatch::Keep => len.div_ceil(config.batch_size),
            LastBatch::Drop => len / config.batch_size,
        };
        if batches == 0 {
            let expected = format!("at most {len}, the samples there are, to drop the last batch");
            return Err(Error::argument("batch_size", expected, config.batch_size));
        }
        if !Shape::from([config.batch_size.min(len), fields.fixed_elements()]).is_allowed() {
            let expected = "a batch that fits in memory";
            return Err(Error::argument("batch_size", expected, config.batch_size));
        }
        let (batches_per_epoch, serving) = (batches as u64, Serving::default());
        Ok(Self { dataset, config, batches_per_epoch, len, fields, serving })
    }

    pub(super) fn after(&self, position: Position) -> Position {
        if position.batch + 1 < self.batches_per_epoch {
            Position { batch: position.batch + 1, ..position }
        } else {
            Position { epoch: position.epoch + 1, batch: 0 }
        }
    }

    fn order(&self, epoch: u64) -> Result<Order> {
        match self.config.shuffle {
            Shuffle::Sequential => Ok(Order::Sequential),
            Shuffle::Seeded(seed) | Shuffle::LikeLengths(seed) => {
                let mut rng = random::stream(Purpose::EpochOrder, seed, epoch);
                let mut order = allocate::room(self.len, ORDER)?;
                order.extend(0..self.len);
                random::choose_front(&mut rng, &mut order, self.len);
                if let Shuffle::LikeLengths(_) = self.config.shuffle {
                    self.bring_like_together(&mut order, &mut rng)?;
                }
                Ok(Order::Permuted(order))
            }
        }
    }

    /// Sorts stretches of a shuffled order by length and shuffles the whole batches.
    fn bring_like_together(&self, order: &mut [usize], rng: &mut ChaCha8Rng) -> Result<()> {
        let size = self.config.batch_size;
        let batches = order.len() / size;
        let whole = &mut order[..batches * size];
        for stretch in whole.chunks_mut(size.saturating_mul(STRETCH)) {
            stretch.sort_by_key(|&index| self.dataset.length(index));
        }
        let mut sorted = allocate::room(whole.len(), ORDER)?;
        sorted.extend_from_slice(whole);
        let places = random::permutation(rng, batches);
        for (batch, from) in whole.chunks_mut(size).zip(places) {
            batch.copy_from_slice(&sorted[from * size..][..size]);
        }
        Ok(())
    }
}

enum Order {
    Sequential,
    Permuted(Vec<usize>),
}

/// Prepares one batch after the other.
pub(super) struct Cursor {
    plan: Arc<Plan>,
    next: Position,
    /// The order of one epoch, and which.
    order: Option<(u64, Order)>,
}

impl Cursor {
    pub(super) fn new(plan: Arc<Plan>, start: Position) -> Self {
        Self { plan, next: start, order: None }
    }

    /// The next batch. An error, and a `stop` while it is prepared is one too, leaves the cursor in
    /// place.
    pub(super) fn advance(&mut self, stop: &AtomicBool) -> Result<Batch> {
        let indices = self.indices()?;
        let batch = self.read(indices, stop)?;
        self.next = self.plan.after(self.next);
        Ok(batch)
    }

    fn indices(&mut self) -> Result<Vec<usize>> {
        let Position { epoch, batch } = self.next;
        if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            self.order = Some((epoch, self.plan.order(epoch)?));
        }
        let size = self.plan.config.batch_size;
        let start = batch as usize * size;
        let end = start.saturating_add(size).min(self.plan.len);
        let mut indices = allocate::room(end - start, BATCH)?;
        match &self.order {
            Some((_, Order::Permuted(order))) => indices.extend_from_slice(&order[start..end]),
            _ => indices.extend(start..end),
        }
        Ok(indices)
    }

    fn read(&self, indices: Vec<usize>, stop: &AtomicBool) -> Result<Batch> {
        let Plan { dataset, config, fields, serving, .. } = &*self.plan;
        let pass = Pass { seed: config.seed, epoch: self.next.epoch };
        let read = |depot| collate(&**dataset, fields, &indices, pass, stop, depot);
        let (inputs, targets) = match &serving.way {
            Way::Read => read(None)?,
            Way::ReadTo(depot) => read(Some(depot))?,
            Way::Kept(columns) => taken(&self.plan, columns, &indices)?,
        };
        let inputs = match config.sample_shape {
            SampleShape::Own => inputs,
            SampleShape::Row => rows(inputs, fields)?,
        };
        Ok(Batch { inputs, targets, indices, position: self.next })
    }
}

/// Inputs of floating-point numbers as rows.
fn rows(inputs: Vec<Tensor>, fields: &Fields) -> Result<Vec<Tensor>> {
    let row = |(input, field): (Tensor, &Field)| match (field.elements, field.varying) {
        (Elements::F32, None) => input.reshaped([input.shape().samples(), field.count()]),
        _ => Ok(input),
    };
    inputs.into_iter().zip(&fields.inputs).map(row).collect()
}
