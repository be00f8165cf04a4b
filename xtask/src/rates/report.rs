// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results, for people and for programs.

use std::fmt;
use std::num::NonZeroUsize;

use kiln::backend::cpu::Ceilings;
use serde::Serialize;

use super::case::{Case, Work, SCALING};
use super::measure::{Turn, PEERS};
use crate::peers::report::{is_noisy, median};
use crate::peers::workload::Amount;

/// All results of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// What the kernels compute with.
    pub(super) instructions: String,
    /// Version of PyTorch, if it took part.
    pub(super) torch: Option<String>,
    pub(super) machine: Vec<Machine>,
    pub(super) rows: Vec<Row>,
}

/// What so many threads reached before the first row.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    threads: usize,
    /// What durations are measured by.
    clock: &'static str,
    gflop_per_s: Option<f64>,
    /// Bytes read and written by a copy, and GB/s.
    copies: Vec<(usize, f64)>,
}

/// One case at one number of threads.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) case: &'static str,
    pub(super) threads: usize,
    unit: &'static str,
    /// Median over the turns of the median duration.
    ms: f64,
    /// In the unit.
    rate: f64,
    ceiling: f64,
    /// Median over the turns of the rate as a share of the ceiling in this turn, and the outermost.
    share: f64,
    share_min: f64,
    share_max: f64,
    noisy: bool,
    floor: Option<f64>,
    goal: Option<f64>,
    origin: Option<&'static str>,
    /// How much faster it is than with one thread, and how much it should be.
    scaling: Option<f64>,
    scaling_floor: Option<f64>,
    /// Shares of the ceiling that PyTorch reaches with the same work.
    torch_eager: Option<f64>,
    torch_best: Option<f64>,
}

impl Machine {
    pub(super) fn new(threads: NonZeroUsize, clock: &'static str) -> Self {
        let ceilings = Ceilings::measure(threads);
        let copies = ceilings.copies.iter().map(|copy| (copy.bytes, copy.rate / 1e9));
        Machine {
            threads: threads.get(),
            clock,
            gflop_per_s: ceilings.flops.map(|flops| flops / 1e9),
            copies: copies.collect(),
        }
    }
}

impl Report {
    /// Sums up the turns of a case, of which there is at least one.
    pub(super) fn add(
        &mut self,
        case: &Case,
        threads: NonZeroUsize,
        amount: Amount,
        turns: &[Turn],
    ) {
        let (unit, count) = match amount {
            Amount::Flops(flops) => ("GFLOP/s", flops as f64),
            Amount::Bytes(bytes) => ("GB/s", bytes as f64),
        };
        let share = |ms: f64, turn: &Turn| count / (ms / 1e3) / turn.ceiling;
        let mut shares: Vec<f64> = turns.iter().map(|turn| share(turn.kiln, turn)).collect();
        shares.sort_unstable_by(f64::total_cmp);
        let of_peer = |index: usize| {
            let shares: Option<Vec<f64>> =
                turns.iter().map(|turn| Some(share(*turn.peers.get(index)?, turn))).collect();
            shares.map(median)
        };
        let ms = median(turns.iter().map(|turn| turn.kiln).collect());
        let is_known = threads.get() == 1 && self.instructions == "AVX-512";
        let floor = case.floor.filter(|_| is_known);
        let is_whole = matches!(case.work, Work::Whole(_));
        let alone = self.rows.iter().find(|row| row.case == case.name && row.threads == 1);
        let alone = alone.filter(|_| threads.get() > 1);
        let row = Row {
            case: case.name,
            threads: threads.get(),
            unit,
            ms,
            rate: count / ms / 1e6,
            ceiling: median(turns.iter().map(|turn| turn.ceiling).collect()) / 1e9,
            share_min: shares[0],
            share_max: shares[shares.len() - 1],
            noisy: is_noisy(&shares),
            share: median(shares),
            floor: floor.map(|floor| floor.least),
            goal: floor.map(|floor| floor.goal),
            origin: floor.map(|floor| floor.origin),
            scaling: alone.map(|alone| alone.ms / ms),
            scaling_floor: (threads.get() == 2 && is_whole && case.floor.is_some())
                .then_some(SCALING),
            torch_eager: of_peer(0),
            torch_best: of_peer(1),
        };
        self.rows.push(row);
    }

