// SPDX-License-Identifier: MIT OR Apache-2.0
//! A training: network, data and history, step by step, resumable after each.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln::checkpoint::{self, content_hash, Progress, Recipe, Resume};
use kiln::data::{Loader, LoaderConfig, OnDevice, Position, Residence, Shuffle};
use kiln::lint::Report;
use kiln::op::TensorType;
use kiln::{Device, Error, Event, NonFinite, NonFiniteValue, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data::{Sets, TextClasses};
use super::dropout::last_rates;
use super::evaluation::{evaluate, first_non_finite};
use super::interrupt::{Interrupt, Signal};
use super::lint;
use super::metrics::{self, Epoch, Scaling};
use super::network::{self, AnyNet, AnyTrainer, Feed};
use super::output::Output;
use super::settings::{Settings, Stretch};
use super::train::METRICS_FILE;
use super::watch::{Ahead, Board, Course, Pace, Probe, Watcher};

/// A training.
pub(super) struct Session {
    settings: Settings,
    device: Device,
    /// The device, in words.
    described: String,
    conditions: Conditions,
    trainer: AnyTrainer,
    loader: Loader,
    sets: Sets,
    /// What the results depend on beyond the trainer.
    recipe: Recipe,
    /// What lint says of the network.
    report: Report,
    history: Vec<Epoch>,
    /// What the history comes to.
    course: Course,
    /// What looks at it beyond that.
    watcher: Option<Watcher>,
    /// How long epochs took in this process, and measuring the last time.
    working: Duration,
    measuring: Duration,
    /// Updates that this process found made.
    began: u64,
    /// Updates that the last checkpoint of this process holds.
    saved: Option<u64>,
}

/// What may end a training before its last epoch, and where its samples lie: nothing that results depend on.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) on_device: OnDevice,
    pub(super) non_finite: NonFinite,
    pub(super) interrupt: Interrupt,
}

/// What an epoch came to.
pub(super) enum Advance<'a> {
    /// It is trained and measured.
    Epoch(&'a Epoch),
    /// A signal came; the step under way is finished.
    Stopped(Signal),
}

/// What a checkpoint keeps for the program.
#[derive(Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) settings: Settings,
    pub(super) history: Vec<Epoch>,
    /// What a network of texts knows of its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) texts: Option<TextClasses>,
}

impl Session {
    /// A training at its beginning. Its step is compiled at once, so that settings that do not fit
    /// the data are found before anything is written.
    pub(super) fn new(settings: Settings, device: Device, conditions: Conditions) -> Result<Self> {
        settings.net.feed().check(settings.net.name(), &settings.data)?;
        let sets = settings.data.load(&settings.choice(), None)?;
        Self::on(sets, settings, device, conditions)
    }

    /// The same on data that are already there.
    pub(super) fn on(
        sets: Sets,
        mut settings: Settings,
        device: Device,
        conditions: Conditions,
    ) -> Result<Self> {
        let config = LoaderConfig {
            batch_size: settings.step.batch.get(),
            shuffle: match settings.net.feed() {
                Feed::Texts => Shuffle::LikeLengths(settings.seed),
                Feed::Rows | Feed::Images => Shuffle::Seeded(settings.seed),
            },
            seed: settings.data_seed(),
            sample_shape: settings.net.feed().sample_shape(),
            on_device: conditions.on_device,
            ..LoaderConfig::default()
        };
        let loader = Loader::new(Arc::clone(&sets.train), config)?;
        settings.dropout = settings.dropout.map(|dropout| dropout.with_steps(loader.len()));
        let (seed, dropout) = (settings.seed, settings.dropout);
        let net = network::net_within(
            |net| net,
            settings.net,
            sets.sizes(),
            device.clone(),
            seed,
            dropout,
        )?;
        let trainer = network::trainer(net, &settings.step, settings.micro_batches)?
            .with_non_finite(conditions.non_finite);
        let mut trainer = trainer.with_schedule(settings.schedule(loader.len() as u64))?;
        let samples = settings.step.batch.get().min(sets.train.len());
        let x = settings.net.feed().types(samples, &*sets.train);
        let report = lint::before_training(&mut trainer, &settings, &sets)?;
        trainer.plan(&x, &TensorType::i32([samples].into()))?;
        let recipe = Recipe::new().with_loader(&loader)?;
        let recipe = recipe.with("test data", content_hash(&*sets.test)?);
        let course = Course::new(&settings)?;
        let (history, began, saved) = (Vec::new(), 0, None);
        Ok(Session {
            settings,
            described: device.describe(),
            device,
            conditions,
            trainer,
            loader,
            sets,
            recipe,
            report,
            history,
            course,
            watcher: None,
            working: Duration::ZERO,
            measuring: Duration::ZERO,
            began,
            saved,
        })
    }

