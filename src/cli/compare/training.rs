// SPDX-License-Identifier: MIT OR Apache-2.0
//! One training of a comparison, in a run directory of its own: one that is finished is not repeated,
//! one that was interrupted goes on.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln::checkpoint::{write_atomically, DirectoryLock, TRAINING_FILE};
use kiln::data::{Dataset, Loader, LoaderConfig};
use kiln::uncertainty::{Bins, Probabilities};
use kiln::{Error, Result};

use super::figures::{Figures, Finished};
use crate::cli::interrupt::{Interrupt, Signal};
use crate::cli::metrics;
use crate::cli::network::{AnyNet, Feed};
use crate::cli::outcome::Failure;
use crate::cli::output::Output;
use crate::cli::run_dir::{self, RUN_FILE};
use crate::cli::session::{Advance, Session};
use crate::cli::settings::Stretch;
use crate::cli::train::{explain, METRICS_FILE};

/// The file that says that a training is finished, and what it came to.
const FINISHED_FILE: &str = "finished.json";

/// Least time between checkpoints: short trainings would spend more on them than on training.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Samples per batch where batches make no difference.
const BATCH: usize = 256;

/// In which mode a network is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Train,
    Eval,
}

/// What a finished training came to, if it is finished. Times are taken from its metrics, as far as
/// they are there.
pub(super) fn finished(own: &Path) -> Result<Option<Finished>> {
    let path = own.join(FINISHED_FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(Error::io("read", &path))?,
    };
    let parsed = serde_json::from_slice(&bytes);
    let mut finished: Finished = parsed.map_err(|error| Error::Checkpoint {
        path,
        mismatches: vec![format!("not the end of a training: {error}")],
    })?;
    metrics::restore_times(&own.join(METRICS_FILE), &mut finished.history);
    Ok(Some(finished))
}

/// Trains to the end, or to a signal, from where the directory stands.
pub(super) fn train(
    mut session: Session,
    own: &Path,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<Option<Signal>, Failure> {
    advance(&mut session, own, interrupt, output).map_err(|error| {
        output.finish();
        let kept = own.join(TRAINING_FILE).is_file();
        if !kept {
            remove_what_is_worth_nothing(own);
        }
        match error {
            Error::NonFinite { .. } => Failure::with_advice(
                explain(session, error, kept.then_some(own)),
                "try a lower --lr, or go on regardless with --non-finite continue".into(),
            ),
            error => error.into(),
        }
    })
}

fn advance(
    session: &mut Session,
    own: &Path,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<Option<Signal>> {
    fs::create_dir_all(own).map_err(Error::io("create", own))?;
    let _lock = DirectoryLock::acquire(own)?;
    if own.join(TRAINING_FILE).is_file() {
        session.resume(own, Stretch::No)?;
    }
    run_dir::record(own, session.device())?;
    let metrics_file = own.join(METRICS_FILE);
    metrics::rewrite(&metrics_file, session.history())?;
    let mut saved = Instant::now();
    while session.remaining() > 0 {
        match session.epoch(output)? {
            Advance::Epoch(epoch) => metrics::append(&metrics_file, epoch)?,
            Advance::Stopped(signal) => {
                output.finish();
                session.save(own)?;
                return Ok(Some(signal));
            }
        }
        if session.remaining() > 0 && saved.elapsed() >= SAVE_EVERY {
            session.save(own)?;
            saved = Instant::now();
        }
    }
    session.save(own)?;
    let Some(figures) = measure(session, interrupt)? else {
        return Ok(Some(interrupt.caught().unwrap_or(Signal::Interrupt)));
    };
    let finished = Finished { figures, history: session.history().to_vec() };
    write_atomically(own.join(FINISHED_FILE), &without_times(&finished)?)?;
    Ok(None)
}

/// Measures at the end; `None` if a signal came first. Passes in train mode move the statistics of batch
/// norm, so they come last, and nothing is saved behind them.
fn measure(session: &mut Session, interrupt: &Interrupt) -> Result<Option<Figures>> {
    let Some(last) = session.history().last().cloned() else { return Ok(None) };
    let (feed, batch) = (session.settings().net.feed(), session.settings().step.batch.get());
    let (sets, classes) = (session.sets(), session.sets().sizes().classes);
    let (test, train) = (Arc::clone(&sets.test), Arc::clone(&sets.measured));
    let net = session.net();
    let Some([_, ece]) = look(net, Mode::Eval, (feed, classes), &test, BATCH, interrupt)? else {
        return Ok(None);
    };
    let in_train_mode = look(net, Mode::Train, (feed, classes), &train, batch, interrupt)?;
    Ok(in_train_mode.map(|[train_mode_accuracy, _]| Figures {
        train_mode_accuracy,
        train_accuracy: last.train_accuracy,
        test_accuracy: last.test_accuracy,
        train_loss: last.train_loss,
        test_loss: last.test_loss,
        ece,
    }))
}

/// Accuracy and calibration error; NaN if some scores are no numbers.
fn look(
    net: &mut AnyNet,
    mode: Mode,
    (feed, classes): (Feed, usize),
    set: &Arc<dyn Dataset>,
    batch: usize,
    interrupt: &Interrupt,
) -> Result<Option<[f64; 2]>> {
    let config = LoaderConfig { batch_size: batch, ..LoaderConfig::default() };
    let (mut probabilities, mut known) = (Probabilities::new(classes)?, Vec::new());
    for batch in Loader::new(Arc::clone(set), config)?.epoch() {
        if interrupt.caught().is_some() {
            return Ok(None);
        }
        let (x, labels) = feed.tensors(batch?)?;
        let mut view = match mode {
            Mode::Train => net.train(),
            Mode::Eval => net.eval(),
        };
        let scores = view.forward(&x)?;
        if !scores.values()?.iter().all(|score| score.is_finite()) {
            return Ok(Some([f64::NAN; 2]));
        }
        probabilities.add_scores(&scores)?;
        known.extend_from_slice(labels.integers()?);
    }
    let ece = probabilities.calibration_error(&known, Bins::USUAL)?;
    Ok(Some([probabilities.accuracy(&known)?, ece]))
}

/// Equal trainings leave equal files.
fn without_times(finished: &Finished) -> Result<Vec<u8>> {
    let unwritten =
        |error: serde_json::Error| Error::Internal { pass: "compare", message: error.to_string() };
    let mut object = serde_json::to_value(finished).map_err(unwritten)?;
    let epochs = object["history"].as_array_mut();
    for epoch in epochs.into_iter().flatten().filter_map(|epoch| epoch.as_object_mut()) {
        epoch.remove("seconds");
    }
    serde_json::to_vec(&object).map_err(unwritten)
}

/// Empties and removes the directory of a training without a checkpoint.
fn remove_what_is_worth_nothing(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name == METRICS_FILE || name == RUN_FILE || DirectoryLock::is_trace(&name) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(own);
}
