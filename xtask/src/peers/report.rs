// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results, for people and for programs.

use std::fmt;
use std::num::NonZeroUsize;

use serde::Serialize;

use super::case::{Case, Rival};
use super::check::Losses;
use super::Turns;

/// Largest trustworthy ratio between the third and the first quartile of the rounds.
const NOISY: f64 = 1.5;

/// All results of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Version of PyTorch.
    pub(super) torch: String,
    pub(super) rows: Vec<Row>,
}

/// One case at one number of threads against one peer.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    case: &'static str,
    threads: usize,
    peer: &'static str,
    /// Median over the rounds of the median step.
    kiln_ms: f64,
    peer_ms: f64,
    /// Median over the rounds of the peer's time divided by kiln's.
    ratio: f64,
    /// The same in the worst and the best round: how far to trust the median.
    ratio_min: f64,
    ratio_max: f64,
    /// Whether even the middle half of the rounds lies too far apart to trust the median.
    pub(super) noisy: bool,
    bar: Option<f64>,
    loss_kiln: Option<f64>,
    loss_peer: Option<f64>,
}

impl Row {
    /// Sums up the rounds, of which there is at least one, against the rival at an index.
    pub(super) fn new(
        case: &Case,
        threads: NonZeroUsize,
        rival: Rival,
        losses: Option<Losses>,
        rounds: &[Turns],
        index: usize,
    ) -> Self {
        let mut ratios: Vec<f64> =
            rounds.iter().map(|turns| turns.rivals[index] / turns.kiln).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        Row {
            case: case.name,
            threads: threads.get(),
            peer: rival.name(),
            kiln_ms: median(rounds.iter().map(|turns| turns.kiln).collect()),
            peer_ms: median(rounds.iter().map(|turns| turns.rivals[index]).collect()),
            ratio_min: ratios[0],
            ratio_max: ratios[ratios.len() - 1],
            noisy: is_noisy(&ratios),
            ratio: median(ratios),
            bar: case.bar(rival, threads),
            loss_kiln: losses.map(|losses| losses.kiln),
            loss_peer: losses.map(|losses| losses.peer),
        }
    }
}

impl Report {
    /// The rows whose ratio is below their bar.
    pub(super) fn missed(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.bar.is_some_and(|bar| row.ratio < bar)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "PyTorch {}; ratio = its time / kiln's, median over the rounds", self.torch)?;
        write!(
            f,
            "{:<9} {:>7} {:<12} {:>9} {:>9} {:>6} {:>13} {:>5} {:>10}",
            "case", "threads", "peer", "kiln ms", "peer ms", "ratio", "(min-max)", "bar", "loss"
        )?;
        self.rows.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = format!("({:.2}-{:.2})", self.ratio_min, self.ratio_max);
        let noise = if self.noisy { "  noisy" } else { "" };
        let bar = self.bar.map_or("-".into(), |bar| format!("{bar:.1}"));
        let loss = self.loss_kiln.map_or("-".into(), |loss| format!("{loss:.6}"));
        write!(
            f,
            "{:<9} {:>7} {:<12} {:>9.3} {:>9.3} {:>6.2} {range:>13} {bar:>5} {loss:>10}{noise}",
            self.case, self.threads, self.peer, self.kiln_ms, self.peer_ms, self.ratio
        )
    }
}

/// Whether sorted values, of which there is at least one, lie too far apart: the third quartile over the
/// first tells.
pub(crate) fn is_noisy(sorted: &[f64]) -> bool {
    let last = sorted.len() - 1;
    sorted[last - last / 4] / sorted[last / 4] > NOISY
}

/// The middle value, or the mean of the two middle ones; NaN of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::CASES;
    use super::super::peer::Torch;
    use super::*;

    fn row(ratios: &[f64]) -> Row {
        let turns = |&ratio: &f64| Turns { kiln: 2.0, rivals: vec![2.0 * ratio] };
        let rounds: Vec<Turns> = ratios.iter().map(turns).collect();
        Row::new(&CASES[0], NonZeroUsize::MIN, Rival::Torch(Torch::Eager), None, &rounds, 0)
    }

    #[test]
    fn a_row_holds_the_median_ratio_to_its_bar() {
        let good = row(&[3.0, 2.7, 9.0]);
        assert_eq!((good.ratio, good.ratio_min, good.ratio_max), (3.0, 2.7, 9.0));
        let report = Report { torch: String::new(), rows: vec![good, row(&[2.5, 2.7, 1.0, 2.6])] };
        let missed: Vec<f64> = report.missed().iter().map(|row| row.ratio).collect();
        assert_eq!(missed, [2.55]);
    }

    /// Draws of one run have to beat single passes by far, and PyTorch's not at all.
    #[test]
    fn every_rival_has_a_bar_of_its_own() {
        let draws = Case::parse("mc32").expect("a case");
        let bars = draws.rivals().iter().map(|&rival| draws.bar(rival, NonZeroUsize::MIN));
        assert_eq!(bars.collect::<Vec<_>>(), [Some(1.0), Some(5.0)]);
        let names: Vec<&str> = draws.rivals().iter().map(|rival| rival.name()).collect();
        assert_eq!(names, ["torch-eager", "kiln-singles"]);
    }

    #[test]
    fn one_disturbed_round_is_not_noise_but_two_quarters_are() {
        assert!(!row(&[3.0, 3.1, 3.0, 3.2, 60.0]).noisy);
        assert!(row(&[1.0, 1.2, 3.0, 5.0, 60.0]).noisy);
    }
}