    /// Continues from a directory's checkpoint.
    pub(super) fn resume(&mut self, directory: &Path, stretch: Stretch) -> Result<()> {
        let began = Notes::of(directory, checkpoint::progress(directory)?)?;
        if let (Some(now), Some(began)) = (&self.sets.texts, &began.texts) {
            now.check(began, &directory.join(checkpoint::TRAINING_FILE))?;
        }
        let mut resume = Resume::new(directory)
            .recipe(self.recipe.clone())
            .updates_per_epoch(self.loader.len() as u64);
        if stretch == Stretch::Yes {
            resume = resume.allow("schedule");
        }
        let progress = resume.load(&mut self.trainer)?;
        let position = progress.position;
        let mut notes = Notes::of(directory, progress)?;
        notes.check(directory, position, self.trainer.net().seed().0)?;
        self.loader.seek(position)?;
        metrics::restore_times(&directory.join(METRICS_FILE), &mut notes.history);
        self.history = notes.history;
        self.course.replay(&self.history);
        self.began = self.trainer.updates();
        Ok(())
    }

    /// Epochs that are still to be trained.
    pub(super) fn remaining(&self) -> usize {
        match self.course.is_over() {
            true => 0,
            false => self.settings.epochs.get().saturating_sub(self.history.len()),
        }
    }

    /// Has the training looked at from now on.
    pub(super) fn watch(&mut self, board: Option<Board>) {
        self.watcher = Some(Watcher::new(board, self.sets.sizes().classes));
    }

    /// What was warned about, in words.
    pub(super) fn warnings(&self) -> Vec<String> {
        let warnings = self.watcher.iter().flat_map(Watcher::warnings);
        warnings.map(ToString::to_string).collect()
    }

