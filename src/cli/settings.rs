// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of a run: arguments with defaults filled in, checked against each other.

use std::num::NonZeroUsize;

use kiln::optim::{Adam, AdamW, Optimizer, Schedule, Sgd};
use kiln::{Error, Result};
use serde::{Deserialize, Serialize};

use super::args::{FitArgs, NetArgs, NetName, OptimizerName, ScheduleName, StepArgs};
use super::data::{Choice, Source};

/// Everything that a run's result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) net: NetSettings,
    pub(super) step: StepSettings,
    pub(super) data: Source,
    pub(super) train_samples: Option<NonZeroUsize>,
    pub(super) label_noise: f64,
    pub(super) epochs: NonZeroUsize,
    pub(super) seed: u64,
    pub(super) schedule: ScheduleName,
    pub(super) micro_batches: NonZeroUsize,
}

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "net", rename_all = "kebab-case")]
pub(super) enum NetSettings {
    Simple { hidden: NonZeroUsize, p: f32 },
    Variable,
}

/// What one training step depends on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StepSettings {
    pub(super) batch: NonZeroUsize,
    pub(super) rule: Rule,
    pub(super) lr: f64,
    pub(super) weight_decay: f64,
    pub(super) clip: Option<f64>,
}

/// An optimiser with the options that only it has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "optimizer", rename_all = "kebab-case")]
pub(super) enum Rule {
    Sgd { momentum: f64 },
    Adam,
    Adamw,
}

const HIDDEN: usize = 512;
const RATE: f32 = 0.5;
const MOMENTUM: f64 = 0.9;
const SGD_RATE: f64 = 0.05;
const ADAM_RATE: f64 = 1e-3;
/// PyTorch's default for AdamW.
const ADAMW_DECAY: f64 = 0.01;
const BATCH: usize = 64;
const EPOCHS: usize = 10;
/// Updates with a rising rate under `--schedule warmup`.
const WARMUP_SHARE: u64 = 10;
const WARMUP_START: f64 = 0.1;

impl Settings {
    /// Settings of a new run.
    pub(super) fn new(args: &FitArgs) -> Result<Self> {
        Ok(Settings {
            net: NetSettings::new(&args.net)?,
            step: StepSettings::new(&args.step)?,
            data: args.data.data.clone().unwrap_or(Source::Digits),
            train_samples: args.data.train_samples,
            label_noise: args.label_noise.unwrap_or(0.0),
            epochs: args.epochs.unwrap_or(at_least_one(EPOCHS)),
            seed: args.seed.unwrap_or(0),
            schedule: args.schedule.unwrap_or(ScheduleName::Constant),
            micro_batches: args.micro_batches.unwrap_or(NonZeroUsize::MIN),
        })
    }

    /// Settings of a run that goes on: its own, up to the number of epochs given. Whatever else is
    /// given must be what it began with.
    pub(super) fn resumed(&self, args: &FitArgs) -> Result<Self> {
        let mut same = Vec::new();
        let (hidden, p) = match self.net {
            NetSettings::Simple { hidden, p } => (Some(hidden), Some(p)),
            NetSettings::Variable => (None, None),
        };
        let (optimizer, momentum) = self.step.rule.parts();
        same.extend(conflict("net", args.net.net, Some(self.net.name())));
        same.extend(conflict("hidden", args.net.hidden, hidden));
        same.extend(conflict("p", args.net.p, p));
        same.extend(conflict("data", args.data.data.clone(), Some(self.data.clone())));
        same.extend(conflict("train-samples", args.data.train_samples, self.train_samples));
        same.extend(conflict("label-noise", args.label_noise, Some(self.label_noise)));
        same.extend(conflict("batch", args.step.batch, Some(self.step.batch)));
        same.extend(conflict("optimizer", args.step.optimizer, Some(optimizer)));
        same.extend(conflict("lr", args.step.lr, Some(self.step.lr)));
        same.extend(conflict("momentum", args.step.momentum, momentum));
        same.extend(conflict("weight-decay", args.step.weight_decay, Some(self.step.weight_decay)));
        same.extend(conflict("clip", args.step.clip, self.step.clip));
        same.extend(conflict("seed", args.seed, Some(self.seed)));
        same.extend(conflict("schedule", args.schedule, Some(self.schedule)));
        same.extend(conflict("micro-batches", args.micro_batches, Some(self.micro_batches)));
        Error::check(same)?;
        Ok(Settings { epochs: args.epochs.unwrap_or(self.epochs), ..self.clone() })
    }

