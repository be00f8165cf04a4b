// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole state of a training, in one file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::atomic::write_atomically;
use super::file::{checksum, encode, Note, RawFile, TensorFile, Wanted};
use super::weights::{save_weights, set_values, values, wanted};
use super::{MODEL_FILE, TRAINING_FILE};
use crate::data::Position;
use crate::graph::ParamId;
use crate::nn::Module;
use crate::{Result, Seed, Tensor, Trainer};

/// Version of the file's contents.
const FORMAT: u32 = 1;

/// Key of the state in the file's header.
const KEY: &str = "kiln";

/// Where a training stands, as far as the trainer cannot know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The place of the batch that comes next: [`Loader::position`](crate::data::Loader::position).
    pub position: Position,
    /// Whatever the caller wants to find again: settings, metrics so far.
    pub notes: serde_json::Value,
}

/// Everything about a training that is not a tensor.
#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    seed: u64,
    pass: u32,
    monte_carlo_pass: u32,
    updates: u64,
    /// What the next step does beyond the state: loss, optimiser, schedule, clipping, division.
    recipe: BTreeMap<String, String>,
    checksum: u32,
    progress: Progress,
}

/// Writes the whole state of a training to the directory: [`TRAINING_FILE`] first, from which
/// [`load`] resumes, and then its parameters as [`MODEL_FILE`].
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if a file cannot be written. The old training file stays then,
/// or the new one is there in full.
pub fn save<M: Module>(
    trainer: &mut Trainer<M>,
    progress: &Progress,
    directory: impl AsRef<Path>,
) -> Result<()> {
    let directory = directory.as_ref();
    let tensors = tensors(trainer)?;
    let (recipe, updates) = (recipe(trainer), trainer.updates());
    let net = trainer.net();
    let state = State {
        format: FORMAT,
        seed: net.seed().0,
        pass: net.pass(),
        monte_carlo_pass: net.monte_carlo_pass(),
        updates,
        recipe,
        checksum: checksum(&tensors)?,
        progress: progress.clone(),
    };
    let text = serde_json::to_string(&state).map_err(|error| crate::Error::Internal {
        pass: "checkpoint",
        message: error.to_string(),
    })?;
    let bytes = encode(&tensors, Note { key: KEY, text })?;
    write_atomically(directory.join(TRAINING_FILE), &bytes)?;
    save_weights(trainer.net(), directory.join(MODEL_FILE))
}

/// Continues a training from what [`save`] wrote to the directory: values, moments, counters and
/// the seed. The next step gives the bits that the interrupted training would have given.
///
/// # Errors
/// [`Error::Checkpoint`](crate::Error::Checkpoint) with everything in which the network, the loss,
/// the optimiser, the schedule, clipping or the division of batches differ;
/// [`Error::Data`](crate::Error::Data) if the file is damaged. The trainer is unchanged then.
pub fn load<M: Module>(trainer: &mut Trainer<M>, directory: impl AsRef<Path>) -> Result<Progress> {
    let raw = RawFile::read(&directory.as_ref().join(TRAINING_FILE))?;
    let file = raw.parse()?;
    let state = State::of(&file)?;
    let wanted = wanted_tensors(trainer);
    let mut mismatches = differences(&state.recipe, &recipe(trainer));
    mismatches.extend(file.mismatches(&wanted));
    if !mismatches.is_empty() {
        return Err(file.misfit(mismatches));
    }
    let tensors = file.take(&wanted)?;
    if checksum(&tensors)? != state.checksum {
        let expected = format!("tensors with check sum {:08x}", state.checksum);
        return Err(file.invalid(&expected, format!("{:08x}", checksum(&tensors)?)));
    }
    restore(trainer, &state, &tensors)?;
    Ok(state.progress)
}

