// SPDX-License-Identifier: MIT OR Apache-2.0
//! A training: network, data and history, epoch by epoch, resumable after each.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kiln::checkpoint::{self, content_hash, Progress, Recipe, Resume};
use kiln::data::{Dataset, Loader, LoaderConfig, Position, Shuffle};
use kiln::loss::CrossEntropy;
use kiln::op::TensorType;
use kiln::{Device, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data::Sets;
use super::metrics::{self, Epoch, Scores};
use super::network::{self, AnyNet, AnyTrainer};
use super::output::Output;
use super::settings::Settings;
use super::train::METRICS_FILE;

/// Samples per batch of an evaluation; large enough for full speed.
const EVAL_BATCH: usize = 256;

/// A training.
pub(super) struct Session {
    settings: Settings,
    trainer: AnyTrainer,
    loader: Loader,
    sets: Sets,
    /// What the results depend on beyond the trainer.
    recipe: Recipe,
    history: Vec<Epoch>,
}

/// What a checkpoint keeps for the program.
#[derive(Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) settings: Settings,
    pub(super) history: Vec<Epoch>,
}

impl Session {
    /// A training at its beginning. Its step is compiled at once, so that settings that do not fit
    /// the data are found before anything is written.
    pub(super) fn new(settings: Settings, device: Device) -> Result<Self> {
        let sets = settings.data.load(settings.choice())?;
        let config = LoaderConfig {
            batch_size: settings.step.batch.get(),
            shuffle: Shuffle::Seeded(settings.seed),
            ..LoaderConfig::default()
        };
        let loader = Loader::new(Arc::clone(&sets.train), config)?;
        let updates = loader.len().saturating_mul(settings.epochs.get()) as u64;
        let net = network::net(settings.net, device, settings.seed)?;
        let trainer = network::trainer(net, &settings.step, settings.micro_batches)?;
        let mut trainer = trainer.with_schedule(settings.schedule(updates))?;
        let samples = settings.step.batch.get().min(sets.train.len());
        let x = TensorType::f32([samples, sets.features()].into());
        trainer.plan(&x, &TensorType::i32([samples].into()))?;
        let recipe = Recipe::new().with_loader(&loader)?;
        let recipe = recipe.with("test data", content_hash(&*sets.test)?);
        Ok(Session { settings, trainer, loader, sets, recipe, history: Vec::new() })
    }

    /// Continues from a directory's checkpoint.
    pub(super) fn resume(&mut self, directory: &Path) -> Result<()> {
        let resume = Resume::new(directory)
            .recipe(self.recipe.clone())
            .updates_per_epoch(self.loader.len() as u64);
        let progress = resume.load(&mut self.trainer)?;
        let position = progress.position;
        let mut notes = Notes::of(directory, progress)?;
        notes.check(directory, position, self.trainer.net().seed().0)?;
        self.loader.seek(position)?;
        metrics::restore_times(&directory.join(METRICS_FILE), &mut notes.history);
        self.history = notes.history;
        Ok(())
    }

    /// Epochs that are still to be trained.
    pub(super) fn remaining(&self) -> usize {
        self.settings.epochs.get().saturating_sub(self.history.len())
    }

