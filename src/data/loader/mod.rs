// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batches from a data set: in a repeatable order, ahead of time, from any position.

mod batch;
mod collate;
mod config;
mod prefetch;
mod prepare;
mod serving;

use std::fmt;
use std::iter::FusedIterator;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use super::Dataset;
use crate::{Device, Error, Result};
use prefetch::Prefetcher;
use prepare::{Cursor, Plan};
use serving::Serving;

pub use batch::Batch;
pub use config::{LastBatch, LoaderConfig, OnDevice, Position, SampleShape, Shuffle};
pub use serving::Residence;

/// A channel reserves room for all of them at once; far more than hides any delay.
const MAX_PREFETCH: usize = 1024;

/// Makes batches of a data set, epoch after epoch.
///
/// The order of an epoch depends on the seed and the epoch's number alone, so a resumed run sees
/// the same batches. Preparing ahead on a thread changes neither order nor contents; it may read
/// samples that are never asked for. An error of the data set comes with the batch it concerns.
///
/// ```
/// use std::sync::Arc;
/// use kiln::data::{Digits, Loader, LoaderConfig, Position, Shuffle};
///
/// let digits = Arc::new(Digits::load().to_28x28());
/// let shuffle = Shuffle::Seeded(7);
/// let config = LoaderConfig { batch_size: 100, shuffle, ..LoaderConfig::default() };
/// let mut loader = Loader::new(digits.clone(), config.clone())?;
/// for _ in 0..20 {
///     loader.next_batch()?;
/// }
/// assert_eq!(loader.position(), Position { epoch: 1, batch: 2 }); // 18 batches an epoch
///
/// let mut resumed = Loader::new(digits, config)?;
/// resumed.seek(loader.position())?;
/// assert_eq!(resumed.next_batch()?, loader.next_batch()?);
/// # Ok::<(), kiln::Error>(())
/// ```
pub struct Loader {
    plan: Arc<Plan>,
    position: Position,
    /// Where batches come from; made at the first use after a new, a seek or an error.
    supply: Option<Supply>,
}

enum Supply {
    Inline(Cursor),
    Ahead(Prefetcher),
}

impl Loader {
    /// A loader that stands before the first batch of epoch 0.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty data set, fields that no sample can have, a batch size of 0, one
    /// that leaves no batch when the last is dropped, or more than 1024 batches ahead.
    pub fn new(dataset: Arc<dyn Dataset>, config: LoaderConfig) -> Result<Self> {
        if config.prefetch > MAX_PREFETCH {
            let expected = format!("at most {MAX_PREFETCH} batches");
            return Err(Error::argument("prefetch", expected, config.prefetch));
        }
        let plan = Arc::new(Plan::new(dataset, config)?);
        Ok(Self { plan, position: Position::default(), supply: None })
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.plan.dataset
    }

    /// The configuration.
    pub fn config(&self) -> &LoaderConfig {
        &self.plan.config
    }

    /// Batches in an epoch, at least 1; also [`len`](Self::len), as PyTorch's `len(loader)`.
    pub fn batches_per_epoch(&self) -> usize {
        self.plan.batches_per_epoch as usize
    }

    /// Batches in an epoch, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "an epoch is never empty")]
    pub fn len(&self) -> usize {
        self.batches_per_epoch()
    }