/// Reads how far the training in a directory got, without a trainer to load it into.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if there is no training file, [`Error::Data`](crate::Error::Data)
/// if it is damaged.
pub fn progress(directory: impl AsRef<Path>) -> Result<Progress> {
    let raw = RawFile::read(&directory.as_ref().join(TRAINING_FILE))?;
    let file = raw.parse()?;
    Ok(State::of(&file)?.progress)
}

impl State {
    fn of(file: &TensorFile<'_>) -> Result<Self> {
        let expected = "the state of a training in the header";
        let text = file.note(KEY).ok_or_else(|| file.invalid(expected, "none"))?;
        let state: State =
            serde_json::from_str(text).map_err(|error| file.invalid(expected, error))?;
        match state.format {
            FORMAT => Ok(state),
            other => Err(file.invalid(&format!("format {FORMAT}"), format!("format {other}"))),
        }
    }
}

fn restore<M: Module>(
    trainer: &mut Trainer<M>,
    state: &State,
    tensors: &[(String, Tensor)],
) -> Result<()> {
    let rule = trainer.optimizer().rule;
    let count = trainer.net().specs().len();
    let (values, moments) = tensors.split_at(count.min(tensors.len()));
    let (store, backend) = trainer.net().state();
    store.ensure_moments(backend, rule.moments())?;
    for (moment, tensors) in moments.chunks(count.max(1)).enumerate() {
        for (index, (_, tensor)) in tensors.iter().enumerate() {
            store.write_moment(backend, moment, ParamId::at(index), tensor.values()?)?;
        }
    }
    set_values(trainer.net(), values)?;
    let net = trainer.net();
    net.set_seed(Seed(state.seed));
    net.set_pass(state.pass);
    net.set_monte_carlo_pass(state.monte_carlo_pass);
    trainer.set_updates(state.updates);
    Ok(())
}

/// Values and then moments, in the order of [`wanted_tensors`].
fn tensors<M: Module>(trainer: &mut Trainer<M>) -> Result<Vec<(String, Tensor)>> {
    let moments = trainer.optimizer().rule.moments();
    let net = trainer.net();
    let mut tensors = values(net)?;
    for (name, _) in &mut tensors {
        name.insert_str(0, VALUE);
    }
    let names: Vec<String> = net.specs().iter().map(|spec| spec.name.clone()).collect();
    let (store, backend) = net.state();
    store.ensure_moments(backend, moments)?;
    for moment in 0..moments {
        for (index, name) in names.iter().enumerate() {
            let tensor = store.read_moment(backend, moment, ParamId::at(index))?;
            tensors.push((format!("{}{name}", moment_prefix(moment)), tensor));
        }
    }
    Ok(tensors)
}

fn wanted_tensors<M: Module>(trainer: &mut Trainer<M>) -> Vec<Wanted> {
    let moments = trainer.optimizer().rule.moments();
    let net = trainer.net();
    let prefixes = std::iter::once(VALUE.to_string()).chain((0..moments).map(moment_prefix));
    prefixes.flat_map(|prefix| wanted(net, &prefix)).collect()
}

const VALUE: &str = "value.";

fn moment_prefix(moment: usize) -> String {
    format!("moment.{moment}.")
}

fn recipe<M: Module>(trainer: &Trainer<M>) -> BTreeMap<String, String> {
    let optimizer = trainer.optimizer();
    let entries = [
        ("loss", trainer.loss().key()),
        ("optimizer", format!("{:?}", optimizer.rule)),
        ("learning rate", format!("{:?}", optimizer.rate)),
        ("schedule", format!("{:?}", trainer.schedule())),
        ("clipping", format!("{:?}", trainer.max_norm())),
        ("micro-batches", trainer.micro_batches().to_string()),
    ];
    entries.map(|(name, value)| (name.to_string(), value)).into()
}

fn differences(saved: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let differing = now.iter().filter(|(name, value)| saved.get(*name) != Some(value));
    differing
        .map(|(name, value)| {
            let saved = saved.get(name).map_or("none", String::as_str);
            format!("{name}: expected {value}, got {saved}")
        })
        .collect()
}
