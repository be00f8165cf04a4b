// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln eval`.

use kiln::checkpoint;
use kiln::data::Position;
use kiln::{Error, Result};
use serde_json::json;

use super::args::{Common, EvalArgs, NetName};
use super::data::{Choice, Unknown};
use super::evaluation::{evaluate, first_non_finite};
use super::found::{find, Found};
use super::interrupt::Interrupt;
use super::metrics::percent;
use super::monte_carlo;
use super::network;
use super::output::Output;
use super::rates::Rates;
use super::settings::{NetSettings, Settings, TokenSettings};

pub(super) fn run(args: &EvalArgs, common: &Common, output: &mut Output) -> Result<()> {
    let draws = args.draws.draws()?;
    let mut device = network::device(common)?;
    let Found { weights, position, notes } = find(&args.checkpoint)?;
    let (known, texts) = match &notes {
        Some(notes) => (Some(&notes.settings), notes.texts.as_ref()),
        None => (None, None),
    };
    let net_settings = match known.filter(|known| same_net(args, known)) {
        Some(settings) => at_rate(settings.net, args.net.p),
        None => NetSettings::new(&args.net)?,
    };
    let source = args.data.data.clone().or(known.map(|known| known.data.clone()));
    let source = source.unwrap_or(net_settings.usual_data());
    let train_samples = args.data.train_samples.or(known.and_then(|known| known.train_samples));
    net_settings.feed().check(net_settings.name(), &source)?;
    let tokens = match known.filter(|known| known.data.is_of_texts()) {
        Some(known) => known.tokens,
        None => TokenSettings::new(&args.data, &source)?,
    };
    let bad_images = args.data.bad_images.or(known.map(|known| known.bad_images));
    let bad_images = bad_images.unwrap_or_default().what();
    let choice = Choice { train_samples, tokens, bad_images, ..Choice::default() };
    let sets = source.load(&choice, texts)?;
    // As the run itself measures, unless something else is asked for.
    if let (None, Some(name)) = (common.precision, known.and_then(|known| known.precision)) {
        device = device.with_precision(name.precision());
    }
    let mut net = network::net(net_settings, sets.sizes(), device, 0)?;
    let device = net.device().describe();
    checkpoint::load_weights(&mut net, &weights)?;
    let (feed, interrupt) = (net_settings.feed(), Interrupt::default());
    let Some(scores) = evaluate(&mut net, feed, &sets.test, &interrupt)? else { return Ok(()) };
    let Some(correct) = scores.correct else {
        let first = first_non_finite(&mut net, feed, &sets.test)?;
        let got = first.map_or_else(|| "NaN".into(), |first| first.to_string());
        return Err(Error::argument("checkpoint", "a network that gives numbers", got));
    };
    let drawn = draws.map(|draws| monte_carlo::compare(&mut net, feed, &sets.test, draws));
    let drawn = drawn.transpose()?;
    output.result(&format!(
        "test accuracy {} ({correct} of {}), loss {:.4}{}{}; on {device}",
        percent(scores.accuracy()),
        scores.samples,
        scores.loss,
        position.map(after).unwrap_or_default(),
        sets.unknown.map(Unknown::describe).unwrap_or_default(),
    ))?;
    if let Some(drawn) = &drawn {
        output.result(&format!("\n{drawn}"))?;
    }
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
        "unknown_tokens": sets.unknown.map(|unknown| unknown.tokens),
        "monte_carlo": drawn.map(|drawn| drawn.json()),
    }))
}

/// The network of a run, at another dropout rate if one is given.
fn at_rate(net: NetSettings, p: Option<f32>) -> NetSettings {
    p.map_or(net, |p| net.with_rates(Rates::All(p)))
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
    name.is_none_or(|name| name == known.net.name())
        && args.net.hidden.is_none()
        && args.net.cell.is_none()
        && args.net.layers.is_none()
        && args.net.embedding.is_none()
        && !args.net.bidirectional
}
