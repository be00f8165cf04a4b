// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln compare`: the same network without and with dropout.

use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use kiln::checkpoint::write_atomically;
use kiln::{Error, Result};
use serde_json::{json, Value};

use super::args::{Common, CompareArgs, ScheduleName};
use super::chart::{self, Curve};
use super::interrupt::Signal;
use super::lint;
use super::metrics::{self, percent, Epoch};
use super::network::{self, Feed};
use super::outcome::{Ending, Failure, Outcome};
use super::output::{to_stderr, Output};
use super::run_dir::{self, RUN_FILE};
use super::session::{Advance, Session};
use super::settings::{at_least_one, Settings};
use super::train::{conditions, explain, CURVES_FILE, METRICS_FILE};
use super::verdict::{gap, Verdict};

/// Digits to train on: few, so that a large network learns them by heart.
const TRAIN_SAMPLES: usize = 600;
/// Wrong labels among them: what is learnt by heart is then worth less than what is understood.
const LABEL_NOISE: f64 = 0.2;
/// Enough to learn the wrong labels by heart. With a rate that falls to 0 the result depends little
/// on the seed: gains of 6.2 to 7.6 points over eight seeds, against 2.6 to 12.8 over ten seeds at a
/// constant rate. Chosen by looking at test accuracies, as a demonstration may.
const EPOCHS: usize = 60;
/// Convolutions take much longer, and need fewer.
const EPOCHS_OF_IMAGES: usize = 12;
/// Enough to learn 2,000 words by heart.
const EPOCHS_OF_TEXTS: usize = 25;
const SCHEDULE: ScheduleName = ScheduleName::Cosine;
const BATCH: usize = 50;

pub(super) fn run(args: &CompareArgs, common: &Common, output: &mut Output) -> Outcome {
    let settings = settings(args, common)?;
    let Some(without) = settings.net.with_rate(0.0) else {
        let got = settings.net.name().as_str();
        return Err(Error::argument("net", "one whose dropout can be left out", got).into());
    };
    if settings.net == without {
        return Err(Error::argument("p", "more than 0, to be compared with 0", 0).into());
    }
    let device = network::device(common)?;
    let conditions = conditions(&args.fit);
    let first = Settings { net: without, ..settings.clone() };
    let first = Session::new(first, device.clone(), conditions.clone())?;
    // A rate that no network takes is found before anything is written.
    let net = network::net(settings.net, first.sets().sizes(), device.clone(), settings.seed)?;
    let mut with_dropout = network::trainer(net, &settings.step, settings.micro_batches)?;
    let found = lint::before_training(&mut with_dropout, &settings, first.sets())?;
    drop(with_dropout);
    let name = format!("compare-{}", settings.data.name());
    let directory = run_dir::create(args.out.as_deref(), &name)?;
    conditions.interrupt.watch()?;
    output.note(&headline(&first, &settings.net.rates()))?;
    lint::show(&found, output)?;
    let described = first.device().to_owned();
    run_dir::record(&directory, &described)?;
    let without = match train(first, &directory, output)? {
        ControlFlow::Continue(history) => history,
        ControlFlow::Break(signal) => return Ok(Ending::Stopped(signal)),
    };
    let second = Session::new(settings.clone(), device, conditions)?;
    let with = match train(second, &directory, output)? {
        ControlFlow::Continue(history) => history,
        ControlFlow::Break(signal) => return Ok(Ending::Stopped(signal)),
    };
    let rates = ["0".into(), settings.net.rates()];
    let runs =
        [(&rates[0], without), (&rates[1], with)].map(|(rates, history)| Run { rates, history });
    report(&settings, &described, &runs, &directory, output)?;
    Ok(Ending::Done)
}

/// A training to its end.
struct Run<'a> {
    /// Its dropout rates.
    rates: &'a str,
    history: Vec<Epoch>,
}

/// The settings asked for, on the defaults of a comparison.
fn settings(args: &CompareArgs, common: &Common) -> Result<Settings> {
    let fit = &args.fit;
    let mut settings = Settings::new(fit, common.precision)?;
    if fit.data.data.is_none() && settings.net.feed() != Feed::Texts {
        settings.train_samples = fit.data.train_samples.or(Some(at_least_one(TRAIN_SAMPLES)));
        settings.label_noise = fit.label_noise.unwrap_or(LABEL_NOISE);
    }
    let epochs = match settings.net.feed() {
        Feed::Rows => EPOCHS,
        Feed::Images => EPOCHS_OF_IMAGES,
        Feed::Texts => EPOCHS_OF_TEXTS,
    };
    settings.epochs = fit.epochs.unwrap_or(at_least_one(epochs));
    settings.step.batch = fit.step.batch.unwrap_or(at_least_one(BATCH));
    settings.schedule = fit.schedule.unwrap_or(SCHEDULE);
    Ok(settings)
}