    /// Share of the time of epochs for which the training was looked at.
    pub(super) fn watching(&self) -> f64 {
        let spent = self.watcher.as_ref().map_or(Duration::ZERO, Watcher::spent);
        spent.as_secs_f64() / self.working.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// What the history comes to.
    pub(super) fn course(&self) -> &Course {
        &self.course
    }

    /// What was measured so far.
    pub(super) fn history(&self) -> &[Epoch] {
        &self.history
    }

    /// Where the samples lie that it trains on, if that is a question: on a GPU.
    pub(super) fn residence(&mut self) -> Result<Option<&Residence>> {
        match self.device.is_gpu() {
            true => self.loader.serve(&self.device).map(Some),
            false => Ok(None),
        }
    }

    /// The device, in words.
    pub(super) fn device(&self) -> &str {
        &self.described
    }

    /// What lint says of the network.
    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn sets(&self) -> &Sets {
        &self.sets
    }

    /// The network, to measure it.
    pub(super) fn net(&mut self) -> &mut AnyNet {
        self.trainer.net()
    }

    /// Updates made so far.
    pub(super) fn updates(&self) -> u64 {
        self.trainer.updates()
    }

    /// Updates that the last checkpoint holds, if this process has written one.
    pub(super) fn saved(&self) -> Option<u64> {
        self.saved
    }

    /// Whether a checkpoint holds more than this process began with.
    pub(super) fn has_kept_work(&self) -> bool {
        self.saved > Some(self.began)
    }

    /// Writes a checkpoint, unless the network is no longer finite and the training is to stop then.
    pub(super) fn save(&mut self, directory: &Path) -> Result<()> {
        self.write(directory)?;
        self.saved = Some(self.trainer.updates());
        tracing::debug!(directory = %directory.display(), updates = self.saved, "saved");
        Ok(())
    }

    /// Writes a checkpoint beside that of the run.
    pub(super) fn write(&mut self, directory: &Path) -> Result<()> {
        let notes = Notes {
            settings: self.settings.clone(),
            history: self.history.clone(),
            texts: self.sets.texts.clone(),
        };
        let notes = notes.without_times()?;
        let (position, recipe) = (self.loader.position(), self.recipe.clone());
        let progress = Progress { position, notes, recipe };
        checkpoint::save(&mut self.trainer, &progress, directory)
    }

    /// Trains for one epoch, or what is left of it, and measures.
    pub(super) fn epoch(&mut self, output: &mut Output) -> Result<Advance<'_>> {
        let begun = Instant::now();
        if let Some(signal) = self.train(output)? {
            return Ok(Advance::Stopped(signal));
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.trainer.check_finite()?;
        let measuring = Instant::now();
        let measured = self.measure(seconds, output)?;
        self.measuring = measuring.elapsed();
        match measured {
            Some(epoch) => {
                if let Some(watcher) = &mut self.watcher {
                    let (feed, batch) = (self.settings.net.feed(), self.settings.step.batch.get());
                    let probe = Probe { set: &self.sets.measured, feed, batch };
                    let worked = self.working + begun.elapsed();
                    watcher.epoch(&epoch, worked, &mut self.trainer, &probe, output)?;
                }
                self.course.observe(&epoch, &mut self.trainer)?;
                self.history.push(epoch);
                self.working += begun.elapsed();
            }
            None => {
                let signal = self.conditions.interrupt.caught().unwrap_or(Signal::Interrupt);
                return Ok(Advance::Stopped(signal));
            }
        }
        Ok(Advance::Epoch(&self.history[self.history.len() - 1]))
    }

    /// The steps that are left of an epoch: none if a signal came when only measuring was left.
    fn train(&mut self, output: &mut Output) -> Result<Option<Signal>> {
        let interrupt = &self.conditions.interrupt;
        let number = self.history.len() + 1;
        let Position { epoch, batch } = self.loader.position();
        if epoch >= number as u64 {
            return Ok(interrupt.caught());
        }
        let title = format!("epoch {number}/{}", self.settings.epochs);
        output.start(title.clone(), self.loader.len(), batch);
        match &mut self.watcher {
            Some(watcher) if batch == 0 => watcher.begin(number, &mut self.trainer)?,
            Some(watcher) => watcher.begin_late(),
            None => {}
        }
        let epochs = (self.settings.epochs.get() + 1).saturating_sub(number);
        let steps = (self.loader.len() as u64).saturating_mul(epochs as u64).saturating_sub(batch);
        let ahead = Ahead { steps, epochs: epochs as u32, measuring: self.measuring };
        let mut pace = Pace::new(title, self.settings.step.batch.get(), self.history.last(), ahead);
        let watcher = &mut self.watcher;
        if let Some(signal) = interrupt.caught() {
            return Ok(Some(signal));
        }
        let ended = self.trainer.fit(&mut self.loader, number as u64, |_, event| {
            if let Event::Step { update, loss, .. } = event {
                tracing::trace!(update, loss = loss.value()?, "step");
                pace.step(loss, output)?;
                if let Some(watcher) = watcher.as_mut() {
                    watcher.step(update, loss, output)?;
                }
                if let Some(signal) = interrupt.caught() {
                    return Ok(ControlFlow::Break(signal));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(ended.break_value())
    }

    /// Measures after an epoch; `None` if a signal came first.
    fn measure(&mut self, seconds: f64, output: &mut Output) -> Result<Option<Epoch>> {
        let number = self.history.len() + 1;
        let interrupt = &self.conditions.interrupt;
        let (net, feed) = (self.trainer.net(), self.settings.net.feed());
        let mut scores = |set| evaluate(net, feed, set, interrupt);
        let Some(train) = scores(&self.sets.measured)? else { return Ok(None) };
        let Some(test) = scores(&self.sets.test)? else { return Ok(None) };
        output.finish();
        tracing::info!(epoch = number, train = train.loss, test = test.loss, seconds, "epoch");
        let measured =
            [("training", train.loss, &self.sets.measured), ("test", test.loss, &self.sets.test)];
        if let Some((name, loss, set)) = measured.into_iter().find(|(_, loss, _)| !loss.is_finite())
        {
            if self.conditions.non_finite == NonFinite::Stop {
                return Err(Error::NonFinite {
                    update: self.trainer.updates(),
                    what: format!("the loss on the {name} set"),
                    value: loss as f32,
                    first: first_non_finite(self.trainer.net(), feed, set)?.map(Box::new),
                });
            }
            tracing::warn!(epoch = number, loss, "training has diverged");
        }
        let schedule = self.settings.schedule(self.loader.len() as u64);
        let state = self.trainer.training_state()?;
        let made = self.trainer.updates().saturating_sub(state.skipped.into());
        let last_update = made.saturating_sub(1);
        Ok(Some(Epoch {
            epoch: number,
            p: self.settings.net.rate(),
            train_loss: train.loss,
            train_accuracy: train.accuracy(),
            test_loss: test.loss,
            test_accuracy: test.accuracy(),
            seconds,
            learning_rate: schedule.rate(self.trainer.base_rate(), last_update),
            dropout: last_rates(self.trainer.net())?,
            loss_scale: Scaling::of(state),
        }))
    }

    /// Looks for the value that was the first not to be finite, by going through the steps again:
    /// from the checkpoint in the directory, or from the beginning.
    pub(super) fn find_first(
        self,
        update: u64,
        directory: Option<&Path>,
    ) -> Result<Option<NonFiniteValue>> {
        let Session { settings, device, mut conditions, sets, trainer, history, course, .. } = self;
        conditions.non_finite = NonFinite::Continue;
        let feed = settings.net.feed();
        let interrupt = conditions.interrupt.clone();
        // A second trainer may not fit into memory beside it.
        let rate = trainer.base_rate();
        drop(trainer);
        let mut again = Session::on(sets, settings, device, conditions)?;
        if let Some(directory) = directory {
            again.resume(directory, Stretch::No)?;
        }
        while interrupt.caught().is_none() && again.trainer.updates() < update {
            if course.moves_rate() {
                let epoch = history.get(again.loader.position().epoch as usize);
                again.trainer.set_rate(epoch.map_or(rate, |epoch| epoch.learning_rate))?;
            }
            let (x, labels) = feed.tensors(again.loader.next_batch()?)?;
            if again.trainer.updates() + 1 == update {
                return again.trainer.first_non_finite(&x, &labels);
            }
            again.trainer.step(&x, &labels)?;
        }
        Ok(None)
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
        let numbers = || self.history.iter().map(|epoch| epoch.epoch as u64);
        // A signal may have come after the last step of an epoch, before it was measured.
        let unmeasured = position.batch == 0 && numbers().eq(1..position.epoch);
        if !numbers().eq(1..=position.epoch) && !unmeasured {
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
