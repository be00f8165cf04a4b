// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of a run: arguments with defaults filled in, checked against each other.

use std::num::NonZeroUsize;

use kiln::models::{Cnn, ResidualBlock, ResnetSmall, SpatialDropoutCnn, VariableDropoutNet};
use kiln::optim::{Adam, AdamW, Optimizer, Schedule, Sgd};
use kiln::{Error, Result};
use serde::{Deserialize, Serialize};

use super::args::{
    AugmentName, BadImagesName, CellName, DataArgs, DirectionsName, FitArgs, NetArgs, NetName,
    OptimizerName, PrecisionName, ScheduleName, StepArgs, UnitName,
};
use super::data::{Choice, Source};
use super::dropout::DropoutSettings;
use super::network::Feed;
use super::rates::{self, Rates};
use super::watch::{Falling, Monitoring};

/// Everything that a run's result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) net: NetSettings,
    pub(super) step: StepSettings,
    pub(super) data: Source,
    pub(super) train_samples: Option<NonZeroUsize>,
    /// Of texts.
    #[serde(default, skip_serializing_if = "TokenSettings::are_usual")]
    pub(super) tokens: TokenSettings,
    pub(super) label_noise: f64,
    /// How training images are changed at random.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) augment: Vec<AugmentName>,
    #[serde(default)]
    pub(super) bad_images: BadImagesName,
    pub(super) epochs: NonZeroUsize,
    pub(super) seed: u64,
    pub(super) schedule: ScheduleName,
    /// Epochs that the schedule spans, if they are not those of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schedule_epochs: Option<NonZeroUsize>,
    pub(super) micro_batches: NonZeroUsize,
    /// How dropout rates change, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dropout: Option<DropoutSettings>,
    /// Earlier versions did not note it.
    #[serde(default)]
    pub(super) precision: Option<PrecisionName>,
    /// The figure that is watched, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) monitoring: Option<Monitoring>,
    /// How the learning rate falls on a plateau.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) falling: Option<Falling>,
}

/// What becomes of the schedule when a run goes on to more epochs than it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// It stays as it is.
    No,
    /// It spans all epochs anew.
    Yes,
}

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "net", rename_all = "kebab-case")]
pub(super) enum NetSettings {
    Simple {
        hidden: NonZeroUsize,
        p: Rates,
    },
    /// At its two own rates, unless others are given.
    Variable {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        p: Option<Rates>,
    },
    /// At its two own rates, unless others are given.
    Cnn {
        p: Option<Rates>,
    },
    SpatialCnn {
        p: Rates,
    },
    Residual {
        p: Rates,
    },
    ResnetSmall {
        p: Rates,
    },
    Rnn(RnnSettings),
}

/// A network of texts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RnnSettings {
    pub(super) cell: CellName,
    pub(super) layers: NonZeroUsize,
    pub(super) directions: DirectionsName,
    pub(super) embedding: NonZeroUsize,
    pub(super) hidden: NonZeroUsize,
    pub(super) p: Rates,
}

/// What tokens of texts are, and how often one must occur to be known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TokenSettings {
    pub(super) unit: UnitName,
    pub(super) min_count: NonZeroUsize,
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
const EMBEDDING: usize = 24;
const UNITS: usize = 96;
const LAYERS: usize = 2;
const MOMENTUM: f64 = 0.9;
const SGD_RATE: f64 = 0.05;
/// Batch norm makes up for little steps, and after few of them large ones still jump.
const SGD_RATE_OF_IMAGES: f64 = 0.02;
const ADAM_RATE: f64 = 1e-3;
const ADAM_RATE_OF_TEXTS: f64 = 3e-3;
/// PyTorch's default for AdamW.
const ADAMW_DECAY: f64 = 0.01;
const BATCH: usize = 64;
const EPOCHS: usize = 10;
/// Updates with a rising rate under `--schedule warmup`.
const WARMUP_SHARE: u64 = 10;
const WARMUP_START: f64 = 0.1;

