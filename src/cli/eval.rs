// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln eval`.

use std::path::PathBuf;

use kiln::checkpoint::{self, MODEL_FILE, TRAINING_FILE};
use kiln::{Device, Result};
use serde_json::json;

use super::args::{EvalArgs, NetName};
use super::data::{Choice, Source};
use super::network;
use super::output::Output;
use super::session::{evaluate, Notes};
use super::settings::{NetSettings, Settings};

pub(super) fn run(args: &EvalArgs, device: Device, output: &mut Output) -> Result<()> {
    let (weights, known) = find(args)?;
    let known = known.as_ref();
    let net_settings = match known.filter(|known| same_net(args, known)) {
        Some(settings) => settings.net,
        None => NetSettings::new(&args.net)?,
    };
    let source = args.data.data.clone().or(known.map(|known| known.data.clone()));
    let source = source.unwrap_or(Source::Digits);
    let train_samples = args.data.train_samples.or(known.and_then(|known| known.train_samples));
    let sets = source.load(Choice { train_samples, label_noise: 0.0 })?;
    let mut net = network::net(net_settings, device, 0)?;
    checkpoint::load_weights(&mut net, &weights)?;
    let scores = evaluate(&mut net, &sets.test)?;
    output.result(&format!(
        "test accuracy {:.2} % ({} of {}), loss {:.4}",
        100.0 * scores.accuracy(),
        scores.correct,
        scores.samples,
        scores.loss,
    ))?;
    output.json(&json!({
        "net": net_settings.name(),
        "data": source.name(),
        "checkpoint": weights.display().to_string(),
        "samples": scores.samples,
        "accuracy": scores.accuracy(),
        "loss": scores.loss,
    }))
}

/// The file with the weights and, if it belongs to a run, the run's settings.
fn find(args: &EvalArgs) -> Result<(PathBuf, Option<Settings>)> {
    let path = &args.checkpoint;
    if !path.is_dir() {
        return Ok((path.clone(), None));
    }
    let settings = match path.join(TRAINING_FILE).is_file() {
        true => Some(Notes::of(path, checkpoint::progress(path)?)?.settings),
        false => None,
    };
    Ok((path.join(MODEL_FILE), settings))
}

/// Whether the arguments say nothing about the network that differs from the run's.
fn same_net(args: &EvalArgs, known: &Settings) -> bool {
    let name: Option<NetName> = args.net.net;
    name.is_none_or(|name| name == known.net.name()) && args.net.hidden.is_none()
}
