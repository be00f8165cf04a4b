// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln train`.

mod args;
mod profile;

use std::fs;
use std::path::Path;

use kiln::checkpoint::{self, write_atomically, MODEL_FILE, TRAINING_FILE};
use kiln::{Device, Error, Result};
use serde_json::{json, Value};

pub(super) use args::TrainArgs;

use super::args::{Common, FitArgs};
use super::chart::{self, Curve};
use super::dropout::DropoutSettings;
use super::interrupt::{Interrupt, Signal};
use super::lint;
use super::metrics::{self, percent};
use super::network;
use super::outcome::{Ending, Failure, Outcome};
use super::output::{to_stderr, Output};
use super::run_dir::{self, RunDir, RUN_FILE};
use super::session::{Advance, Conditions, Notes, Session};
use super::settings::{Settings, Stretch};
use super::watch::{Board, BEST_FOLDER};

pub(super) fn run(args: &TrainArgs, common: &Common, output: &mut Output) -> Outcome {
    let Run { mut session, directory, place } = begin(args, common)?;
    match train(&mut session, args, &directory, output) {
        Ok(None) => {
            let profile = args.profile.then(|| profile::of(&mut session, &directory, output));
            Ok(finish(&session, &directory, profile.transpose()?, output).map(|()| Ending::Done)?)
        }
        Ok(Some(signal)) => {
            let (update, epoch) = (session.updates(), session.history().len() + 1);
            to_stderr(&format!(
                "{} after update {update}, in epoch {epoch} of {}; to go on: kiln train --resume {}",
                signal.verb(),
                session.settings().epochs,
                directory.display(),
            ));
            Ok(Ending::Stopped(signal))
        }
        Err(error) => Err(give_up(session, error, &directory, place, output)),
    }
}

/// Name of the file with one line per epoch.
pub(super) const METRICS_FILE: &str = "metrics.jsonl";

/// Name of the drawing.
pub(super) const CURVES_FILE: &str = "curves.svg";

/// A training and where it is kept.
struct Run {
    session: Session,
    directory: RunDir,
    place: Place,
}

/// Whose files are in the directory of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// There were none.
    New,
    /// Those of the run that goes on.
    Resumed,
}

/// What may end a training, as the arguments have it.
pub(super) fn conditions(args: &FitArgs, common: &Common) -> Conditions {
    let non_finite = args.non_finite.map(|name| name.policy()).unwrap_or_default();
    let on_device = common.on_device.unwrap_or_default();
    Conditions { on_device, non_finite, interrupt: Interrupt::default() }
}

/// The training and its directory, locked.
fn begin(args: &TrainArgs, common: &Common) -> Result<Run> {
    let from = match (&args.resume, &args.out) {
        (None, _) => None,
        (Some(Some(from)), _) | (Some(None), Some(from)) => Some(from.as_path()),
        (Some(None), None) => {
            return Err(Error::argument("resume", "a directory, here or with --out", "none"))
        }
    };
    let device = network::device(common)?;
    let conditions = conditions(&args.fit, common);
    let interrupt = conditions.interrupt.clone();
    let run = match from {
        None => {
            let mut settings = args.watch.complete(Settings::new(&args.fit, common.precision)?)?;
            settings.dropout = DropoutSettings::new(&args.dropout, settings.epochs)?;
            let session = Session::new(settings, device, conditions)?;
            let settings = session.settings();
            let name = format!("{}-{}", settings.net.name().as_str(), settings.data.name());
            let directory = run_dir::create(args.out.as_deref(), &name)?;
            Run { session, directory, place: Place::New }
        }
        Some(from) => {
            let elsewhere = args.out.as_deref().filter(|out| *out != from);
            let same = elsewhere.map_or_else(|| run_dir::open(from).map(Some), |_| Ok(None))?;
            let session = resumed(args, from, device, common, conditions)?;
            match same {
                Some(directory) => Run { session, directory, place: Place::Resumed },
                None => {
                    let directory = run_dir::create(elsewhere, "")?;
                    Run { session, directory, place: Place::New }
                }
            }
        }
    };
    interrupt.watch()?;
    Ok(run)
}

/// The training in a directory, with everything at once in which the arguments differ from it.
fn resumed(
    args: &TrainArgs,
    from: &Path,
    device: Device,
    common: &Common,
    conditions: Conditions,
) -> Result<Session> {
    let stretch = match args.stretch_schedule {
        true => Stretch::Yes,
        false => Stretch::No,
    };
    let began = Notes::of(from, checkpoint::progress(from)?)?.settings;
    let (settings, mut errors) = began.resumed(&args.fit, common.precision, stretch);
    errors.extend(DropoutSettings::conflicts(&args.dropout, began.dropout));
    let (settings, more) = args.watch.resumed(settings);
    errors.extend(more);
    let device = match settings.precision {
        Some(name) => device.with_precision(name.precision()),
        None => device,
    };
    let session = Session::new(settings, device, conditions)
        .and_then(|mut session| session.resume(from, stretch).map(|()| session));
    match session {
        Ok(session) => Error::check(errors).map(|()| session),
        Err(error) if errors.is_empty() => Err(error),
        Err(error) => {
            errors.push(error);
            Err(Error::Many(errors))
        }
    }
}