    /// The rows below their floor.
    pub(super) fn missed(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.is_missed()).collect()
    }
}

impl Row {
    fn is_missed(&self) -> bool {
        let below = |got: Option<f64>, floor: Option<f64>| {
            got.zip(floor).is_some_and(|(got, floor)| got < floor)
        };
        below(Some(self.share), self.floor) || below(self.scaling, self.scaling_floor)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; shares are of the ceiling in the same turn", self.instructions)?;
        for machine in &self.machine {
            let flops = machine.gflop_per_s.map_or("none".into(), |rate| format!("{rate:.1}"));
            write!(f, "{} threads: multiply-adds {flops} GFLOP/s, copies", machine.threads)?;
            for (bytes, rate) in &machine.copies {
                write!(f, " {:.1} MiB {rate:.1}", *bytes as f64 / f64::from(1 << 20))?;
            }
            writeln!(f, " GB/s; by {}", machine.clock)?;
        }
        if let Some(torch) = &self.torch {
            writeln!(f, "PyTorch {torch}: its shares for the same work")?;
        }
        write!(
            f,
            "{:<28} {:>7} {:>9} {:>14} {:>6} {:>13} {:>6} {:>5} {:>7} {:>11} {:>10}",
            "case",
            "threads",
            "ms",
            "rate",
            "share",
            "(min-max)",
            "floor",
            "goal",
            "scaling",
            PEERS[0].name(),
            PEERS[1].name(),
        )?;
        self.rows.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        let range = format!("({:.2}-{:.2})", self.share_min, self.share_max);
        let rate = format!("{:.1} {}", self.rate, self.unit);
        write!(
            f,
            "{:<28} {:>7} {:>9.3} {rate:>14} {:>6.2} {range:>13} {:>6} {:>5} {:>7} {:>11} {:>10}{}{}",
            self.case,
            self.threads,
            self.ms,
            self.share,
            or_dash(self.floor),
            or_dash(self.goal),
            or_dash(self.scaling),
            or_dash(self.torch_eager),
            or_dash(self.torch_best),
            if self.is_missed() { "  missed" } else { "" },
            if self.noisy { "  noisy" } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::CASES;
    use super::*;

    fn turn(kiln: f64, peers: &[f64]) -> Turn {
        Turn { kiln, ceiling: 100e9, peers: peers.to_vec() }
    }

    fn report(instructions: &str, threads: &[usize], ms: &[f64]) -> Report {
        let mut report = Report { instructions: instructions.into(), ..Report::default() };
        let case = CASES.iter().find(|case| case.name == "c64sgd").expect("a case");
        for (&threads, &ms) in threads.iter().zip(ms) {
            let threads = NonZeroUsize::new(threads).expect("one or more");
            let turns = [turn(ms, &[2.0 * ms, ms]), turn(2.0 * ms, &[4.0 * ms, ms])];
            report.add(case, threads, Amount::Flops(1_000_000_000), &turns[..1]);
        }
        report
    }

    #[test]
    fn a_share_is_held_to_its_floor_where_that_is_known() {
        // 1 GFLOP in 20 ms is half of 100 GFLOP/s, and the floor is 0.62.
        let slow = report("AVX-512", &[1], &[20.0]);
        let row = &slow.rows[0];
        assert!((row.share - 0.5).abs() < 1e-12 && (row.rate - 50.0).abs() < 1e-9, "{row:?}");
        assert!((row.torch_eager.unwrap() - 0.25).abs() < 1e-12, "{row:?}");
        assert_eq!(slow.missed().len(), 1);
        assert!(slow.to_string().ends_with("  missed"), "{slow}");
        assert_eq!(report("AVX-512", &[1], &[15.0]).missed().len(), 0);
        assert_eq!(report("AVX2", &[1], &[20.0]).missed().len(), 0);
    }

    #[test]
    fn two_threads_are_compared_with_one() {
        let good = report("AVX2", &[1, 2], &[20.0, 11.0]);
        assert!((good.rows[1].scaling.unwrap() - 20.0 / 11.0).abs() < 1e-12);
        assert_eq!(good.missed().len(), 0);
        let bad = report("AVX2", &[1, 2], &[20.0, 15.0]);
        assert_eq!(bad.missed().len(), 1);
        assert_eq!(report("AVX2", &[2], &[15.0]).missed().len(), 0, "nothing to compare with");
    }
}
