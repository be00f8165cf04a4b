// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln lint`: mistakes with dropout, before anything is trained.

use std::path::Path;

use kiln::lint::{Batches, Case, Code, Finding, LastBatch, Level, Levels, Report, Severity, Use};
use kiln::loss::CrossEntropy;
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{Device, Error, Result, Trainer};
use serde_json::{json, Value};

use super::args::LintArgs;
use super::data::Sets;
use super::network::{self, AnyTrainer};
use super::output::Output;
use super::settings::{NetSettings, Settings};

/// Settings of a project, in the folder where the program is started.
const SETTINGS_FILE: &str = "kiln.toml";

/// Samples in a batch.
const BATCH: usize = 64;

pub(super) fn run(args: &LintArgs, output: &mut Output) -> Result<()> {
    if let Some(code) = args.explain {
        output.result(&code.rule().page())?;
        return output.json(&page(code));
    }
    let case = case(args)?;
    let settings = NetSettings::new(&args.net)?;
    let report = lint(settings, args, &case)?;
    output.result(&report.to_string())?;
    output.json(&json!({
        "net": settings.name().as_str(),
        "findings": report.findings.iter().map(object).collect::<Vec<_>>(),
        "denied": report.count(Severity::Deny),
        "warnings": report.count(Severity::Warn),
        "notes": report.count(Severity::Note),
    }))?;
    let denied = report.findings.iter().filter(|finding| finding.severity == Severity::Deny);
    let denied: Vec<String> = denied.map(|finding| finding.code.to_string()).collect();
    match denied.is_empty() {
        true => Ok(()),
        false => Err(Error::argument("net", "one in which nothing is denied", denied.join(", "))),
    }
}

/// Levels of the project in the current folder, or of the file given.
pub(super) fn levels(file: Option<&Path>) -> Result<Levels> {
    match file {
        Some(file) => Levels::from_file(file),
        None if Path::new(SETTINGS_FILE).exists() => Levels::from_file(SETTINGS_FILE),
        None => Ok(Levels::default()),
    }
}

/// What is found in a network that is about to be trained, by the levels of the current folder.
pub(super) fn before_training(
    trainer: &mut AnyTrainer,
    settings: &Settings,
    sets: &Sets,
) -> Result<Report> {
    let batch = settings.step.batch.get();
    let samples = sets.train.len();
    let batches = Some(Batches { samples, batch, last: LastBatch::Kept });
    let case = Case { batches, levels: levels(None)?, ..Case::default() };
    let batch = batch.min(samples);
    let x = settings.net.feed().types(batch, &*sets.train);
    trainer.lint_in(&case, &x, &TensorType::i32([batch].into()))
}

/// Shows what was found in a network that is about to be trained: mistakes in a line each, and the number
/// of notes.
pub(super) fn show(report: &Report, output: &mut Output) -> Result<()> {
    let is_note = |finding: &&Finding| finding.severity == Severity::Note;
    for finding in report.findings.iter().filter(|finding| !is_note(finding)) {
        output.note(&format!("{finding}; {}", finding.code.rule().mend))?;
    }
    let notes: Vec<String> = report
        .findings
        .iter()
        .filter(is_note)
        .map(|finding| format!("{} {}", finding.code, finding.layer))
        .collect();
    match notes.is_empty() {
        true => Ok(()),
        false => output.note(&format!(
            "notes on the network: {} (kiln lint --explain CODE says more)",
            notes.join(", ")
        )),
    }
}

fn case(args: &LintArgs) -> Result<Case> {
    let mut levels = levels(args.config.as_deref())?;
    for (codes, level) in
        [(&args.allow, Level::Allow), (&args.warn, Level::Warn), (&args.deny, Level::Deny)]
    {
        levels = codes.iter().fold(levels, |levels, code| levels.with(*code, level));
    }
    let batch = args.batch.map_or(BATCH, usize::from);
    let batches = args.samples.map(|samples| Batches {
        samples: samples.get(),
        batch,
        last: LastBatch::Kept,
    });
    let used = match args.monte_carlo {
        true => Use::MonteCarlo,
        false => Use::Training,
    };
    Ok(Case { used, batches, levels })
}

/// Looks at a classifier as it is trained.
fn lint(settings: NetSettings, args: &LintArgs, case: &Case) -> Result<Report> {
    let batch = args.batch.map_or(BATCH, usize::from);
    let net = network::net(settings, settings.usual_sizes()?, Device::cpu(), 0)?;
    let mut trainer = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1))?;
    trainer.lint_in(case, &settings.batch(batch), &TensorType::i32([batch].into()))
}

fn object(finding: &Finding) -> Value {
    let rule = finding.code.rule();
    json!({
        "code": rule.id,
        "name": rule.name,
        "severity": finding.severity.name(),
        "layer": finding.layer,
        "reason": finding.reason,
        "mend": rule.mend,
        "source": rule.source,
    })
}

fn page(code: Code) -> Value {
    let rule = code.rule();
    let grade = |(severity, place): &(Severity, &str)| json!({ "severity": severity.name(), "where": place });
    json!({
        "code": rule.id,
        "name": rule.name,
        "title": rule.title,
        "why": rule.why,
        "grades": rule.grades.iter().map(grade).collect::<Vec<_>>(),
        "mend": rule.mend,
        "source": rule.source,
    })
}
