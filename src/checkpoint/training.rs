// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole state of a training, in one file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::batch::SavedTypes;
use super::reader::TensorFile;
use super::recipe::Recipe;
use super::weights::{self, named};
use super::writer::{Named, Sealing, TensorWriter};
use super::{MODEL_FILE, TRAINING_FILE};
use crate::data::Position;
use crate::exec::Role;
use crate::graph::{ParamId, ParamRole};
use crate::nn::{is_dropout_rate, Module, RateChange};
use crate::scalars::{TrainingState, MONTE_CARLO_PASS};
use crate::trainer::is_rate;
use crate::values::Values;
use crate::{DType, Error, Result, Trainer};

/// Version of the file's contents that [`save`] writes.
pub(super) const FORMAT: u32 = 2;

/// The version before, whose check sum left out the header and whose recipe left out the network.
pub(super) const FORMER_FORMAT: u32 = 1;

/// Key of the state in the file's header.
const KEY: &str = "kiln";

/// What stands before a parameter's name for its value.
pub(super) const VALUE: &str = "value.";

/// What stands before a parameter's name for its moving average.
const AVERAGE: &str = "average.";

/// Where a training stands, as far as the trainer cannot know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The place of the batch that comes next, in the middle of an epoch too:
    /// [`Loader::position`](crate::data::Loader::position).
    pub position: Position,
    /// Whatever the caller wants to find again: settings, metrics so far. Equal runs have equal files
    /// only if it holds no times.
    pub notes: serde_json::Value,
    /// What the results depend on beyond the trainer, such as the data; [`Resume`](super::Resume)
    /// compares it.
    #[serde(default)]
    pub recipe: Recipe,
}

/// Everything about a training that is not a tensor.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) format: u32,
    pub(super) seed: u64,
    pub(super) pass: u32,
    pub(super) monte_carlo_pass: u32,
    pub(super) updates: u64,
    /// What the device kept of the training; in files from before, it had counted all updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) training: Option<TrainingState>,
    /// The learning rate that was set in the place of the optimiser's, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<f64>,
    /// Updates that the moving averages have seen.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) averaged: u64,
    /// Rates of dropout that were set, by layer, each with the pass from which on it holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) dropout_rates: BTreeMap<String, Vec<RateChange>>,
    /// Updates that were made without parameters, by name, where there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) skipped: BTreeMap<String, u64>,
    /// Types of the inputs for which the recipe describes the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) batch: Option<SavedTypes>,
    /// Types of the targets of that batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) targets: Option<SavedTypes>,
    /// What the next step does beyond the state.
    pub(super) recipe: Recipe,
    /// The check sum of [`FORMER_FORMAT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<u32>,
    pub(super) progress: Progress,
}

/// Writes the whole state of a training to the directory: [`TRAINING_FILE`] first, from which
/// [`load`](super::load) resumes, and then its parameters as [`MODEL_FILE`]. Beside what the trainer
/// holds it takes no more memory than the largest parameter. To keep other processes from writing to
/// the directory, hold its [`DirectoryLock`](super::DirectoryLock).
///
/// # Errors
/// [`Error::Io`] if a file cannot be written. The old training file stays then, or the new one is
/// there in full. [`Error::NonFinite`], with the old files as they were, where
/// [`Trainer::check_finite`] reports it.
pub fn save<M, I: Values, O: Values, T: Values>(
    trainer: &mut Trainer<M, I, O, T>,
    progress: &Progress,
    directory: impl AsRef<Path>,
) -> Result<()>
where
    M: Module<I, O>,
{
    trainer.check_finite()?;
    let directory = directory.as_ref();
    let batch = trainer.batch().cloned();
    let recipe = Recipe::of_trainer(trainer, batch.as_ref())?;
    let (updates, training) = (trainer.updates(), trainer.training_state()?);
    let net = trainer.net();
    let (seed, pass, monte_carlo_pass) = (net.seed().0, net.pass(), net.monte_carlo_pass());
    let dropout_rates = net.rates().changes();
    let state = State {
        format: FORMAT,
        seed,
        pass,
        monte_carlo_pass,
        updates,
        training: Some(training),
        rate: trainer.rate_set(),
        averaged: trainer.averages_seen(),
        dropout_rates,
        skipped: trainer.tuning().skipped(),
        batch: batch.as_ref().map(|batch| SavedTypes::of::<I>(&batch.inputs)),
        targets: batch.and_then(|batch| batch.targets).map(|types| SavedTypes::of::<T>(&types)),
        recipe,
        checksum: None,
        progress: progress.clone(),
    };
    let text = serde_json::to_string(&state)
        .map_err(|error| Error::Internal { pass: "checkpoint", message: error.to_string() })?;
    let (places, tensors): (Vec<_>, Vec<_>) = tensors(trainer).into_iter().unzip();
    let path = directory.join(TRAINING_FILE);
    let mut writer = TensorWriter::begin(&path, &[(KEY, text)], &tensors, Sealing::Checksum)?;
    reserve(trainer)?;
    let (store, backend) = trainer.net().state();
    for (role, id) in places {
        let write = |piece: &[f32]| writer.elements(piece);
        store.read_in_pieces(backend, role, id, write)?;
    }
    writer.finish()?;
    weights::write(trainer.net(), &directory.join(MODEL_FILE), Some(progress.position))
}

/// Reads how far the training in a directory got, without a trainer to load it into.
///
/// # Errors
/// [`Error::Io`] if there is no training file, [`Error::Data`] if it is damaged.
pub fn progress(directory: impl AsRef<Path>) -> Result<Progress> {
    let file = TensorFile::open(&directory.as_ref().join(TRAINING_FILE))?;
    Ok(State::of(&file)?.progress)
}

