// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask rates`: kernels and training steps as shares of what the machine gives at the same moment.

mod case;
#[path = "../../../benches/kernel/isolated.rs"]
mod isolated;
pub(crate) mod measure;
mod report;
mod steps;
mod subject;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use kiln::backend::cpu::Cpu;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::peers;
use crate::peers::peer::Peer;
use crate::peers::program::{Library, Program};
use crate::peers::talk::PATIENCE;
use crate::peers::workload::{self, Amount, Workload};
use crate::Result;
use case::{Case, Work, CASES};
use measure::{Beside, Meter};
use report::{Machine, Report};
use steps::Planned;

/// Measure the machine's multiply-adds and copies, and in turns with them every kernel and training step
/// of the CPU; with TORCH_PYTHON beside PyTorch.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of threads, each a run of its own.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    threads: Vec<NonZeroUsize>,
    /// Only cases whose names hold one of these words.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Three short turns instead of nine long ones.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a share is below its floor.
    #[arg(long)]
    check: bool,
}

/// Runs all cases at all numbers of threads.
pub fn run(args: &Args) -> Result<ExitCode> {
    let is_wanted = |case: &&Case| {
        args.cases.is_empty() || args.cases.iter().any(|word| case.name.contains(word.as_str()))
    };
    let cases: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        return Err(format!("cases: expected words of {}", names.join(", ")).into());
    }
    let python = Library::Torch.find(None).ok();
    let mut report = Report { instructions: Cpu::instruction_set(), ..Report::default() };
    for &threads in &args.threads {
        measure_all(args, python.as_ref(), &cases, threads, &mut report)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    if report.instructions != "AVX-512" {
        eprintln!("the floors are those of AVX-512: shares are not held to them here");
    }
    let missed = report.missed();
    if !args.check || missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for row in missed {
        eprintln!("below its floor: {row}");
    }
    Ok(ExitCode::FAILURE)
}

fn measure_all(
    args: &Args,
    python: Option<&Program>,
    cases: &[&Case],
    threads: NonZeroUsize,
    report: &mut Report,
) -> Result<()> {
    let patience = Duration::from_secs(PATIENCE);
    let mut peer = python.map(|python| Peer::start(python, threads, patience)).transpose()?;
    report.torch = peer.as_ref().map(|peer| peer.version().to_owned());
    let mut meter = Meter::new(threads);
    report.machine.push(Machine::new(threads, meter.clock().name()));
    let turns = if args.quick { [3, 30] } else { [9, 150] };
    let mut planned: Option<Planned> = None;
    for case in cases {
        eprintln!("{}, threads {threads}", case.name);
        match case.work {
            Work::Steps { of, picks } => {
                if planned.as_ref().is_none_or(|planned| planned.subject != of) {
                    // The old one's memory goes before the new one's comes.
                    drop(planned.take());
                    planned = Some(Planned::new(of, threads)?);
                }
                let Some(planned) = &mut planned else { continue };
                let mut chosen = planned.choose(picks)?;
                let moved = chosen.moved;
                let found = meter.turns(&mut chosen, moved, None, turns)?;
                report.add(case, threads, chosen.amount()?, &found);
            }
            Work::Whole(name) => {
                let same = peers::case::Case::parse(name)?;
                let mut workload = workload::build(same, threads)?;
                let amount = workload.amount()?;
                let moved = match amount {
                    Amount::Bytes(bytes) => bytes / 2, // forward and backward
                    Amount::Flops(_) => 0,
                };
                let beside = peer.as_mut().map(|peer| Beside { peer, case: same });
                let found = meter.turns(&mut *workload, moved, beside, turns)?;
                report.add(case, threads, amount, &found);
            }
        }
    }
    Ok(())
}

/// Normally distributed numbers, the same every time.
fn random_values(count: usize) -> Vec<f32> {
    ChaCha8Rng::seed_from_u64(7).sample_iter(StandardNormal).take(count).collect()
}
