// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln eval`.

use std::path::PathBuf;

use kiln::checkpoint::{self, MODEL_FILE, TRAINING_FILE};
use kiln::data::Position;
use kiln::{Error, Result};
use serde_json::json;

use super::args::{Common, EvalArgs, NetName};
use super::data::Choice;
use super::evaluation::{evaluate, first_non_finite};
use super::interrupt::Interrupt;
use super::metrics::percent;
use super::network;
use super::output::Output;
use super::session::Notes;
use super::settings::{NetSettings, Settings};

pub(super) fn run(args: &EvalArgs, common: &Common, output: &mut Output) -> Result<()> {
    let mut device = network::device(common)?;
    let Found { weights, position, settings: known } = find(args)?;
    let known = known.as_ref();
    let net_settings = match known.filter(|known| same_net(args, known)) {
        Some(settings) => settings.net,
        None => NetSettings::new(&args.net)?,
    };
    let source = args.data.data.clone().or(known.map(|known| known.data.clone()));
    let source = source.unwrap_or(net_settings.usual_data());
    let train_samples = args.data.train_samples.or(known.and_then(|known| known.train_samples));
    let sets = source.load(Choice { train_samples, label_noise: 0.0 })?;
    // As the run itself measures, unless something else is asked for.
    if let (None, Some(name)) = (common.precision, known.and_then(|known| known.precision)) {
        device = device.with_precision(name.precision());
    }
    let mut net = network::net(net_settings, device, 0)?;
    let device = net.device().describe();
    checkpoint::load_weights(&mut net, &weights)?;
    let Some(scores) = evaluate(&mut net, net_settings.feed(), &sets.test, &Interrupt::default())?
    else {
        return Ok(());
    };
    let Some(correct) = scores.correct else {
        let first = first_non_finite(&mut net, net_settings.feed(), &sets.test)?;
        let got = first.map_or_else(|| "NaN".into(), |first| first.to_string());
        return Err(Error::argument("checkpoint", "a network that gives numbers", got));
    };
    output.result(&format!(
        "test accuracy {} ({correct} of {}), loss {:.4}{}; on {device}",
        percent(scores.accuracy()),
        scores.samples,
        scores.loss,
        position.map(after).unwrap_or_default(),
    ))?;
    output.json(&json!({
        "net": net_settings.name(),
        "data": source.name(),
        "device": device,
        "checkpoint": weights.display().to_string(),
        "epoch": position.map(|position| position.epoch),
        "batch": position.map(|position| position.batch),
        "samples": scores.samples,
        "accuracy": scores.accuracy(),
        "loss": scores.loss,
    }))
}

/// What there is to evaluate.
struct Found {
    /// The file with the weights.
    weights: PathBuf,
    /// Where in the data they were taken, if the file says so.
    position: Option<Position>,
    /// The settings of the run that they belong to, if it is known.
    settings: Option<Settings>,
}

/// Of a run directory, the training file counts: a run that was killed between replacing its two
/// files has an older file of weights, which says nothing of it.
fn find(args: &EvalArgs) -> Result<Found> {
    let path = &args.checkpoint;
    let training = path.join(TRAINING_FILE);
    if training.is_file() {
        let progress = checkpoint::progress(path)?;
        let position = Some(progress.position);
        let settings = Some(Notes::of(path, progress)?.settings);
        return Ok(Found { weights: training, position, settings });
    }
    let weights = match path.is_dir() {
        true => path.join(MODEL_FILE),
        false => path.clone(),
    };
    let position = checkpoint::position(&weights)?;
    Ok(Found { weights, position, settings: None })
}

/// How long the weights were trained, for people.
fn after(position: Position) -> String {
    let count = |number: u64, one: &str, more: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {more}"),
    };
    let batches = match position.batch {
        0 => String::new(),
        number => format!(" and {}", count(number, "batch", "batches")),
    };
    format!(", after {}{batches}", count(position.epoch, "epoch", "epochs"))
}

/// Whether the arguments say nothing about the network that differs from the run's.
fn same_net(args: &EvalArgs, known: &Settings) -> bool {
    let name: Option<NetName> = args.net.net;
    name.is_none_or(|name| name == known.net.name()) && args.net.hidden.is_none()
}
