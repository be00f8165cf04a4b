// SPDX-License-Identifier: MIT OR Apache-2.0
//! Curves and histograms of a run for TensorBoard.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln::watch::{EventFile, Histogram};
use kiln::{DType, Result, StepLoss, Tensor};

use super::WatchArgs;
use crate::cli::metrics::Epoch;
use crate::cli::network::AnyTrainer;

/// Folder of event files in that of a run.
const FOLDER: &str = "tensorboard";

/// Steps between two points of curves by step, unless told otherwise.
const STEPS: u64 = 10;

/// Writes what is watched to an event file.
pub(in crate::cli) struct Board {
    events: EventFile,
    /// Steps between two points.
    every: u64,
    /// When histograms are written; `None` is never.
    histograms: Option<Histograms>,
}

/// When histograms are written.
enum Histograms {
    /// After every so many epochs.
    Every(NonZeroU64),
    /// As often as they are cheap beside the training.
    Cheap(Cost),
}

/// What the sets of histograms so far took.
#[derive(Default)]
struct Cost {
    /// The last one, if there is one.
    last: Option<Duration>,
}

/// One part in so many of the time may go into watching.
const SHARE: u32 = 100;

impl Board {
    /// A board if one was asked for, of a run that has made so many updates.
    pub(in crate::cli) fn of(args: &WatchArgs, run: &Path, updates: u64) -> Result<Option<Self>> {
        let Some(directory) = &args.tensorboard else { return Ok(None) };
        let directory: PathBuf = directory.clone().unwrap_or_else(|| run.join(FOLDER));
        let first_step = if updates == 0 { 0 } else { updates + 1 };
        let events = EventFile::create(directory, first_step)?;
        let every = args.tensorboard_every.map_or(STEPS, NonZeroU64::get);
        let histograms = args.histograms.map(|epochs| match epochs {
            Some(epochs) => Histograms::Every(epochs),
            None => Histograms::Cheap(Cost::default()),
        });
        Ok(Some(Board { events, every, histograms }))
    }

    /// The folder that is in that of a run if nothing else was said.
    pub(in crate::cli) fn folder(run: &Path) -> PathBuf {
        run.join(FOLDER)
    }

    /// Whether a step is written down.
    pub(in crate::cli) fn is_due(&self, update: u64) -> bool {
        update.is_multiple_of(self.every)
    }

    /// A step is made that is due; on a GPU, this waits for it.
    pub(in crate::cli) fn step(&mut self, update: u64, loss: &StepLoss) -> Result<()> {
        self.events.scalar("step/loss", update, loss.value()?.into())?;
        match loss.gradient_norm()? {
            Some(norm) => self.events.scalar("step/gradient norm", update, norm.into()),
            None => Ok(()),
        }
    }

    /// An epoch is measured.
    pub(in crate::cli) fn epoch(
        &mut self,
        epoch: &Epoch,
        update: u64,
        samples: usize,
    ) -> Result<()> {
        let mut curve = |tag: &str, value: f64| self.events.scalar(tag, update, value);
        curve("loss/train", epoch.train_loss)?;
        curve("loss/test", epoch.test_loss)?;
        curve("accuracy/train", epoch.train_accuracy)?;
        curve("accuracy/test", epoch.test_accuracy)?;
        curve("epoch/learning rate", epoch.learning_rate)?;
        curve("epoch/samples per second", samples as f64 / epoch.seconds.max(1e-9))?;
        self.events.flush()
    }

    /// Whether histograms are due after an epoch, when all epochs took so long and watching them a part
    /// of that.
    pub(in crate::cli) fn wants_histograms(
        &self,
        epoch: usize,
        worked: Duration,
        watching: Duration,
    ) -> bool {
        match &self.histograms {
            None => false,
            Some(Histograms::Every(epochs)) => epoch as u64 % *epochs == 0,
            Some(Histograms::Cheap(cost)) => cost.permits_another(worked, watching),
        }
    }

    /// Histograms of weights, and of gradients and activations for a batch: those of the next step, and
    /// those in eval mode.
    pub(in crate::cli) fn histograms(
        &mut self,
        trainer: &mut AnyTrainer,
        (x, labels): &(Vec<Tensor>, Tensor),
    ) -> Result<()> {
        let begun = Instant::now();
        let update = trainer.updates();
        let names: Vec<String> =
            trainer.net().parameter_names().into_iter().map(String::from).collect();
        for name in names {
            let value = trainer.net().parameter(&name)?;
            if value.dtype() == DType::F32 {
                self.histogram(&format!("weights/{name}"), update, &value)?;
            }
        }
        for (name, gradient) in trainer.gradients(x, labels)? {
            self.histogram(&format!("gradients/{name}"), update, &gradient)?;
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for found in trainer.net().eval().layers(x)? {
            let tag = format!("activations/{}/{}", found.layer, found.op);
            let number = seen.entry(tag.clone()).or_default();
            *number += 1;
            let tag = if *number == 1 { tag } else { format!("{tag} {number}") };
            self.histogram(&tag, update, &found.output)?;
        }
        self.events.flush()?;
        if let Some(Histograms::Cheap(cost)) = &mut self.histograms {
            cost.last = Some(begun.elapsed());
        }
        Ok(())
    }

    fn histogram(&mut self, tag: &str, update: u64, values: &Tensor) -> Result<()> {
        let mut histogram = Histogram::default();
        histogram.add(values.values()?);
        self.events.histogram(tag, update, &histogram)
    }
}

impl Cost {
    /// Whether watching stays a small share of the time with one more set, which takes as long as the one
    /// before it. The first is taken to cost as much as all that was watched before.
    fn permits_another(&self, worked: Duration, watching: Duration) -> bool {
        watching + self.last.unwrap_or(watching) <= worked / SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, Duration};

    #[test]
    fn histograms_are_written_as_long_as_watching_stays_cheap() {
        let ms = Duration::from_millis;
        assert!(Cost::default().permits_another(ms(1000), ms(5)), "the first");
        assert!(!Cost::default().permits_another(ms(1000), ms(6)), "the first");
        let cost = Cost { last: Some(ms(2)) };
        assert!(cost.permits_another(ms(1000), ms(8)));
        assert!(!cost.permits_another(ms(1000), ms(9)));
        assert!(!cost.permits_another(ms(100), ms(2)));
    }
}