fn headline(session: &Session, rates: &str) -> String {
    let settings = session.settings();
    let sets = session.sets();
    format!(
        "{} on {}: {} training samples, {:.0} % of their labels wrong, {} test samples\n\
         dropout 0 against {rates}: same first parameters, same order of samples, {} epochs\n\
         on {}",
        settings.net.describe(sets.sizes()),
        settings.data.name(),
        sets.train.len(),
        100.0 * settings.label_noise,
        sets.test.len(),
        settings.epochs,
        session.device(),
    )
}

/// Trains to the end, or to a signal; the checkpoint goes to a directory of its own.
fn train(
    mut session: Session,
    directory: &Path,
    output: &mut Output,
) -> Result<ControlFlow<Signal, Vec<Epoch>>, Failure> {
    let rates = session.settings().net.rates();
    let own = directory.join(format!("p{rates}"));
    match epochs(&mut session, directory, &own, output) {
        Ok(None) => Ok(ControlFlow::Continue(session.history().to_vec())),
        Ok(Some(signal)) => {
            to_stderr(&format!(
                "{} after update {} with dropout {rates}; to go on with this network alone: kiln train \
                 --resume {}",
                signal.verb(),
                session.updates(),
                own.display(),
            ));
            Ok(ControlFlow::Break(signal))
        }
        Err(error) => {
            output.finish();
            // What is worth nothing must not be in the way of another try.
            if fs::remove_dir(&own).is_ok() && rates == "0" {
                for file in [METRICS_FILE, RUN_FILE] {
                    let _ = fs::remove_file(directory.join(file));
                }
            }
            match error {
                Error::NonFinite { .. } => Err(Failure::with_advice(
                    explain(session, error, None),
                    "try a lower --lr, or go on regardless with --non-finite continue".into(),
                )),
                error => Err(error.into()),
            }
        }
    }
}

fn epochs(
    session: &mut Session,
    directory: &Path,
    own: &Path,
    output: &mut Output,
) -> Result<Option<Signal>> {
    let rates = session.settings().net.rates();
    fs::create_dir_all(own).map_err(Error::io("create", own))?;
    let epochs = session.settings().epochs.get();
    let every = epochs.div_ceil(4);
    while session.remaining() > 0 {
        let epoch = match session.epoch(output)? {
            Advance::Epoch(epoch) => epoch,
            Advance::Stopped(signal) => {
                output.finish();
                session.save(own)?;
                return Ok(Some(signal));
            }
        };
        metrics::append(&directory.join(METRICS_FILE), epoch)?;
        if epoch.epoch % every == 0 || epoch.epoch == epochs {
            output.note(&format!("p {rates:<4} {}", epoch.line(epochs)))?;
        }
    }
    session.save(own)?;
    Ok(None)
}

fn report(
    settings: &Settings,
    device: &str,
    runs: &[Run<'_>; 2],
    directory: &Path,
    output: &mut Output,
) -> Result<()> {
    let [Some(without), Some(with)] = [0, 1].map(|run: usize| runs[run].history.last()) else {
        return Ok(());
    };
    let verdict = Verdict { without, with };
    let curve = |run: usize| {
        let Run { rates, history } = &runs[run];
        Curve { label: format!("p = {rates}"), history }
    };
    let curves = [0, 1].map(curve);
    let title = format!("Dropout on {}", settings.data.name());
    write_atomically(directory.join(CURVES_FILE), chart::draw(&title, &curves)?.as_bytes())?;
    let object = json!({
        "net": settings.net.name(),
        "data": settings.data.name(),
        "device": device,
        "runs": runs.iter().filter_map(summary).collect::<Vec<_>>(),
        "gain": verdict.gain(),
        "out": directory.display().to_string(),
    });
    write_atomically(directory.join("result.json"), format!("{object:#}\n").as_bytes())?;
    output.result(&format!("\n{}\n{}", table(runs), verdict.text()))?;
    output.note(&format!("curves, metrics and checkpoints: {}", directory.display()))?;
    output.json(&object)
}

fn table(runs: &[Run<'_>; 2]) -> String {
    let mut text = String::from(
        "dropout   train accuracy  test accuracy     gap  train loss  test loss   time\n",
    );
    for (run, last) in runs.iter().filter_map(|run| Some((run, run.history.last()?))) {
        let _ = writeln!(
            text,
            "{:<8}  {:>14}  {:>13}  {:>+6.2}  {:>10.4}  {:>9.4}  {:>4.1} s",
            run.rates,
            percent(last.train_accuracy),
            percent(last.test_accuracy),
            100.0 * gap(last),
            last.train_loss,
            last.test_loss,
            seconds(&run.history),
        );
    }
    text
}

fn summary(run: &Run<'_>) -> Option<Value> {
    let last = run.history.last()?;
    Some(json!({
        "p": last.p,
        "dropout": run.rates,
        "train_accuracy": last.train_accuracy,
        "test_accuracy": last.test_accuracy,
        "train_loss": last.train_loss,
        "test_loss": last.test_loss,
        "seconds": seconds(&run.history),
    }))
}

fn seconds(history: &[Epoch]) -> f64 {
    history.iter().map(|epoch| epoch.seconds).sum()
}
