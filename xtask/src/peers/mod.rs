// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask peers`: kiln and what a user would take instead, timed in turn in one run; and draws of Monte
//! Carlo dropout beside single passes.

pub(crate) mod case;
mod check;
pub(crate) mod cost;
pub(crate) mod gpu;
mod monte_carlo;
pub(crate) mod network;
mod noise;
pub(crate) mod peer;
mod process;
pub(crate) mod program;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod serve;
pub(crate) mod talk;
mod team;
mod turns;
pub(crate) mod workload;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::Result;
use case::{Case, CASES};
use program::{Library, Program};
use record::Record;
use report::Report;
use team::Team;

/// Time kiln, PyTorch, burn and candle in turn and print the ratios.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The processor, a GPU (`cuda`), or one of several (`cuda:1`).
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Where,
    /// Numbers of threads on the CPU, each a run of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<NonZeroUsize>,
    /// Cases to run on the CPU; all by default.
    #[arg(long, value_delimiter = ',', value_parser = Case::parse)]
    cases: Vec<&'static Case>,
    /// On a GPU, only the training steps whose names hold this.
    #[arg(long, value_name = "WORD", default_value = "")]
    only: String,
    /// For a GPU, what `cargo bench --bench cuda` builds, instead of building it.
    #[arg(long, value_name = "PROGRAM")]
    bench: Option<PathBuf>,
    /// What takes turns with kiln; what is not there is left out.
    #[arg(long, value_delimiter = ',', default_value = "torch")]
    with: Vec<Library>,
    /// Where peer-burn, peer-burn-cuda and peer-candle are; by default where cargo leaves them.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Compiled PyTorch too; compiling takes a minute for each case.
    #[arg(long)]
    compile: bool,
    /// What a process costs too: the time to its first step, its memory, the program's size.
    #[arg(long)]
    costs: bool,
    /// Three short rounds.
    #[arg(long)]
    quick: bool,
    /// How often kiln and its peers take turns.
    #[arg(long, default_value = "9", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each turn lasts; a turn is at least one step.
    #[arg(long, default_value = "400", value_parser = clap::value_parser!(u64).range(1..))]
    milliseconds: u64,
    /// Seconds that a peer has for each answer, and ten times what a turn lasts; then it is ended and its row says so.
    /// Compiled PyTorch may want more.
    #[arg(long, value_name = "SECONDS", default_value_t = talk::PATIENCE, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// Keep the run in benches/runs, for `cargo xtask report`.
    #[arg(long)]
    record: bool,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a ratio is below its bar.
    #[arg(long)]
    check_bars: bool,
}

/// Where kiln and its peers compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Cpu,
    /// The GPU of this ordinal.
    Cuda(usize),
}

fn device(name: &str) -> std::result::Result<Where, String> {
    let ordinal = name.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or(rest));
    match (name, ordinal) {
        ("cpu", _) => Ok(Where::Cpu),
        ("cuda", _) => Ok(Where::Cuda(0)),
        (_, Some(ordinal)) if name != format!("cuda{ordinal}") => {
            ordinal.parse().map(Where::Cuda).map_err(|error| format!("{ordinal:?}: {error}"))
        }
        _ => Err("expected cpu, cuda or cuda:ORDINAL".into()),
    }
}

/// Runs all cases at all numbers of threads, or on a GPU.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Where::Cuda(ordinal) = args.device {
        return gpu::run(args, ordinal);
    }
    if !args.only.is_empty() || args.bench.is_some() {
        return Err("--only and --bench are for a GPU: --device cuda".into());
    }
    let cases: Vec<&Case> = match args.cases.as_slice() {
        [] if args.check_bars => CASES.iter().filter(|case| case.is_held_to_bars()).collect(),
        [] => CASES.iter().collect(),
        chosen => chosen.to_vec(),
    };
    if args.check_bars {
        every_row_has_a_bar(&cases, &args.threads)?;
    }
    let programs = found(args);
    if args.check_bars && !programs.iter().any(|(library, _)| *library == Library::Torch) {
        return Err("the bars are those to PyTorch, which takes no part".into());
    }
    let patience = Duration::from_secs(args.patience);
    let mut report = Report::default();
    for &threads in &args.threads {
        let mut team = Team::new(&programs, threads, patience);
        turns::compare(args, &mut team, &cases, threads, &mut report)?;
        for (library, version) in team.versions() {
            report.versions.insert(library.to_string(), version.to_owned());
        }
    }
    if args.costs {
        report.costs = cost::measure(&programs, patience)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    let code = conclude(args, &report);
    if args.record {
        let path = Record::new(report, None)?.save(Path::new(record::RUNS))?;
        eprintln!("kept in {}", path.display());
    }
    Ok(code)
}

/// The programs that are there; of the others it is said that they are left out.
fn found(args: &Args) -> Vec<(Library, Program)> {
    let mut programs = Vec::new();
    for &library in &args.with {
        match library.find(args.programs.as_deref()) {
            Ok(program) => programs.push((library, program)),
            Err(why) => eprintln!("left out: {library}, because {why}"),
        }
    }
    programs
}

fn conclude(args: &Args, report: &Report) -> ExitCode {
    if report.rows.iter().any(|row| row.noisy) {
        eprintln!("noisy rows prove nothing: run again on a machine that does nothing else");
    }
    if report.rows.iter().any(|row| row.is_broken()) {
        eprintln!("some peers gave no figures: their rows say why");
        return ExitCode::from(2);
    }
    let missed = report.missed();
    if !args.check_bars || missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    for row in missed {
        eprintln!("below its bar: {row}");
    }
    ExitCode::FAILURE
}

/// A check that passes because there was nothing to hold to would be worth nothing.
fn every_row_has_a_bar(cases: &[&Case], threads: &[NonZeroUsize]) -> Result<()> {
    for case in cases {
        for &threads in threads {
            let mut bars = case.rivals().iter().map(|&rival| case.bar(rival, threads));
            if bars.next().flatten().is_none() {
                let name = case.name;
                return Err(format!("{name}: there is no bar for {threads} threads").into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        let found = ["cpu", "cuda", "cuda:1"].map(device);
        assert_eq!(found, [Ok(Where::Cpu), Ok(Where::Cuda(0)), Ok(Where::Cuda(1))]);
        for wrong in ["gpu", "cuda1", "cuda:", "cuda:-1", "cuda:one", ""] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
    }
}
