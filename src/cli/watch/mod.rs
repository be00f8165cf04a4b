// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is watched while a network is trained: the figure that tells the best epoch, ends the training
//! and lets the learning rate fall.

mod args;
mod board;
mod course;
mod pace;
mod watcher;

use std::num::NonZeroUsize;

use clap::ValueEnum;
use kiln::optim::{Better, Plateau, Threshold};
use kiln::{Error, Result};
use serde::{Deserialize, Serialize};

pub(super) use args::WatchArgs;
pub(super) use board::Board;
pub(super) use course::Course;
pub(super) use pace::{Ahead, Pace};
pub(super) use watcher::{Probe, Watcher};

use super::args::ScheduleName;
use super::metrics::{percent, Epoch};
use super::settings::{conflict, only_with, Settings};

/// Name of the folder with the best checkpoint, in that of a run.
pub(super) const BEST_FOLDER: &str = "best";

/// A figure that is measured after each epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MetricName {
    TrainLoss,
    TrainAccuracy,
    #[default]
    TestLoss,
    TestAccuracy,
}

/// What of a run is noted about the figure that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Monitoring {
    pub(super) metric: MetricName,
    /// Epochs without a better figure that end the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) patience: Option<NonZeroUsize>,
    #[serde(default)]
    pub(super) min_delta: f64,
}

/// How `--schedule plateau` falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Falling {
    metric: MetricName,
    plateau: Plateau,
}

impl MetricName {
    /// In which direction it gets better.
    pub(super) fn better(self) -> Better {
        match self {
            MetricName::TrainLoss | MetricName::TestLoss => Better::Lower,
            MetricName::TrainAccuracy | MetricName::TestAccuracy => Better::Higher,
        }
    }

    /// The figure of an epoch.
    pub(super) fn of(self, epoch: &Epoch) -> f64 {
        match self {
            MetricName::TrainLoss => epoch.train_loss,
            MetricName::TrainAccuracy => epoch.train_accuracy,
            MetricName::TestLoss => epoch.test_loss,
            MetricName::TestAccuracy => epoch.test_accuracy,
        }
    }

    /// The name and a value, for people.
    pub(super) fn with(self, value: f64) -> String {
        match self {
            MetricName::TrainLoss => format!("train loss {value:.4}"),
            MetricName::TrainAccuracy => format!("train accuracy {}", percent(value)),
            MetricName::TestLoss => format!("test loss {value:.4}"),
            MetricName::TestAccuracy => format!("test accuracy {}", percent(value)),
        }
    }
}

impl WatchArgs {
    /// Adds what is watched to the settings of a new run.
    pub(super) fn complete(&self, settings: Settings) -> Result<Settings> {
        let monitoring = (self.monitor.is_some() || self.patience.is_some()).then(|| Monitoring {
            metric: self.monitor.unwrap_or_default(),
            patience: self.patience,
            min_delta: self.min_delta.unwrap_or(0.0),
        });
        let falling = match settings.schedule {
            ScheduleName::Plateau => Some(self.falling()),
            _ => {
                let with = "--schedule plateau";
                only_with("plateau-factor", with, self.plateau_factor)?;
                only_with("plateau-patience", with, self.plateau_patience)?;
                only_with("plateau-threshold", with, self.plateau_threshold)?;
                only_with("plateau-threshold-mode", with, self.plateau_threshold_mode)?;
                only_with("plateau-cooldown", with, self.plateau_cooldown)?;
                only_with("min-lr", with, self.min_lr)?;
                None
            }
        };
        Ok(Settings { monitoring, falling, ..settings })
    }

    /// The settings of a run that goes on, with the patience given now: it says how far the run goes, as
    /// the number of epochs does. The second part says what else is not as the run began.
    pub(super) fn resumed(&self, settings: Settings) -> (Settings, Vec<Error>) {
        let (monitoring, falling) = (settings.monitoring, settings.falling);
        let metric = monitoring.map(|known| known.metric).or(falling.map(|known| known.metric));
        let plateau = falling.map(|known| known.plateau);
        let (threshold, mode) = plateau.map(|known| ThresholdMode::of(known.threshold)).unzip();
        let mut errors = Vec::new();
        errors.extend(conflict("monitor", self.monitor, metric));
        if monitoring.is_none() {
            errors.extend(conflict("patience", self.patience, None));
        }
        let min_delta = monitoring.map(|known| known.min_delta);
        errors.extend(conflict("min-delta", self.min_delta, min_delta));
        let of_plateau = |part: fn(&Plateau) -> f64| plateau.as_ref().map(part);
        let factor = of_plateau(|known| known.factor);
        errors.extend(conflict("plateau-factor", self.plateau_factor, factor));
        let patience = plateau.map(|known| known.patience);
        errors.extend(conflict("plateau-patience", self.plateau_patience, patience));
        errors.extend(conflict("plateau-threshold", self.plateau_threshold, threshold));
        errors.extend(conflict("plateau-threshold-mode", self.plateau_threshold_mode, mode));
        let cooldown = plateau.map(|known| known.cooldown);
        errors.extend(conflict("plateau-cooldown", self.plateau_cooldown, cooldown));
        errors.extend(conflict("min-lr", self.min_lr, of_plateau(|known| known.min_rate)));
        let monitoring = monitoring
            .map(|known| Monitoring { patience: self.patience.or(known.patience), ..known });
        (Settings { monitoring, ..settings }, errors)
    }

    fn falling(&self) -> Falling {
        let (usual, metric) = (Plateau::default(), self.monitor.unwrap_or_default());
        let (threshold, mode) = ThresholdMode::of(usual.threshold);
        let mode = self.plateau_threshold_mode.unwrap_or(mode);
        let plateau = Plateau {
            better: metric.better(),
            factor: self.plateau_factor.unwrap_or(usual.factor),
            patience: self.plateau_patience.unwrap_or(usual.patience),
            threshold: mode.threshold(self.plateau_threshold.unwrap_or(threshold)),
            cooldown: self.plateau_cooldown.unwrap_or(usual.cooldown),
            min_rate: self.min_lr.unwrap_or(usual.min_rate),
            eps: usual.eps,
        };
        Falling { metric, plateau }
    }
}

/// What a figure is compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ThresholdMode {
    /// By a share of the best
    Rel,
    /// By a difference
    Abs,
}

impl ThresholdMode {
    fn of(threshold: Threshold) -> (f64, Self) {
        match threshold {
            Threshold::Relative(share) => (share, ThresholdMode::Rel),
            Threshold::Absolute(least) => (least, ThresholdMode::Abs),
        }
    }

    fn threshold(self, value: f64) -> Threshold {
        match self {
            ThresholdMode::Rel => Threshold::Relative(value),
            ThresholdMode::Abs => Threshold::Absolute(value),
        }
    }
}
