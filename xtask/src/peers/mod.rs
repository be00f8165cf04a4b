// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask peers`: kiln and PyTorch eager, timed in turn in one run; and draws of Monte Carlo dropout
//! beside single passes.

pub(crate) mod case;
mod check;
mod monte_carlo;
mod network;
pub(crate) mod peer;
pub(crate) mod report;
pub(crate) mod workload;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use crate::clock::Clock;
use crate::Result;
use case::{Case, Rival, CASES};
use monte_carlo::{MonteCarlo, Way};
use peer::Peer;
use report::{median, Report, Row};
use workload::Workload;

/// The variable that names the Python to use.
pub(crate) const PYTHON: &str = "TORCH_PYTHON";

/// Time kiln and PyTorch eager in turn and print the ratios.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of threads, each a run of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<NonZeroUsize>,
    /// Cases to run; all by default.
    #[arg(long, value_delimiter = ',', value_parser = Case::parse)]
    cases: Vec<&'static Case>,
    /// How often kiln and its peers take turns.
    #[arg(long, default_value = "9", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each turn lasts; a turn is at least one step.
    #[arg(long, default_value = "400", value_parser = clap::value_parser!(u64).range(1..))]
    milliseconds: u64,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a ratio is below its bar.
    #[arg(long)]
    check_bars: bool,
}

/// Runs all cases at all numbers of threads.
pub fn run(args: &Args) -> Result<ExitCode> {
    let cases: Vec<&Case> = match args.cases.as_slice() {
        [] => CASES.iter().collect(),
        chosen => chosen.to_vec(),
    };
    if args.check_bars {
        every_row_has_a_bar(&cases, &args.threads)?;
    }
    let python = std::env::var_os(PYTHON).ok_or_else(|| {
        format!("{PYTHON}: expected the path of a Python with torch, got nothing")
    })?;
    let mut report = Report::default();
    for &threads in &args.threads {
        compare(args, &python, &cases, threads, &mut report)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    if report.rows.iter().any(|row| row.noisy) {
        eprintln!("noisy rows prove nothing: run again on a machine that does nothing else");
    }
    let missed = report.missed();
    if !args.check_bars || missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for row in missed {
        eprintln!("below its bar: {row}");
    }
    Ok(ExitCode::FAILURE)
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

/// All cases at one number of threads: first agreement, then time.
fn compare(
    args: &Args,
    python: &OsString,
    cases: &[&Case],
    threads: NonZeroUsize,
    report: &mut Report,
) -> Result<()> {
    let mut peer = Peer::start(python, threads)?;
    report.torch = peer.version().to_owned();
    for case in cases {
        eprintln!("{}, threads {threads}", case.name);
        let rivals = case.rivals();
        let mut losses = Vec::with_capacity(rivals.len());
        for &rival in rivals {
            losses.push(match rival {
                Rival::Torch(torch) => check::agree(case, threads, &mut peer, torch)?,
                // The draws of one run are those of single passes: tests compare them bit by bit.
                Rival::SinglePasses => None,
            });
        }
        let turns = take_turns(args, case, threads, &mut peer)?;
        for (index, &rival) in rivals.iter().enumerate() {
            report.rows.push(Row::new(case, threads, rival, losses[index], &turns, index));
        }
    }
    Ok(())
}

/// One round: the median step of kiln and of each rival, in milliseconds.
struct Turns {
    kiln: f64,
    rivals: Vec<f64>,
}

fn take_turns(
    args: &Args,
    case: &Case,
    threads: NonZeroUsize,
    peer: &mut Peer,
) -> Result<Vec<Turns>> {
    let mut workload = workload::build(case, threads)?;
    let mut single_passes = match case.work {
        case::Work::MonteCarlo => Some(MonteCarlo::new(Way::SinglePasses, threads)?),
        _ => None,
    };
    let time = |workload: &mut dyn Workload| {
        workload::time(workload, args.milliseconds, Clock::Passed).map(median)
    };
    let mut rounds = Vec::with_capacity(args.rounds as usize);
    for _ in 0..args.rounds {
        let kiln = time(&mut *workload)?;
        let mut rivals = Vec::new();
        for &rival in case.rivals() {
            rivals.push(match (rival, &mut single_passes) {
                (Rival::Torch(torch), _) => peer.time(case, torch, args.milliseconds)?.passed,
                (Rival::SinglePasses, Some(passes)) => time(passes)?,
                (Rival::SinglePasses, None) => {
                    return Err(format!("{}: expected draws to repeat", case.name).into());
                }
            });
        }
        rounds.push(Turns { kiln, rivals });
    }
    Ok(rounds)
}
