// SPDX-License-Identifier: MIT OR Apache-2.0
//! Preparing batches in order: the same code on the caller's thread and ahead of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use rayon::prelude::*;

use super::{Batch, LastBatch, LoaderConfig, Position, Shuffle};
use crate::data::dataset::elements;
use crate::data::random::{self, Purpose};
use crate::data::Dataset;
use crate::{allocate, Error, Result, Shape};

/// Elements that are worth handing to another core: 64 KiB take about 10 µs to copy, a rayon task
/// about 1.
const ELEMENTS_PER_TASK: usize = 16 << 10;

/// The checked description of all batches.
pub(super) struct Plan {
    pub(super) dataset: Arc<dyn Dataset>,
    pub(super) config: LoaderConfig,
    pub(super) batches_per_epoch: u64,
    /// Samples when the loader was made; a data set that grows must not change the order.
    len: usize,
    sample_elements: usize,
}

impl Plan {
    pub(super) fn new(dataset: Arc<dyn Dataset>, config: LoaderConfig) -> Result<Self> {
        let len = dataset.len();
        let sample_elements = elements(dataset.sample_shape())?;
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
        if !Shape::from([config.batch_size.min(len), sample_elements]).is_allowed() {
            let expected = "a batch that fits in memory";
            return Err(Error::argument("batch_size", expected, config.batch_size));
        }
        Ok(Self { dataset, config, batches_per_epoch: batches as u64, len, sample_elements })
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
            Shuffle::Seeded(seed) => {
                let mut rng = random::stream(Purpose::EpochOrder, seed, epoch);
                let mut order = allocate::room(self.len, "the order of an epoch")?;
                order.extend(0..self.len);
                random::choose_front(&mut rng, &mut order, self.len);
                Ok(Order::Permuted(order))
            }
        }
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
        let Plan { dataset, sample_elements, .. } = &*self.plan;
        let mut inputs = allocate::zeros(indices.len() * sample_elements, BATCH)?;
        let mut labels = allocate::zeros(indices.len(), BATCH)?;
        let failed = inputs
            .par_chunks_mut(*sample_elements)
            .zip(&mut labels)
            .zip(&indices)
            .with_min_len(ELEMENTS_PER_TASK.div_ceil(*sample_elements))
            .take_any_while(|_| !stop.load(Ordering::Relaxed))
            .find_map_first(|((input, label), &index)| {
                read_sample(&**dataset, index, input).map(|read| *label = read).err()
            });
        if let Some(error) = failed {
            return Err(error);
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Internal {
                pass: "loader",
                message: "stopped within a batch".into(),
            });
        }
        let mut shape = vec![indices.len()];
        shape.extend_from_slice(dataset.sample_shape());
        Ok(Batch { inputs, shape, labels, indices, position: self.next })
    }
}

/// What memory is wanted for.
const BATCH: &str = "a batch";

/// Reads a sample; its label must be a class, since losses index with it.
fn read_sample(dataset: &dyn Dataset, index: usize, into: &mut [f32]) -> Result<i32> {
    let label = dataset.read(index, into)?;
    if usize::try_from(label).is_ok_and(|label| label < dataset.classes()) {
        return Ok(label);
    }
    let expected = format!("classes 0..{}", dataset.classes());
    Err(Error::argument(format!("label of sample {index}"), expected, label))
}