impl Settings {
    /// Settings of a new run.
    pub(super) fn new(args: &FitArgs, precision: Option<PrecisionName>) -> Result<Self> {
        let net = NetSettings::new(&args.net)?;
        let data = args.data.data.clone().unwrap_or(net.usual_data());
        args.net.check_tokens(&data)?;
        Ok(Settings {
            net,
            step: StepSettings::new(&args.step, net.feed())?,
            tokens: TokenSettings::new(&args.data, &data)?,
            data,
            train_samples: args.data.train_samples,
            label_noise: args.label_noise.unwrap_or(0.0),
            augment: args.augment.clone(),
            bad_images: args.data.bad_images.unwrap_or_default(),
            epochs: args.epochs.unwrap_or(at_least_one(EPOCHS)),
            seed: args.seed.unwrap_or(0),
            schedule: args.schedule.unwrap_or(ScheduleName::Constant),
            schedule_epochs: None,
            micro_batches: args.micro_batches.unwrap_or(NonZeroUsize::MIN),
            dropout: None,
            precision: Some(precision.unwrap_or(PrecisionName::F32)),
            monitoring: None,
            falling: None,
        })
    }

    /// Settings of a run that goes on: its own, up to the number of epochs given. Whatever else is
    /// given must be what it began with; the second part says where it is not.
    pub(super) fn resumed(
        &self,
        args: &FitArgs,
        precision: Option<PrecisionName>,
        stretch: Stretch,
    ) -> (Self, Vec<Error>) {
        let mut errors = Vec::new();
        let rnn = match self.net {
            NetSettings::Rnn(rnn) => Some(rnn),
            _ => None,
        };
        let hidden = match self.net {
            NetSettings::Simple { hidden, .. } => Some(hidden),
            _ => rnn.map(|rnn| rnn.hidden),
        };
        let directions = args.net.bidirectional.then_some(DirectionsName::Both);
        let is_of_texts = self.data.is_of_texts();
        let tokens = Some(self.tokens).filter(|_| is_of_texts);
        let (optimizer, momentum) = self.step.rule.parts();
        let data = args.data.data.as_ref();
        let began_with = self.precision.or(precision);
        errors.extend(conflict("net", args.net.net, Some(self.net.name())));
        errors.extend(conflict("hidden", args.net.hidden, hidden));
        errors.extend(conflict("p", args.net.p, self.net.rate()));
        errors.extend(conflict("cell", args.net.cell, rnn.map(|rnn| rnn.cell)));
        errors.extend(conflict("layers", args.net.layers, rnn.map(|rnn| rnn.layers)));
        errors.extend(conflict("embedding", args.net.embedding, rnn.map(|rnn| rnn.embedding)));
        errors.extend(conflict("bidirectional", directions, rnn.map(|rnn| rnn.directions)));
        // Their files may have moved; what is in them is compared by what they hold.
        errors.extend(conflict("data", data.map(Source::name), Some(self.data.name())));
        errors.extend(conflict("train-samples", args.data.train_samples, self.train_samples));
        errors.extend(conflict("tokens", args.data.tokens, tokens.map(|tokens| tokens.unit)));
        let min_count = tokens.map(|tokens| tokens.min_count);
        errors.extend(conflict("min-count", args.data.min_count, min_count));
        errors.extend(conflict("label-noise", args.label_noise, Some(self.label_noise)));
        let augment = Some(&args.augment).filter(|augment| !augment.is_empty());
        errors.extend(conflict("augment", augment, Some(&self.augment)));
        errors.extend(conflict("bad-images", args.data.bad_images, Some(self.bad_images)));
        errors.extend(conflict("batch", args.step.batch, Some(self.step.batch)));
        errors.extend(conflict("optimizer", args.step.optimizer, Some(optimizer)));
        errors.extend(conflict("lr", args.step.lr, Some(self.step.lr)));
        errors.extend(conflict("momentum", args.step.momentum, momentum));
        let decay = self.step.weight_decay;
        errors.extend(conflict("weight-decay", args.step.weight_decay, Some(decay)));
        errors.extend(conflict("clip", args.step.clip, self.step.clip));
        errors.extend(conflict("seed", args.seed, Some(self.seed)));
        errors.extend(conflict("schedule", args.schedule, Some(self.schedule)));
        errors.extend(conflict("micro-batches", args.micro_batches, Some(self.micro_batches)));
        errors.extend(conflict("precision", precision, began_with));
        let epochs = args.epochs.unwrap_or(self.epochs);
        let mut settings = Settings {
            epochs,
            data: data.unwrap_or(&self.data).clone(),
            precision: began_with,
            ..self.clone()
        };
        let span = self.spanned(epochs, stretch).unwrap_or_else(|error| {
            errors.push(error);
            self.span()
        });
        settings.schedule_epochs = Some(span).filter(|span| *span != epochs);
        (settings, errors)
    }