/// The state in a file, if it is one of a training.
pub(super) fn saved_state(file: &TensorFile) -> Result<Option<State>> {
    file.text(KEY).map(|_| State::of(file)).transpose()
}

/// The tensors of a training file and what they are: values, then the moments of what is trained, then
/// the averages, in order of creation each.
pub(super) fn tensors<M, I: Values, O: Values, T: Values>(
    trainer: &mut Trainer<M, I, O, T>,
) -> Vec<((Role, ParamId), Named)>
where
    M: Module<I, O>,
{
    let moments = trainer.optimizer().rule.moments();
    let moments = (0..moments).map(Role::Moment);
    let roles = std::iter::once(Role::Value).chain(moments).chain([Role::Average]);
    let (trained, averaged) = (trainer.tuning().trained(), averaged_roles(trainer));
    let specs = trainer.net().specs().clone();
    let mut tensors = Vec::new();
    for role in roles {
        for (index, spec) in specs.iter().enumerate() {
            let prefix = match role {
                Role::Value => VALUE.to_string(),
                Role::Moment(moment) if trained[index] => format!("moment.{moment}."),
                Role::Average if averaged.contains(&spec.role) && spec.dtype == DType::F32 => {
                    AVERAGE.to_string()
                }
                Role::Moment(_) | Role::Average => continue,
            };
            tensors.push(((role, ParamId::at(index)), named(spec, &prefix)));
        }
    }
    tensors
}

/// Makes sure that there is memory for everything that a training file holds.
pub(super) fn reserve<M, I: Values, O: Values, T: Values>(
    trainer: &mut Trainer<M, I, O, T>,
) -> Result<()>
where
    M: Module<I, O>,
{
    let (moments, averaged) = (trainer.optimizer().rule.moments(), averaged_roles(trainer));
    let (store, backend) = trainer.net().state();
    store.ensure_moments(backend, moments)?;
    store.ensure_averages(backend, averaged)
}

fn averaged_roles<M, I: Values, O: Values, T: Values>(
    trainer: &Trainer<M, I, O, T>,
) -> &'static [ParamRole]
where
    M: Module<I, O>,
{
    trainer.average().map_or(&[], |average| average.goal().roles())
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl State {
    /// The state in a file, once the check sum over the file is known to be right.
    pub(super) fn of(file: &TensorFile) -> Result<Self> {
        let expected = "the state of a training in the header";
        let invalid =
            |expected: &str, got: &dyn ToString| file.invalid(0, expected, got.to_string());
        let text = file.text(KEY).ok_or_else(|| invalid(expected, &"none"))?;
        let sealed = file.check_sum()?;
        let state: State = serde_json::from_str(text).map_err(|error| invalid(expected, &error))?;
        match (state.format, sealed, state.checksum) {
            (FORMAT, true, None) | (FORMER_FORMAT, false, Some(_)) => {}
            (FORMAT | FORMER_FORMAT, ..) => return Err(invalid("the format's check sum", &"none")),
            (other, ..) => {
                let expected = format!("format {FORMER_FORMAT} or {FORMAT}");
                return Err(invalid(&expected, &format!("format {other}")));
            }
        }
        for pass in [state.pass, state.monte_carlo_pass] {
            if pass >= MONTE_CARLO_PASS {
                return Err(invalid("the number of a pass", &pass));
            }
        }
        // Each update takes a pass, whose numbers begin anew when they are used up.
        if state.updates < u64::from(MONTE_CARLO_PASS) && state.updates > u64::from(state.pass) {
            let expected = format!("at most {} updates, one per pass", state.pass);
            return Err(invalid(&expected, &state.updates));
        }
        if let Some(training) = state.training {
            let (scale, skipped) = (training.loss_scale, u64::from(training.skipped));
            if scale != 0.0 && !(scale > 0.0 && scale.is_normal()) {
                return Err(invalid("a positive loss scale, or 0 for none", &scale));
            }
            if skipped > state.updates {
                let expected = format!("at most {} skipped updates", state.updates);
                return Err(invalid(&expected, &skipped));
            }
        }
        let counted = state.skipped.values().chain([&state.averaged]).max();
        if let Some(more) = counted.filter(|count| **count > state.updates) {
            let expected = format!("a part of {} updates", state.updates);
            return Err(invalid(&expected, more));
        }
        if let Some(rate) = state.rate.filter(|rate| !is_rate(*rate)) {
            return Err(invalid("a learning rate of 0 or more", &rate));
        }
        for (layer, changes) in &state.dropout_rates {
            let rises = changes.windows(2).all(|pair| pair[0].0 < pair[1].0);
            let are_rates =
                changes.iter().all(|(from, p)| is_dropout_rate(*p) && *from <= state.pass);
            if !(rises && are_rates) {
                let expected =
                    format!("rates of {layer} in [0, 1), in the order of passes that were");
                return Err(invalid(&expected, &format!("{changes:?}")));
            }
        }
        if state.progress.position.epoch > u64::from(u32::MAX) {
            return Err(invalid("the number of an epoch", &state.progress.position.epoch));
        }
        Ok(state)
    }

    /// What the device kept of the training.
    pub(super) fn training(&self) -> TrainingState {
        let updates = u32::try_from(self.updates).unwrap_or(u32::MAX);
        self.training.unwrap_or(TrainingState { updates, ..TrainingState::default() })
    }
}
