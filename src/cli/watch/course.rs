// SPDX-License-Identifier: MIT OR Apache-2.0
//! What epochs come to, one after another. It follows from the history alone, so a run that goes on
//! finds it there.

use kiln::optim::ReduceOnPlateau;
use kiln::watch::{Best, EarlyStopping, Standing};
use kiln::Result;

use super::{Falling, MetricName, Monitoring};
use crate::cli::args::ScheduleName;
use crate::cli::metrics::Epoch;
use crate::cli::network::AnyTrainer;
use crate::cli::settings::Settings;

/// What is watched of a run, as of its last epoch.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Course {
    monitored: Option<Monitored>,
    falling: Option<(MetricName, ReduceOnPlateau)>,
}

/// A figure that tells the best epoch and may end the run.
#[derive(Clone, Copy, Debug)]
struct Monitored {
    metric: MetricName,
    best: Best,
    stopping: Option<EarlyStopping>,
    /// How the last epoch compares.
    standing: Standing,
}

impl Course {
    /// Before the first epoch.
    pub(in crate::cli) fn new(settings: &Settings) -> Result<Self> {
        let monitored = settings.monitoring.map(Monitored::new).transpose()?;
        let falling = match settings.schedule {
            ScheduleName::Plateau => {
                let Falling { metric, plateau } = settings.falling.unwrap_or_default();
                Some((metric, ReduceOnPlateau::new(plateau)?))
            }
            _ => None,
        };
        Ok(Course { monitored, falling })
    }

    /// Goes through epochs that are trained. The learning rate that they led to is the trainer's.
    pub(in crate::cli) fn replay(&mut self, history: &[Epoch]) {
        for epoch in history {
            self.compare(epoch);
            if let Some((metric, falling)) = &mut self.falling {
                falling.observe(metric.of(epoch), epoch.learning_rate);
            }
        }
    }

    /// Takes an epoch into account, and sets the learning rate if it falls.
    pub(in crate::cli) fn observe(
        &mut self,
        epoch: &Epoch,
        trainer: &mut AnyTrainer,
    ) -> Result<()> {
        self.compare(epoch);
        if let Some((metric, falling)) = &mut self.falling {
            if let Some(rate) = trainer.reduce_on_plateau(falling, metric.of(epoch))? {
                tracing::info!(epoch = epoch.epoch, rate, "the learning rate falls");
            }
        }
        Ok(())
    }

    /// Whether the last epoch is the best so far, and to be kept.
    pub(in crate::cli) fn is_best(&self) -> bool {
        self.monitored.is_some_and(|monitored| monitored.standing == Standing::Best)
    }

    /// Whether the run has ended before its last epoch.
    pub(in crate::cli) fn is_over(&self) -> bool {
        self.stopping().is_some_and(|stopping| stopping.is_over())
    }

    /// The best epoch, with its figure in words.
    pub(in crate::cli) fn best(&self) -> Option<(u64, String)> {
        let Monitored { metric, best, .. } = self.monitored?;
        Some((best.epoch()?, metric.with(best.value()?)))
    }

    /// Why the run has ended early, for people.
    pub(in crate::cli) fn reason(&self) -> Option<String> {
        let stopping = self.stopping().filter(EarlyStopping::is_over)?;
        let epochs = match stopping.waited() {
            1 => "1 epoch".into(),
            number => format!("{number} epochs"),
        };
        Some(format!("ended early: no better for {epochs}"))
    }

    /// Whether the learning rate depends on what epochs came to.
    pub(in crate::cli) fn moves_rate(&self) -> bool {
        self.falling.is_some()
    }

    fn stopping(&self) -> Option<EarlyStopping> {
        self.monitored?.stopping
    }

    fn compare(&mut self, epoch: &Epoch) {
        let Some(monitored) = &mut self.monitored else { return };
        let value = monitored.metric.of(epoch);
        monitored.standing = monitored.best.observe(epoch.epoch as u64, value);
        if let Some(stopping) = &mut monitored.stopping {
            let _ = stopping.observe(value);
        }
    }
}

impl Monitored {
    fn new(Monitoring { metric, patience, min_delta }: Monitoring) -> Result<Self> {
        let better = metric.better();
        let stopping =
            |patience: usize| EarlyStopping::new(better, patience as u64).with_min_delta(min_delta);
        Ok(Monitored {
            metric,
            best: Best::new(better),
            stopping: patience.map(|patience| stopping(patience.get())).transpose()?,
            standing: Standing::Behind,
        })
    }
}
