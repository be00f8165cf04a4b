// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is measured after each epoch, and the file it goes to.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use kiln::checkpoint::write_atomically;
use kiln::{Error, Result, TrainingState};
use serde::{Deserialize, Serialize};

use super::dropout;

/// Loss and accuracy on a data set, in eval mode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scores {
    pub(super) loss: f64,
    /// Correct answers; `None` if some answers were NaN.
    pub(super) correct: Option<usize>,
    /// Samples asked about.
    pub(super) samples: usize,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Epoch {
    /// Counted from 1.
    pub(super) epoch: usize,
    /// Dropout rate, if the network has but one.
    pub(super) p: Option<f32>,
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) train_loss: f64,
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) train_accuracy: f64,
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) test_loss: f64,
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) test_accuracy: f64,
    /// Time that training took, without evaluation. A checkpoint leaves it out, as it is all that
    /// equal runs differ in.
    #[serde(default)]
    pub(super) seconds: f64,
    /// Learning rate of the epoch's last update.
    pub(super) learning_rate: f64,
    /// Dropout rates of that update, by layer, where they change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) dropout: BTreeMap<String, f32>,
    /// What the epoch left of the loss scale, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) loss_scale: Option<Scaling>,
}

/// Where a loss scale stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scaling {
    /// What the loss of the next step is multiplied by.
    scale: f32,
    /// Updates in a row that were made with it.
    good_steps: u32,
    /// Updates of all epochs that were skipped.
    skipped: u32,
}

impl Scores {
    /// Share of correct answers; NaN if some answers were.
    pub(super) fn accuracy(&self) -> f64 {
        self.correct.map_or(f64::NAN, |correct| correct as f64 / self.samples.max(1) as f64)
    }
}

impl Scaling {
    /// Of a training, as its device has it; `None` where the loss is as it is.
    pub(super) fn of(state: TrainingState) -> Option<Self> {
        let TrainingState { loss_scale: scale, growth: good_steps, skipped, .. } = state;
        (scale != 0.0).then_some(Scaling { scale, good_steps, skipped })
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        let Scaling { scale, skipped, .. } = self;
        match skipped {
            0 => format!("  loss scale {scale}"),
            _ => format!("  loss scale {scale}, {skipped} skipped"),
        }
    }
}

impl Epoch {
    /// A line for people.
    pub(super) fn line(&self, epochs: usize) -> String {
        format!(
            "epoch {:>width$}/{epochs}  train {:>8}, loss {:.4}  test {:>8}, loss {:.4}{}{}  {:.2} s",
            self.epoch,
            percent(self.train_accuracy),
            self.train_loss,
            percent(self.test_accuracy),
            self.test_loss,
            dropout::shown(&self.dropout),
            self.loss_scale.as_ref().map(Scaling::shown).unwrap_or_default(),
            self.seconds,
            width = epochs.to_string().len(),
        )
    }
}

/// A share, for people.
pub(super) fn percent(share: f64) -> String {
    match share.is_nan() {
        true => "unknown".into(),
        false => format!("{:.2} %", 100.0 * share),
    }
}

/// Appends a line to a file of metrics.
pub(super) fn append(path: &Path, epoch: &Epoch) -> Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(line(epoch)?.as_bytes()));
    written.map_err(Error::io("write", path))
}

/// Writes a file of metrics anew, without the lines of epochs that a crash cut off.
pub(super) fn rewrite(path: &Path, history: &[Epoch]) -> Result<()> {
    let lines: std::io::Result<String> = history.iter().map(line).collect();
    write_atomically(path, lines.map_err(Error::io("write", path))?.as_bytes())
}

/// Takes the times of epochs from a file of metrics, as far as it has them.
pub(super) fn restore_times(path: &Path, history: &mut [Epoch]) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let written = text.lines().filter_map(|line| serde_json::from_str::<Epoch>(line).ok());
    for line in written {
        if let Some(epoch) = history.iter_mut().find(|epoch| epoch.epoch == line.epoch) {
            epoch.seconds = line.seconds;
        }
    }
}

fn line(epoch: &Epoch) -> std::io::Result<String> {
    Ok(serde_json::to_string(epoch)? + "\n")
}

/// JSON has no NaN and no infinity; what is not finite is written as null.
pub(super) fn number_or_nan<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
