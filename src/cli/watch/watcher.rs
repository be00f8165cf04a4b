// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks at a training while it goes on, and warns once of each thing that is not as it should be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln::data::{Batch, Dataset, Pass};
use kiln::watch::{cold_start, CheckSums, DeadUnits, Warning};
use kiln::{Result, StepLoss, Tensor};

use super::Board;
use crate::cli::metrics::Epoch;
use crate::cli::network::{AnyTrainer, Feed};
use crate::cli::output::Output;

/// What looks at a training.
pub(in crate::cli) struct Watcher {
    board: Option<Board>,
    classes: usize,
    /// Parameters as they were when an epoch began that is looked at.
    before: Option<CheckSums>,
    warnings: Vec<Warning>,
    /// Layers and parameters that were warned about.
    told: BTreeSet<String>,
    /// How long all of it took.
    spent: Duration,
}

/// The samples that a network is tried on.
pub(in crate::cli) struct Probe<'a> {
    /// The training set, without random changes.
    pub(in crate::cli) set: &'a Arc<dyn Dataset>,
    pub(in crate::cli) feed: Feed,
    /// Samples in a batch of the training.
    pub(in crate::cli) batch: usize,
}

/// Samples on which units are tried first, and the most that are taken to be sure.
const TRIED: usize = 64;
const SURE: usize = 512;

impl Watcher {
    pub(in crate::cli) fn new(board: Option<Board>, classes: usize) -> Self {
        Watcher {
            board,
            classes,
            before: None,
            warnings: vec![],
            told: BTreeSet::new(),
            spent: Duration::ZERO,
        }
    }

    /// How long it looked at the training.
    pub(in crate::cli) fn spent(&self) -> Duration {
        self.spent
    }

    /// What was warned about.
    pub(in crate::cli) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// An epoch begins.
    pub(in crate::cli) fn begin(&mut self, epoch: usize, trainer: &mut AnyTrainer) -> Result<()> {
        let begun = Instant::now();
        self.before = is_due(epoch).then(|| CheckSums::of(trainer)).transpose()?;
        self.spent += begun.elapsed();
        Ok(())
    }

    /// Only a part of an epoch is left: no parameter must have changed in it.
    pub(in crate::cli) fn begin_late(&mut self) {
        self.before = None;
    }

    /// A step is made.
    pub(in crate::cli) fn step(
        &mut self,
        update: u64,
        loss: &StepLoss,
        output: &mut Output,
    ) -> Result<()> {
        let board = self.board.as_mut().filter(|board| board.is_due(update));
        if board.is_none() && update > 1 {
            return Ok(());
        }
        // Until its loss is known, the step itself may take time.
        let value = loss.value()?;
        let begun = Instant::now();
        if let Some(board) = board {
            board.step(update, loss)?;
        }
        if update == 1 {
            self.warn(cold_start(value.into(), self.classes), output)?;
        }
        self.spent += begun.elapsed();
        Ok(())
    }

    /// An epoch is measured, and all epochs took so long.
    pub(in crate::cli) fn epoch(
        &mut self,
        epoch: &Epoch,
        worked: Duration,
        trainer: &mut AnyTrainer,
        probe: &Probe<'_>,
        output: &mut Output,
    ) -> Result<()> {
        let begun = Instant::now();
        if let Some(before) = self.before.take() {
            let unchanged = CheckSums::of(trainer)?.unchanged_since(&before);
            self.warn(unchanged, output)?;
        }
        if is_due(epoch.epoch) {
            self.warn(dead_units(trainer, probe)?, output)?;
        }
        if let Some(board) = &mut self.board {
            board.epoch(epoch, trainer.updates(), probe.set.len())?;
            let watching = self.spent + begun.elapsed();
            if board.wants_histograms(epoch.epoch, worked, watching) {
                board.histograms(trainer, &probe.samples(0, probe.batch)?)?;
            }
        }
        self.spent += begun.elapsed();
        Ok(())
    }

    fn warn(
        &mut self,
        warnings: impl IntoIterator<Item = Warning>,
        output: &mut Output,
    ) -> Result<()> {
        for warning in warnings {
            let about = match &warning {
                Warning::DeadUnits { layer, .. } => format!("units of {layer}"),
                Warning::Untrained { parameter } => parameter.clone(),
                _ => String::new(),
            };
            if self.told.insert(about) {
                output.note(&format!("warn: {warning}"))?;
                self.warnings.push(warning);
            }
        }
        Ok(())
    }
}

impl Probe<'_> {
    /// So many samples from one on, or those that there are.
    fn samples(&self, from: usize, count: usize) -> Result<(Vec<Tensor>, Tensor)> {
        let end = (from + count).min(self.set.len());
        let places: Vec<usize> = (from.min(end)..end).collect();
        let batch = Batch::read(&**self.set, &places, Pass::default())?;
        self.feed.tensors(batch)
    }
}

/// Whether an epoch is looked at closely: the first, and ever fewer later on.
fn is_due(epoch: usize) -> bool {
    epoch.is_power_of_two() && epoch.trailing_zeros().is_multiple_of(2)
}

/// Units that are dead on some samples, and on many more.
fn dead_units(trainer: &mut AnyTrainer, probe: &Probe<'_>) -> Result<Vec<Warning>> {
    let (mut dead, mut from) = (DeadUnits::default(), 0);
    let most = probe.set.len().min(SURE);
    loop {
        let (x, _) = probe.samples(from, TRIED)?;
        dead.add(&trainer.net().eval().layers(&x)?)?;
        from += TRIED;
        let warnings = dead.warnings();
        if warnings.is_empty() || from >= most {
            return Ok(warnings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_due;

    #[test]
    fn ever_fewer_epochs_are_looked_at() {
        let due: Vec<usize> = (0..300).filter(|&epoch| is_due(epoch)).collect();
        assert_eq!(due, [1, 4, 16, 64, 256]);
    }
}
