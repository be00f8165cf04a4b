// SPDX-License-Identifier: MIT OR Apache-2.0
//! A case: first whether all sides compute the same, then rounds in which each has its turn, in an order that
//! moves on from round to round.

use std::num::NonZeroUsize;

use super::case::{Case, Rival, Work};
use super::check::{self, Losses, Verdict};
use super::monte_carlo::{MonteCarlo, Way};
use super::peer::{StepTime, Torch};
use super::report::{median, percentile, Report, Row, Side};
use super::team::Team;
use super::workload::{self, Amount, Workload};
use super::Args;
use crate::clock::Clock;
use crate::rates::measure::Meter;
use crate::Result;

/// Rounds and milliseconds of a turn with `--quick`.
const QUICK: (u32, u64) = (3, 60);

/// One side's figures, round by round.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// Milliseconds of a step: in the middle, and in the slowest hundredth.
    pub(super) middle: Vec<f64>,
    pub(super) slow: Vec<f64>,
}

/// What became of a rival.
pub(super) enum Outcome {
    /// It computes what kiln does.
    Same(Option<Losses>),
    /// It computes something else.
    Differs(String),
    /// It gave no figures.
    Broken(String),
}

/// A rival in a case.
struct Opponent {
    rival: Rival,
    outcome: Outcome,
    times: Times,
}

/// All cases at one number of threads.
pub(super) fn compare(
    args: &Args,
    team: &mut Team,
    cases: &[&Case],
    threads: NonZeroUsize,
    report: &mut Report,
) -> Result<()> {
    let mut meter = Meter::with_clock(threads, Clock::Passed);
    for case in cases {
        eprintln!("{}, threads {threads}", case.name);
        let mut opponents = Vec::new();
        for &rival in case.rivals() {
            let is_there = rival.library().is_none_or(|library| team.has(library));
            let is_wanted = rival != Rival::Torch(Torch::Compiled) || args.compile;
            if is_there && is_wanted {
                let outcome = verdict(case, rival, threads, team)?;
                opponents.push(Opponent { rival, outcome, times: Times::default() });
            }
        }
        let side = take_turns(args, case, threads, team, &mut opponents, &mut meter)?;
        report.rows.push(Row::of_kiln(case, threads, &side));
        for Opponent { rival, outcome, times } in opponents {
            report.rows.push(Row::new(case, threads, rival, outcome, &side, &times));
        }
    }
    Ok(())
}

fn verdict(case: &Case, rival: Rival, threads: NonZeroUsize, team: &mut Team) -> Result<Outcome> {
    let Some(library) = rival.library() else {
        // The draws of one run are those of single passes: tests compare them bit by bit.
        return Ok(Outcome::Same(None));
    };
    let mut broken = None;
    let mut ask = |directory: &std::path::Path| {
        let name = rival.case_name(case);
        let answer = team.ask(library, |peer| peer.step(&name, directory));
        answer.inspect_err(|error| broken = Some(error.to_string()))
    };
    let found = check::agree(case, threads, &mut ask);
    Ok(match (found, broken) {
        (_, Some(why)) => Outcome::Broken(why),
        (Ok(Verdict::Same(losses)), None) => Outcome::Same(losses),
        (Ok(Verdict::Differs(what)), None) => Outcome::Differs(what),
        (Err(error), None) => {
            return Err(format!("{}, {}: {error}", case.name, rival.name()).into())
        }
    })
}

/// How many rounds there are, and how many milliseconds a turn lasts.
pub(super) fn rounds(args: &Args) -> (u32, u64) {
    if args.quick {
        QUICK
    } else {
        (args.rounds, args.milliseconds)
    }
}

fn take_turns(
    args: &Args,
    case: &Case,
    threads: NonZeroUsize,
    team: &mut Team,
    opponents: &mut [Opponent],
    meter: &mut Meter,
) -> Result<Side> {
    let (rounds, milliseconds) = rounds(args);
    let mut workload = workload::build(case, threads)?;
    let mut single_passes = match case.work {
        Work::MonteCarlo => Some(MonteCarlo::new(Way::SinglePasses, threads)?),
        _ => None,
    };
    let amount = workload.amount()?;
    let moved = match amount {
        Amount::Bytes(bytes) => bytes / 2, // forward and backward
        Amount::Flops(_) => 0,
    };
    let mut side = Side { amount, times: Times::default(), ceilings: Vec::new() };
    let sides = opponents.len() + 1;
    for round in 0..rounds as usize {
        side.ceilings.push(meter.ceiling(amount, moved)?);
        for turn in 0..sides {
            match (round + turn) % sides {
                0 => side.times.push(time(&mut *workload, milliseconds)?),
                index => {
                    let opponent = &mut opponents[index - 1];
                    let passes = single_passes.as_mut();
                    opponent.turn(case, team, passes, milliseconds)?;
                }
            }
        }
    }
    Ok(side)
}

impl Opponent {
    fn turn(
        &mut self,
        case: &Case,
        team: &mut Team,
        single_passes: Option<&mut MonteCarlo>,
        milliseconds: u64,
    ) -> Result<()> {
        if matches!(self.outcome, Outcome::Broken(_)) {
            return Ok(());
        }
        match (self.rival.library(), single_passes) {
            (Some(library), _) => {
                let name = self.rival.case_name(case);
                match team.ask(library, |peer| peer.time(&name, milliseconds)) {
                    Ok(time) => self.times.push(time),
                    Err(why) => self.outcome = Outcome::Broken(why.to_string()),
                }
            }
            (None, Some(passes)) => self.times.push(time(passes, milliseconds)?),
            (None, None) => return Err(format!("{}: expected draws to repeat", case.name).into()),
        }
        Ok(())
    }
}

impl Times {
    fn push(&mut self, time: StepTime) {
        self.middle.push(time.passed);
        self.slow.push(time.slow);
    }
}

/// kiln's turn.
fn time(workload: &mut dyn Workload, milliseconds: u64) -> Result<StepTime> {
    let steps = workload::time(workload, milliseconds, Clock::Passed)?;
    Ok(StepTime { slow: percentile(&steps, 99), passed: median(steps), worked: None })
}
