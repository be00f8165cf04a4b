// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln plot`: the curves of several runs in one drawing.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use kiln::checkpoint::write_atomically;
use kiln::{Error, Result};
use serde_json::{json, Value};

use super::chart::{self, Curve};
use super::metrics::{percent, Epoch};
use super::output::Output;
use super::train::METRICS_FILE;

#[derive(Debug, Args)]
pub(super) struct PlotArgs {
    /// Run directories
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The drawing to write, an SVG
    #[arg(long, value_name = "FILE", default_value = "plot.svg")]
    out: PathBuf,
    /// What stands above it; the file's name if not given
    #[arg(long)]
    title: Option<String>,
}

pub(super) fn run(args: &PlotArgs, output: &mut Output) -> Result<()> {
    if args.out.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("svg")) {
        return Err(Error::argument("out", "a file that ends in .svg", args.out.display()));
    }
    let mut histories = Vec::new();
    let mut errors = Vec::new();
    for run in &args.runs {
        match read(run) {
            Ok(found) => histories.extend(found),
            Err(error) => errors.push(error),
        }
    }
    Error::check(errors)?;
    if histories.len() > chart::MOST_CURVES {
        let expected = format!("at most {} runs in one drawing", chart::MOST_CURVES);
        return Err(Error::argument("run", expected, histories.len()));
    }
    let curves: Vec<Curve<'_>> = histories
        .iter()
        .map(|History { label, epochs }| Curve { label: label.clone(), history: epochs })
        .collect();
    let name = args.out.file_stem().unwrap_or_default().to_string_lossy();
    let title = args.title.as_deref().unwrap_or(&name);
    write_atomically(&args.out, chart::draw(title, &curves)?.as_bytes())?;
    for History { label, epochs } in &histories {
        let Some(last) = epochs.last() else { continue };
        output.result(&format!(
            "{label}: {} epochs, test accuracy {}, loss {:.4}",
            last.epoch,
            percent(last.test_accuracy),
            last.test_loss
        ))?;
    }
    output.note(&args.out.display().to_string())?;
    output.json(&json!({
        "out": args.out.display().to_string(),
        "runs": histories.iter().map(History::object).collect::<Vec<_>>(),
    }))
}

/// What a run measured.
struct History {
    label: String,
    epochs: Vec<Epoch>,
}

impl History {
    fn object(&self) -> Value {
        json!({ "run": self.label, "epochs": self.epochs.len(), "last": self.epochs.last() })
    }
}

/// The histories in a run directory: that of a training, or those of a comparison.
fn read(run: &Path) -> Result<Vec<History>> {
    let path = run.join(METRICS_FILE);
    if fs::metadata(run).map_err(Error::io("read", run))?.is_dir() && !path.exists() {
        let expected = format!("a run directory, which holds {METRICS_FILE}");
        return Err(Error::argument("run", expected, run.display()));
    }
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let mut histories: Vec<Vec<Epoch>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let epoch: Epoch = serde_json::from_str(line).map_err(|error| Error::Text {
            path: path.clone(),
            line: index as u64 + 1,
            expected: "what was measured after an epoch".into(),
            got: error.to_string(),
        })?;
        match histories.last_mut().filter(|history| follows(history, &epoch)) {
            Some(history) => history.push(epoch),
            None => histories.push(vec![epoch]),
        }
    }
    if histories.is_empty() {
        let expected = "a run that came to the end of an epoch";
        return Err(Error::argument("run", expected, run.display()));
    }
    let several = histories.len() > 1;
    let label = |epochs: &[Epoch]| match epochs[0].p.filter(|_| several) {
        Some(p) => format!("{} p = {p}", run.display()),
        None => run.display().to_string(),
    };
    let history = |epochs: Vec<Epoch>| History { label: label(&epochs), epochs };
    Ok(histories.into_iter().map(history).collect())
}

/// Whether an epoch goes on with a history.
fn follows(history: &[Epoch], epoch: &Epoch) -> bool {
    history.last().is_none_or(|last| epoch.epoch > last.epoch)
}