    /// What to make of the data.
    pub(super) fn choice(&self) -> Choice {
        Choice { train_samples: self.train_samples, label_noise: self.label_noise }
    }

    /// The schedule over a number of updates.
    pub(super) fn schedule(&self, updates: u64) -> Schedule {
        let updates = updates.max(1);
        match self.schedule {
            ScheduleName::Constant => Schedule::Constant,
            ScheduleName::Cosine => Schedule::Cosine { period: updates, minimum: 0.0 },
            ScheduleName::Step => Schedule::Step { size: updates.div_ceil(3), gamma: 0.1 },
            ScheduleName::OneCycle => Schedule::one_cycle(self.step.lr, updates),
            ScheduleName::Warmup => {
                let steps = updates.div_ceil(WARMUP_SHARE);
                Schedule::Linear { start: WARMUP_START, end: 1.0, steps }
            }
        }
    }
}

impl NetSettings {
    pub(super) fn new(args: &NetArgs) -> Result<Self> {
        match args.net.unwrap_or(NetName::Simple) {
            NetName::Simple => Ok(NetSettings::Simple {
                hidden: args.hidden.unwrap_or(at_least_one(HIDDEN)),
                p: args.p.unwrap_or(RATE),
            }),
            NetName::Variable => {
                only_with("p", "--net simple", args.p)?;
                only_with("hidden", "--net simple", args.hidden)?;
                Ok(NetSettings::Variable)
            }
        }
    }

    pub(super) fn name(&self) -> NetName {
        match self {
            NetSettings::Simple { .. } => NetName::Simple,
            NetSettings::Variable => NetName::Variable,
        }
    }

    /// The dropout rate, if there is but one.
    pub(super) fn rate(&self) -> Option<f32> {
        match self {
            NetSettings::Simple { p, .. } => Some(*p),
            NetSettings::Variable => None,
        }
    }
}

impl StepSettings {
    pub(super) fn new(args: &StepArgs) -> Result<Self> {
        let rule = match args.optimizer.unwrap_or(OptimizerName::Sgd) {
            OptimizerName::Sgd => Rule::Sgd { momentum: args.momentum.unwrap_or(MOMENTUM) },
            OptimizerName::Adam => Rule::Adam,
            OptimizerName::Adamw => Rule::Adamw,
        };
        let (lr, weight_decay) = match rule {
            Rule::Sgd { .. } => (SGD_RATE, 0.0),
            Rule::Adam => (ADAM_RATE, 0.0),
            Rule::Adamw => (ADAM_RATE, ADAMW_DECAY),
        };
        if !matches!(rule, Rule::Sgd { .. }) {
            only_with("momentum", "--optimizer sgd", args.momentum)?;
        }
        Ok(StepSettings {
            batch: args.batch.unwrap_or(at_least_one(BATCH)),
            rule,
            lr: args.lr.unwrap_or(lr),
            weight_decay: args.weight_decay.unwrap_or(weight_decay),
            clip: args.clip,
        })
    }

    /// The optimiser.
    pub(super) fn optimizer(&self) -> Optimizer {
        let StepSettings { lr, weight_decay, .. } = *self;
        match self.rule {
            Rule::Sgd { momentum } => {
                Sgd { weight_decay, ..Sgd::new(lr).momentum(momentum) }.into()
            }
            Rule::Adam => Adam { weight_decay, ..Adam::new(lr) }.into(),
            Rule::Adamw => AdamW { weight_decay, ..AdamW::new(lr) }.into(),
        }
    }
}

impl Rule {
    fn parts(self) -> (OptimizerName, Option<f64>) {
        match self {
            Rule::Sgd { momentum } => (OptimizerName::Sgd, Some(momentum)),
            Rule::Adam => (OptimizerName::Adam, None),
            Rule::Adamw => (OptimizerName::Adamw, None),
        }
    }
}

/// A number of 1 or more.
pub(super) fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

fn only_with<T: Serialize>(option: &str, other: &str, given: Option<T>) -> Result<()> {
    match given {
        Some(given) => Err(Error::argument(option, format!("{other} with it"), show(&given))),
        None => Ok(()),
    }
}

/// An error if an option is given and is not what the run began with.
fn conflict<T: Serialize + PartialEq>(
    option: &str,
    given: Option<T>,
    began: Option<T>,
) -> Option<Error> {
    if given.is_none() || given == began {
        return None;
    }
    let expected = format!("{}, with which the run began", show(&began));
    Some(Error::argument(option, expected, show(&given)))
}

fn show<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    match text.as_str() {
        "null" => "none".into(),
        text => text.trim_matches('"').into(),
    }
}