    /// What was measured so far.
    pub(super) fn history(&self) -> &[Epoch] {
        &self.history
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Writes a checkpoint.
    pub(super) fn save(&mut self, directory: &Path) -> Result<()> {
        let notes = Notes { settings: self.settings.clone(), history: self.history.clone() };
        let notes = notes.without_times()?;
        let (position, recipe) = (self.loader.position(), self.recipe.clone());
        let progress = Progress { position, notes, recipe };
        checkpoint::save(&mut self.trainer, &progress, directory)?;
        tracing::debug!(directory = %directory.display(), epochs = self.history.len(), "saved");
        Ok(())
    }

    /// Trains for one epoch and measures.
    pub(super) fn epoch(&mut self, output: &mut Output) -> Result<&Epoch> {
        let number = self.history.len() + 1;
        output.start(format!("epoch {number}/{}", self.settings.epochs), self.loader.len());
        let start = Instant::now();
        let mut learning_rate = self.trainer.rate();
        for batch in self.loader.epoch() {
            let (x, labels) = batch?.into_rows()?;
            learning_rate = self.trainer.rate();
            let loss = self.trainer.step(&x, &labels)?;
            tracing::trace!(update = self.trainer.updates(), loss = loss.value()?, "step");
            output.advance();
        }
        let seconds = start.elapsed().as_secs_f64();
        let train = evaluate(self.trainer.net(), &self.sets.train)?;
        let test = evaluate(self.trainer.net(), &self.sets.test)?;
        output.finish();
        if !train.loss.is_finite() {
            tracing::warn!(epoch = number, loss = train.loss, "training has diverged");
        }
        tracing::info!(epoch = number, train = train.loss, test = test.loss, seconds, "epoch");
        self.history.push(Epoch {
            epoch: number,
            p: self.settings.net.rate(),
            train_loss: train.loss,
            train_accuracy: train.accuracy(),
            test_loss: test.loss,
            test_accuracy: test.accuracy(),
            seconds,
            learning_rate,
        });
        Ok(&self.history[number - 1])
    }
}

impl Notes {
    /// The program's part of a checkpoint.
    pub(super) fn of(directory: &Path, progress: Progress) -> Result<Self> {
        serde_json::from_value(progress.notes).map_err(|error| Error::Checkpoint {
            path: directory.join(checkpoint::TRAINING_FILE),
            mismatches: vec![format!("notes of another program: {error}")],
        })
    }

    /// What a checkpoint keeps: nothing that differs from one run to an equal one.
    fn without_times(self) -> Result<Value> {
        let mut notes = serde_json::to_value(self)
            .map_err(|error| Error::Internal { pass: "checkpoint", message: error.to_string() })?;
        let epochs = notes["history"].as_array_mut();
        for epoch in epochs.into_iter().flatten().filter_map(Value::as_object_mut) {
            epoch.remove("seconds");
        }
        Ok(notes)
    }

    /// Compares the notes with what the checkpoint says elsewhere.
    fn check(&self, directory: &Path, position: Position, seed: u64) -> Result<()> {
        let mut mismatches = Vec::new();
        if self.settings.seed != seed {
            mismatches.push(format!("seed: expected {}, got {seed}", self.settings.seed));
        }
        let numbers = self.history.iter().map(|epoch| epoch.epoch as u64);
        if !numbers.eq(1..=position.epoch) {
            let got = self.history.len();
            mismatches.push(format!("history: expected {} epochs, got {got}", position.epoch));
        }
        match mismatches.is_empty() {
            true => Ok(()),
            false => {
                let path = directory.join(checkpoint::TRAINING_FILE);
                Err(Error::Checkpoint { path, mismatches })
            }
        }
    }
}

/// Loss and accuracy of a network in eval mode.
pub(super) fn evaluate(net: &mut AnyNet, set: &Arc<dyn Dataset>) -> Result<Scores> {
    let config = LoaderConfig { batch_size: EVAL_BATCH, ..LoaderConfig::default() };
    let mut loader = Loader::new(Arc::clone(set), config)?;
    let criterion = CrossEntropy::default();
    let (mut loss, mut correct) = (0.0, 0);
    for batch in loader.epoch() {
        let (x, labels) = batch?.into_rows()?;
        let (mean, scores) = net.eval().loss_and_output(&criterion, &x, &labels)?;
        let labels = labels.integers()?;
        loss += f64::from(mean.item()?) * labels.len() as f64;
        let guesses = scores.argmax()?;
        correct += guesses.iter().zip(labels).filter(|(a, b)| **a == **b as usize).count();
    }
    Ok(Scores { loss: loss / set.len() as f64, correct, samples: set.len() })
}
