// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout rates that change while a run trains.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use kiln::nn::DropoutSchedule;
use kiln::{Error, Result};
use serde::{Deserialize, Serialize};

use super::network::AnyNet;
use super::settings::{conflict, show};

#[derive(Debug, Default, Args)]
pub(super) struct DropoutArgs {
    /// How dropout rates change while the network is trained; constant if not given
    #[arg(long, value_enum)]
    dropout_schedule: Option<DropoutName>,
    /// Dropout rate of the first step, with --dropout-schedule linear or cosine; 0 if not given
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, requires = "dropout_schedule")]
    dropout_start: Option<f32>,
    /// Dropout rate in the end; that of each layer, or --p, if not given
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, requires = "dropout_schedule")]
    dropout_end: Option<f32>,
    /// Epochs over which dropout rates change; --epochs if not given
    #[arg(long, value_name = "N", requires = "dropout_schedule")]
    dropout_epochs: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DropoutName {
    /// In a straight line
    Linear,
    /// Along half a cosine
    Cosine,
    /// From 0, first fast and then ever slower
    Curriculum,
}

/// How dropout rates change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DropoutSettings {
    schedule: DropoutName,
    start: f32,
    /// In the place of the layers' own.
    end: Option<f32>,
    epochs: NonZeroUsize,
    /// Passes in an epoch, as soon as the data is known.
    passes: u32,
}

impl DropoutSettings {
    /// Those of a new run of so many epochs, if rates change.
    pub(super) fn new(args: &DropoutArgs, epochs: NonZeroUsize) -> Result<Option<Self>> {
        let Some(schedule) = args.dropout_schedule else { return Ok(None) };
        if let (DropoutName::Curriculum, Some(start)) = (schedule, args.dropout_start) {
            let expected = "--dropout-schedule linear or cosine with it";
            return Err(Error::argument("dropout-start", expected, start));
        }
        Ok(Some(DropoutSettings {
            schedule,
            start: args.dropout_start.unwrap_or(0.0),
            end: args.dropout_end,
            epochs: args.dropout_epochs.unwrap_or(epochs),
            passes: 0,
        }))
    }

    /// Where the arguments are not what a run began with.
    pub(super) fn conflicts(args: &DropoutArgs, began: Option<Self>) -> Vec<Error> {
        let schedule = began.map(|began| began.schedule);
        let start = began.map(|began| began.start);
        let end = began.and_then(|began| began.end);
        let epochs = began.map(|began| began.epochs);
        let conflicts = [
            conflict("dropout-schedule", args.dropout_schedule, schedule),
            conflict("dropout-start", args.dropout_start, start),
            conflict("dropout-end", args.dropout_end, end),
            conflict("dropout-epochs", args.dropout_epochs, epochs),
        ];
        conflicts.into_iter().flatten().collect()
    }

    /// The same, knowing how many steps an epoch has.
    pub(super) fn with_steps(self, per_epoch: usize) -> Self {
        DropoutSettings { passes: u32::try_from(per_epoch).unwrap_or(u32::MAX), ..self }
    }

    /// The schedule of a layer with a rate of its own.
    pub(super) fn of_layer(&self, p: f32) -> DropoutSchedule {
        let (start, end) = (self.start, self.end.unwrap_or(p));
        let epochs = u32::try_from(self.epochs.get()).unwrap_or(u32::MAX);
        let passes = self.passes.saturating_mul(epochs).max(1);
        match self.schedule {
            DropoutName::Linear => DropoutSchedule::Linear { start, end, passes },
            DropoutName::Cosine => DropoutSchedule::Cosine { start, end, passes },
            DropoutName::Curriculum => DropoutSchedule::curriculum(end, passes),
        }
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let end = self.end.map_or("that of each layer".into(), |end| end.to_string());
        let (name, start, epochs) = (show(&self.schedule), self.start, self.epochs);
        format!("dropout rates: {name} from {start} to {end}, epochs: {epochs}")
    }
}

/// The rates of the last step, of layers whose rate changes.
pub(super) fn last_rates(net: &AnyNet) -> Result<BTreeMap<String, f32>> {
    let rates = net.dropout_rates(net.pass().saturating_sub(1))?;
    Ok(rates.into_iter().map(|(layer, p)| (layer.to_owned(), p)).collect())
}

/// Rates for people: each once, behind two spaces; nothing where there are none.
pub(super) fn shown(rates: &BTreeMap<String, f32>) -> String {
    let mut different: Vec<f32> = rates.values().copied().collect();
    different.sort_by(f32::total_cmp);
    different.dedup();
    let texts: Vec<String> = different.iter().map(|p| format!("{p:.3}")).collect();
    match texts.is_empty() {
        true => String::new(),
        false => format!("  dropout {}", texts.join(", ")),
    }
}