/// Trains to the end, or to a signal. There is a checkpoint before the first step: from then on a
/// run that is cut off can be resumed.
fn train(
    session: &mut Session,
    args: &TrainArgs,
    directory: &Path,
    output: &mut Output,
) -> Result<Option<Signal>> {
    session.save(directory)?;
    session.watch(Board::of(&args.watch, directory, session.updates())?);
    if args.profile {
        session.net().time_steps()?;
    }
    let settings = session.settings().clone();
    output.note(&format!(
        "{}, {} ({} train, {} test samples), {}\non {}",
        settings.net.describe(session.sets().sizes()),
        settings.data.name(),
        session.sets().train.len(),
        session.sets().test.len(),
        directory.display(),
        session.device(),
    ))?;
    if let Some(residence) = session.residence()? {
        output.note(&format!("samples {residence}"))?;
    }
    if let Some(dropout) = &settings.dropout {
        output.note(&dropout.describe())?;
    }
    if let Some(texts) = &session.sets().texts {
        output.note(&texts.describe())?;
    }
    lint::show(session.report(), output)?;
    run_dir::record(directory, session.device())?;
    let metrics_file = directory.join(METRICS_FILE);
    metrics::rewrite(&metrics_file, session.history())?;
    while session.remaining() > 0 {
        let epoch = match session.epoch(output)? {
            Advance::Epoch(epoch) => epoch.clone(),
            Advance::Stopped(signal) => {
                output.finish();
                session.save(directory)?;
                return Ok(Some(signal));
            }
        };
        // Times are in this file alone; a line too many is cut off when the run is resumed.
        metrics::append(&metrics_file, &epoch)?;
        // First the best, then the run itself: if the second is cut off, the epoch is trained again, and
        // found to be the best again.
        if session.course().is_best() {
            let best = directory.join(BEST_FOLDER);
            fs::create_dir_all(&best).map_err(Error::io("create", &best))?;
            session.write(&best)?;
        }
        session.save(directory)?;
        output.note(&epoch.line(settings.epochs.get()))?;
    }
    Ok(None)
}

/// What to tell of a training that failed. Files that are worth nothing are removed, so that the
/// directory can be used again.
fn give_up(
    session: Session,
    error: Error,
    directory: &Path,
    place: Place,
    output: &mut Output,
) -> Failure {
    output.finish();
    let shown = directory.display();
    match (error, session.saved()) {
        (error @ Error::NonFinite { .. }, Some(updates)) => {
            let advice = format!(
                "the checkpoint in {shown}, of update {updates}, is the last finite one; try a lower \
                 --lr or --clip, or go on regardless with --non-finite continue"
            );
            Failure::with_advice(explain(session, error, Some(directory)), advice)
        }
        (error, Some(updates)) if session.has_kept_work() => {
            let advice = format!("to go on from update {updates}: kiln train --resume {shown}");
            Failure::with_advice(error, advice)
        }
        (error, _) => {
            if place == Place::New {
                for file in [TRAINING_FILE, MODEL_FILE, METRICS_FILE, RUN_FILE] {
                    let _ = fs::remove_file(directory.join(file));
                }
                for folder in [directory.join(BEST_FOLDER), Board::folder(directory)] {
                    let _ = fs::remove_dir_all(folder);
                }
            }
            error.into()
        }
    }
}

/// Adds to an error about a value that is not finite where it came from, if that can be found.
pub(super) fn explain(session: Session, error: Error, directory: Option<&Path>) -> Error {
    let Error::NonFinite { update, what, value, first: None } = error else { return error };
    let first = session.find_first(update, directory).unwrap_or_else(|error| {
        tracing::warn!(%error, "the first value that is not finite cannot be looked for");
        None
    });
    Error::NonFinite { update, what, value, first: first.map(Box::new) }
}

fn finish(
    session: &Session,
    directory: &Path,
    profile: Option<Value>,
    output: &mut Output,
) -> Result<()> {
    let (settings, history) = (session.settings(), session.history());
    let title =
        format!("{} on {}", settings.net.describe(session.sets().sizes()), settings.data.name());
    let curves = chart::draw(&title, &[Curve { label: String::new(), history }])?;
    write_atomically(directory.join(CURVES_FILE), curves.as_bytes())?;
    let Some(last) = history.last() else { return Ok(()) };
    let seconds: f64 = history.iter().map(|epoch| epoch.seconds).sum();
    let course = session.course();
    let ended_early = course.is_over() && history.len() < settings.epochs.get();
    if let Some(reason) = course.reason().filter(|_| ended_early) {
        output.note(&reason)?;
    }
    output.result(&format!(
        "test accuracy {}, loss {:.4} after {} epochs, {seconds:.1} s of training; {}",
        percent(last.test_accuracy),
        last.test_loss,
        last.epoch,
        directory.join(MODEL_FILE).display(),
    ))?;
    let best = course.best();
    if let Some((epoch, figure)) = &best {
        let kept = directory.join(BEST_FOLDER);
        output.result(&format!("best epoch {epoch}, {figure}; {}", kept.display()))?;
    }
    let mut object = json!({
        "net": settings.net.name(),
        "data": settings.data.name(),
        "device": session.device(),
        "epochs": last.epoch,
        "train_accuracy": last.train_accuracy,
        "test_accuracy": last.test_accuracy,
        "train_loss": last.train_loss,
        "test_loss": last.test_loss,
        "seconds": seconds,
        "out": directory.display().to_string(),
    });
    if let Some((epoch, _)) = best {
        object["best_epoch"] = epoch.into();
        object["best"] = directory.join(BEST_FOLDER).display().to_string().into();
        object["ended_early"] = ended_early.into();
    }
    if let Some(profile) = profile {
        object["profile"] = profile;
    }
    if let Some(scaling) = last.loss_scale {
        object["loss_scale"] = json!(scaling);
    }
    if !session.warnings().is_empty() {
        object["warnings"] = session.warnings().into();
    }
    output.json(&object)
}