    /// The epochs that the schedule spans when the run goes on to a number of epochs.
    fn spanned(&self, epochs: NonZeroUsize, stretch: Stretch) -> Result<NonZeroUsize> {
        let span = self.span();
        let ends = match self.schedule {
            ScheduleName::Constant | ScheduleName::Plateau => return Ok(epochs),
            // These have a rate for every epoch to come.
            ScheduleName::Step | ScheduleName::Warmup => false,
            ScheduleName::Cosine | ScheduleName::OneCycle => true,
        };
        match stretch {
            Stretch::Yes => Ok(epochs),
            Stretch::No if ends && epochs > span => {
                let name = show(&self.schedule);
                let expected = format!(
                    "at most {span}, since the {name} schedule that the run began with ends there, \
                     or --stretch-schedule to let it span all epochs anew"
                );
                Err(Error::argument("epochs", expected, epochs))
            }
            Stretch::No => Ok(span),
        }
    }

    /// The epochs that the schedule spans.
    fn span(&self) -> NonZeroUsize {
        self.schedule_epochs.unwrap_or(self.epochs)
    }

    /// What to make of the data.
    pub(super) fn choice(&self) -> Choice {
        let Settings { train_samples, label_noise, tokens, .. } = *self;
        let (bad_images, augment) = (self.bad_images.what(), self.augment.clone());
        Choice { train_samples, label_noise, tokens, bad_images, augment }
    }

    /// What random changes of images depend on besides epoch and sample.
    pub(super) fn data_seed(&self) -> u64 {
        // Without any, a run is the one that it was before there were any.
        match self.augment.is_empty() {
            true => 0,
            false => self.seed,
        }
    }

    /// The schedule, for a number of updates in an epoch.
    pub(super) fn schedule(&self, updates_per_epoch: u64) -> Schedule {
        let updates = updates_per_epoch.saturating_mul(self.span().get() as u64).max(1);
        match self.schedule {
            // A plateau is seen after an epoch, and moves the rate that the schedule begins with.
            ScheduleName::Constant | ScheduleName::Plateau => Schedule::Constant,
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
        let name = args.net.unwrap_or(NetName::Simple);
        if name != NetName::Rnn {
            only_with("cell", RNN, args.cell)?;
            only_with("layers", RNN, args.layers)?;
            only_with("embedding", RNN, args.embedding)?;
            only_with("bidirectional", RNN, args.bidirectional.then_some(true))?;
        }
        let rate = |usual| Rates::All(args.p.unwrap_or(usual));
        let net = match name {
            NetName::Simple => {
                let hidden = args.hidden.unwrap_or(at_least_one(HIDDEN));
                return Ok(NetSettings::Simple { hidden, p: rate(RATE) });
            }
            NetName::Variable => {
                only_with("p", "--net simple", args.p)?;
                NetSettings::Variable { p: None }
            }
            NetName::Cnn => NetSettings::Cnn { p: args.p.map(Rates::All) },
            NetName::SpatialCnn => NetSettings::SpatialCnn { p: rate(SpatialDropoutCnn::RATE) },
            NetName::Residual => NetSettings::Residual { p: rate(ResidualBlock::RATE) },
            NetName::ResnetSmall => NetSettings::ResnetSmall { p: rate(ResnetSmall::RATE) },
            NetName::Rnn => {
                return Ok(NetSettings::Rnn(RnnSettings {
                    cell: args.cell.unwrap_or(CellName::Lstm),
                    layers: args.layers.unwrap_or(at_least_one(LAYERS)),
                    directions: match args.bidirectional {
                        true => DirectionsName::Both,
                        false => DirectionsName::Forward,
                    },
                    embedding: args.embedding.unwrap_or(at_least_one(EMBEDDING)),
                    hidden: args.hidden.unwrap_or(at_least_one(UNITS)),
                    p: rate(RATE),
                }));
            }
        };
        only_with("hidden", "--net simple or rnn", args.hidden)?;
        Ok(net)
    }

    pub(super) fn name(&self) -> NetName {
        match self {
            NetSettings::Simple { .. } => NetName::Simple,
            NetSettings::Variable { .. } => NetName::Variable,
            NetSettings::Cnn { .. } => NetName::Cnn,
            NetSettings::SpatialCnn { .. } => NetName::SpatialCnn,
            NetSettings::Residual { .. } => NetName::Residual,
            NetSettings::ResnetSmall { .. } => NetName::ResnetSmall,
            NetSettings::Rnn(_) => NetName::Rnn,
        }
    }

    /// The dropout rate, if there is but one.
    pub(super) fn rate(&self) -> Option<f32> {
        self.given_rates().and_then(Rates::one)
    }

    /// The same network at other dropout rates.
    pub(super) fn with_rates(self, p: Rates) -> Self {
        match self {
            NetSettings::Simple { hidden, .. } => NetSettings::Simple { hidden, p },
            NetSettings::Variable { .. } => NetSettings::Variable { p: Some(p) },
            NetSettings::Cnn { .. } => NetSettings::Cnn { p: Some(p) },
            NetSettings::SpatialCnn { .. } => NetSettings::SpatialCnn { p },
            NetSettings::Residual { .. } => NetSettings::Residual { p },
            NetSettings::ResnetSmall { .. } => NetSettings::ResnetSmall { p },
            NetSettings::Rnn(rnn) => NetSettings::Rnn(RnnSettings { p, ..rnn }),
        }
    }

    /// The dropout rates, for people and names of directories.
    pub(super) fn rates(&self) -> String {
        match (self.given_rates(), self) {
            (Some(rates), _) => rates.describe(),
            (None, NetSettings::Variable { .. }) => rates::describe(&VariableDropoutNet::RATES),
            (None, _) => rates::describe(&Cnn::RATES),
        }
    }

    /// The rates that it was given; `None` if it is at its own.
    pub(super) fn given_rates(&self) -> Option<Rates> {
        match *self {
            NetSettings::Variable { p } | NetSettings::Cnn { p } => p,
            NetSettings::Simple { p, .. }
            | NetSettings::SpatialCnn { p }
            | NetSettings::Residual { p }
            | NetSettings::ResnetSmall { p } => Some(p),
            NetSettings::Rnn(rnn) => Some(rnn.p),
        }
    }

    /// What it is trained on unless told otherwise.
    pub(super) fn usual_data(&self) -> Source {
        match self.feed() {
            Feed::Rows => Source::Digits,
            Feed::Images => Source::Digits32,
            Feed::Texts => Source::Words,
        }
    }
}

/// What some options are only taken with.
const RNN: &str = "--net rnn";

impl Default for TokenSettings {
    fn default() -> Self {
        TokenSettings { unit: UnitName::Characters, min_count: NonZeroUsize::MIN }
    }
}

impl NetArgs {
    /// Checks that what is said of tokens is said of data that have some.
    pub(super) fn check_tokens(&self, data: &Source) -> Result<()> {
        match data {
            Source::Vowels(_) => only_with("embedding", "texts in --data", self.embedding),
            _ => Ok(()),
        }
    }
}

impl TokenSettings {
    pub(super) fn new(args: &DataArgs, data: &Source) -> Result<Self> {
        if !data.is_of_texts() {
            only_with("tokens", "texts in --data", args.tokens)?;
            only_with("min-count", "texts in --data", args.min_count)?;
        }
        let unit = match data {
            Source::Text(_) => UnitName::Words,
            _ => UnitName::Characters,
        };
        Ok(TokenSettings {
            unit: args.tokens.unwrap_or(unit),
            min_count: args.min_count.unwrap_or(NonZeroUsize::MIN),
        })
    }

