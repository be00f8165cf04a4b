// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rounds in which kiln and each of its peers have their turn, in an order that moves on from round to round.

use kiln::Precision;

use super::measure::percentiles;
use super::networks::{Case, Rates};
use super::noise::{is_noisy, median};
use super::parity::{self, Outcome, References};
use super::peer::{Rival, Team};
use super::row::{Row, KILN};
use super::rows::Report;
use super::{Result, Target};

/// A rival in a case.
#[derive(Clone, Debug)]
pub(crate) struct Opponent {
    pub(crate) rival: Rival,
    pub(crate) outcome: Outcome,
    /// Microseconds of a step, round by round.
    pub(crate) us: Vec<f64>,
}

/// kiln's side: percentiles of each round, none of a simulated device.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    own: Vec<[f64; 3]>,
    opponents: Vec<Opponent>,
}

/// Where a case's inputs are, and how long a turn lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) feed: &'static str,
    pub(crate) rounds: usize,
    pub(crate) milliseconds: u64,
}

/// Those that are asked to take turns, once it is known what they compute.
pub(crate) fn opponents(
    case: &Case,
    precision: Precision,
    target: Target,
    team: &mut Team,
    report: &mut Report,
) -> Result<Vec<Opponent>> {
    let mut opponents = Vec::new();
    let mut references = References::new(target.place);
    for rival in team.rivals().into_iter().filter(|_| case.has_peer) {
        match parity::verdict(case, precision, &mut references, team, &rival)? {
            Outcome::HasNone(why) => {
                let what = format!("{} in {} {precision}", rival.name(), case.id());
                report.left_out(&what, &why);
            }
            outcome => opponents.push(Opponent { rival, outcome, us: Vec::new() }),
        }
    }
    Ok(opponents)
}

/// Lets all take turns; `own` is kiln's.
pub(crate) fn take(
    case: &Case,
    precision: Precision,
    turn: Turn,
    team: &mut Team,
    mut opponents: Vec<Opponent>,
    mut own: impl FnMut() -> Result<Option<[f64; 3]>>,
) -> Result<Turns> {
    let mut times = Vec::new();
    let sides = opponents.len() + 1;
    let rounds = if sides == 1 { 1 } else { turn.rounds };
    'rounds: for round in 0..rounds {
        let mut is_timed = true;
        for turn_of in (0..sides).map(|at| (round + at) % sides) {
            if turn_of == 0 {
                match own()? {
                    Some(us) => times.push(us),
                    None => is_timed = false,
                }
                continue;
            }
            let Opponent { rival, outcome, us } = &mut opponents[turn_of - 1];
            if matches!(outcome, Outcome::Broken(_)) {
                continue;
            }
            match team.time(rival, &case.id(), precision, turn.feed, turn.milliseconds) {
                Ok(time) => us.push(time),
                Err(why) => *outcome = Outcome::Broken(why.to_string()),
            }
        }
        if !is_timed {
            break 'rounds;
        }
    }
    Ok(Turns { own: times, opponents })
}

impl Turns {
    /// kiln's row and each peer's, of which `row` has what they have in common.
    pub(crate) fn rows(self, row: &Row, team: &Team) -> Vec<Row> {
        let rounds: Vec<f64> = self.own.iter().map(|us| us[1]).collect();
        let mut sorted = self.own;
        sorted.sort_unstable_by(|a, b| a[1].total_cmp(&b[1]));
        let us = sorted.get(sorted.len() / 2).copied();
        let mut rows =
            vec![Row { peer: KILN.into(), us, rounds_us: rounds.clone(), ..row.clone() }];
        for Opponent { rival, outcome, us } in self.opponents {
            let version = team.version(rival.library());
            let row = Row { peer: rival.name(), version, ..row.clone() };
            rows.push(beside(row, outcome, us, &rounds));
        }
        rows
    }
}

/// A peer's row; a device that is not timed leaves no round of kiln's, and then a peer's are no figures either.
fn beside(row: Row, outcome: Outcome, us: Vec<f64>, own: &[f64]) -> Row {
    let of_rounds = |row: Row| match own.is_empty() {
        true => row,
        false => {
            let mut sorted = us.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            Row { us: Some(percentiles(&sorted)), rounds_us: us.clone(), ..row }
        }
    };
    let rates = match outcome {
        Outcome::Broken(why) | Outcome::HasNone(why) => return Row { broken: Some(why), ..row },
        Outcome::Differs(what) => return Row { differs: Some(what), ..of_rounds(row) },
        Outcome::Same(rates) => rates,
    };
    let compared = (rates == Rates::Zero).then(|| "with p = 0".to_owned());
    let mut ratios: Vec<f64> = us.iter().zip(own).map(|(peer, own)| peer / own).collect();
    let mut row = Row { compared, ..of_rounds(row) };
    ratios.sort_unstable_by(f64::total_cmp);
    if let (Some(&least), Some(&most)) = (ratios.first(), ratios.last()) {
        row.ratio_range = Some([least, most]);
        row.noisy = is_noisy(&ratios);
        row.ratio = Some(median(ratios));
    }
    row
}