    /// Makes batches for a device from now on, and tells where their samples lie. To a GPU they are brought
    /// once, if [`on_device`](OnDevice) says so, or each batch is made in memory from which the GPU copies by
    /// itself. Batches are the same whatever device they are for, and can be used on any.
    /// [`Trainer::fit`](crate::Trainer::fit) asks for it by itself.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use kiln::data::{Digits, Loader, LoaderConfig, Residence};
    /// use kiln::Device;
    ///
    /// let digits = Arc::new(Digits::load().to_28x28());
    /// let mut loader = Loader::new(digits, LoaderConfig { batch_size: 64, ..LoaderConfig::default() })?;
    /// let device = Device::cpu();
    /// assert!(matches!(loader.serve(&device)?, Residence::Host { .. }));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`] if the device cannot be opened; with [`OnDevice::Always`], [`Error::Argument`] if
    /// samples cannot lie there, [`Error::Device`] if there is no memory for them, and errors of the data set.
    pub fn serve(&mut self, device: &Device) -> Result<&Residence> {
        if self.plan.serving.device.as_ref() != Some(device) {
            let serving = Serving::of(&self.plan, device)?;
            tracing::debug!(%device, "samples lie {}", serving.residence);
            self.plan = Arc::new(Plan { serving, ..(*self.plan).clone() });
            self.supply = None;
        }
        Ok(&self.plan.serving.residence)
    }

    /// The place of the batch that comes next.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Continues with the batch at `position`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a batch past the end of an epoch; the loader stays where it is.
    pub fn seek(&mut self, position: Position) -> Result<()> {
        let batches = self.plan.batches_per_epoch;
        if position.batch >= batches {
            let expected = format!("below {batches}, the batches of an epoch");
            return Err(Error::argument("position.batch", expected, position.batch));
        }
        if position.epoch > u64::from(u32::MAX) {
            let expected = format!("at most {}", u32::MAX);
            return Err(Error::argument("position.epoch", expected, position.epoch));
        }
        if position != self.position {
            self.supply = None;
            self.position = position;
        }
        Ok(())
    }

    /// The next batch, into the next epoch and without end.
    ///
    /// # Errors
    /// The error of the data set for the first of the batch's samples that fails, and
    /// [`Error::Argument`] for a label that is not a class. The position stays: the next call tries
    /// again.
    ///
    /// # Panics
    /// If the data set panics.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let mut supply = self.take_supply()?;
        let batch = match &mut supply {
            Supply::Ahead(prefetcher) => prefetcher.next()?,
            Supply::Inline(cursor) => cursor.advance(&AtomicBool::new(false))?,
        };
        self.position = self.plan.after(self.position);
        self.supply = Some(supply);
        Ok(batch)
    }

    /// The rest of the current epoch, a whole one unless some of its batches were taken before. It
    /// may be left at any batch: the next call continues there.
    pub fn epoch(&mut self) -> Epoch<'_> {
        let remaining = self.plan.batches_per_epoch - self.position.batch;
        Epoch { loader: self, remaining: remaining as usize }
    }

    fn take_supply(&mut self) -> Result<Supply> {
        // A rayon worker must not wait for the thread, which may itself wait for a worker.
        let ahead =
            if rayon::current_thread_index().is_some() { 0 } else { self.config().prefetch };
        match self.supply.take() {
            Some(Supply::Ahead(prefetcher)) if ahead > 0 => Ok(Supply::Ahead(prefetcher)),
            Some(Supply::Inline(cursor)) if ahead == 0 => Ok(Supply::Inline(cursor)),
            _ => {
                let cursor = Cursor::new(Arc::clone(&self.plan), self.position);
                match ahead {
                    0 => Ok(Supply::Inline(cursor)),
                    _ => Prefetcher::start(cursor, ahead).map(Supply::Ahead),
                }
            }
        }
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("samples", &self.plan.dataset.len())
            .field("config", &self.plan.config)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a mut Loader {
    type Item = Result<Batch>;
    type IntoIter = Epoch<'a>;

    /// As [`Loader::epoch`].
    fn into_iter(self) -> Epoch<'a> {
        self.epoch()
    }
}

/// The batches left in an epoch; made by [`Loader::epoch`]. It ends with the first error.
#[derive(Debug)]
pub struct Epoch<'a> {
    loader: &'a mut Loader,
    remaining: usize,
}

impl Iterator for Epoch<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let batch = self.loader.next_batch();
        if batch.is_err() {
            self.remaining = 0;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Epoch<'_> {}
impl FusedIterator for Epoch<'_> {}