    /// Whether they need not be noted, as in checkpoints of networks of images.
    fn are_usual(&self) -> bool {
        *self == TokenSettings::default()
    }
}

impl StepSettings {
    pub(super) fn new(args: &StepArgs, feed: Feed) -> Result<Self> {
        let usual = match feed {
            Feed::Texts => OptimizerName::Adam,
            Feed::Rows | Feed::Images => OptimizerName::Sgd,
        };
        let rule = match args.optimizer.unwrap_or(usual) {
            OptimizerName::Sgd => Rule::Sgd { momentum: args.momentum.unwrap_or(MOMENTUM) },
            OptimizerName::Adam => Rule::Adam,
            OptimizerName::Adamw => Rule::Adamw,
        };
        let (lr, weight_decay) = match rule {
            Rule::Sgd { .. } if feed == Feed::Images => (SGD_RATE_OF_IMAGES, 0.0),
            Rule::Sgd { .. } => (SGD_RATE, 0.0),
            Rule::Adam if feed == Feed::Texts => (ADAM_RATE_OF_TEXTS, 0.0),
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

pub(super) fn only_with<T: Serialize>(option: &str, other: &str, given: Option<T>) -> Result<()> {
    match given {
        Some(given) => Err(Error::argument(option, format!("{other} with it"), show(&given))),
        None => Ok(()),
    }
}

/// An error if an option is given and is not what the run began with.
pub(super) fn conflict<T: Serialize + PartialEq>(
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

/// A value as it is written in settings.
pub(super) fn show<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    match text.as_str() {
        "null" => "none".into(),
        text => text.trim_matches('"').into(),
    }
}
