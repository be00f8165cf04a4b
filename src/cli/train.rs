// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln train`.

use std::path::Path;

use kiln::checkpoint::{self, write_atomically};
use kiln::{Device, Error, Result};
use serde_json::json;

use super::args::TrainArgs;
use super::chart::{self, Curve};
use super::metrics;
use super::output::Output;
use super::run_dir::{self, RunDir};
use super::session::{Notes, Session};
use super::settings::Settings;

pub(super) fn run(args: &TrainArgs, device: Device, output: &mut Output) -> Result<()> {
    let (mut session, directory) = begin(args, device)?;
    let settings = session.settings().clone();
    output.note(&format!(
        "{}, {} ({} train, {} test samples), {}",
        settings.net.describe(),
        settings.data.name(),
        session.sets().train.len(),
        session.sets().test.len(),
        directory.display(),
    ))?;
    let metrics_file = directory.join(METRICS_FILE);
    metrics::rewrite(&metrics_file, session.history())?;
    while session.remaining() > 0 {
        let epoch = session.epoch(output)?.clone();
        // Times are in this file alone; a line too many is cut off when the run is resumed.
        metrics::append(&metrics_file, &epoch)?;
        session.save(&directory)?;
        output.note(&epoch.line(settings.epochs.get()))?;
    }
    finish(&session, &directory, output)
}

/// Name of the file with one line per epoch.
pub(super) const METRICS_FILE: &str = "metrics.jsonl";

/// Name of the drawing.
pub(super) const CURVES_FILE: &str = "curves.svg";

/// The training and its directory, with a first checkpoint in it: from then on a run that is cut
/// off can be resumed.
fn begin(args: &TrainArgs, device: Device) -> Result<(Session, RunDir)> {
    let from = match (&args.resume, &args.out) {
        (None, _) => None,
        (Some(Some(from)), _) | (Some(None), Some(from)) => Some(from.as_path()),
        (Some(None), None) => {
            return Err(Error::argument("resume", "a directory, here or with --out", "none"))
        }
    };
    let (mut session, directory) = match from {
        None => {
            let session = Session::new(Settings::new(&args.fit)?, device)?;
            let settings = session.settings();
            let name = format!("{}-{}", settings.net.name().as_str(), settings.data.name());
            let directory = run_dir::create(args.out.as_deref(), &name)?;
            (session, directory)
        }
        Some(from) => {
            let elsewhere = args.out.as_deref().filter(|out| *out != from);
            let same = elsewhere.map_or_else(|| run_dir::open(from).map(Some), |_| Ok(None))?;
            let notes = Notes::of(from, checkpoint::progress(from)?)?;
            let mut session = Session::new(notes.settings.resumed(&args.fit)?, device)?;
            session.resume(from)?;
            let directory = same.map_or_else(|| run_dir::create(elsewhere, ""), Ok)?;
            (session, directory)
        }
    };
    session.save(&directory)?;
    Ok((session, directory))
}

fn finish(session: &Session, directory: &Path, output: &Output) -> Result<()> {
    let (settings, history) = (session.settings(), session.history());
    let title = format!("{} on {}", settings.net.describe(), settings.data.name());
    let curves = chart::draw(&title, &[Curve { label: String::new(), history }])?;
    write_atomically(directory.join(CURVES_FILE), curves.as_bytes())?;
    let Some(last) = history.last() else { return Ok(()) };
    let seconds: f64 = history.iter().map(|epoch| epoch.seconds).sum();
    output.result(&format!(
        "test accuracy {:.2} %, loss {:.4} after {} epochs, {seconds:.1} s of training; {}",
        100.0 * last.test_accuracy,
        last.test_loss,
        last.epoch,
        directory.join(checkpoint::MODEL_FILE).display(),
    ))?;
    output.json(&json!({
        "net": settings.net.name(),
        "data": settings.data.name(),
        "epochs": last.epoch,
        "train_accuracy": last.train_accuracy,
        "test_accuracy": last.test_accuracy,
        "train_loss": last.train_loss,
        "test_loss": last.test_loss,
        "seconds": seconds,
        "out": directory.display().to_string(),
    }))
}
