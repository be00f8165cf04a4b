// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::case::{Case, Rival};
use super::cost::Cost;
use super::network::Rates;
pub(crate) use super::noise::{is_noisy, median};
use super::turns::{Outcome, Times};
use super::workload::Amount;

/// What kiln's own rows say of the peer.
const KILN: &str = "kiln";

/// All results of a run.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Report {
    /// What the libraries beside kiln call themselves.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) rows: Vec<Row>,
    /// What their processes cost, if that was asked for.
    pub(crate) costs: Vec<Cost>,
}

/// One case at one number of threads: kiln's figures, or those of a peer beside them.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) threads: usize,
    pub(crate) peer: String,
    /// Median over the rounds of the median step, and of the slowest hundredth; nothing of a peer that gave no
    /// figures.
    pub(crate) ms: Option<f64>,
    pub(crate) slow_ms: Option<f64>,
    pub(crate) samples_per_s: Option<f64>,
    /// Of what the machine gave in the same round: multiply-adds, or the bytes of a copy.
    pub(crate) share: Option<f64>,
    /// Median over the rounds of the peer's time divided by kiln's, if both compute the same.
    pub(crate) ratio: Option<f64>,
    /// The same in the worst and the best round: how far to trust the median.
    ratio_min: Option<f64>,
    ratio_max: Option<f64>,
    /// Whether even the middle half of the rounds lies too far apart to trust the median.
    pub(crate) noisy: bool,
    bar: Option<f64>,
    loss_kiln: Option<f64>,
    loss_peer: Option<f64>,
    /// What it was compared with instead of the case: it takes no masks.
    pub(crate) compared: Option<String>,
    /// What it computes instead of what kiln does.
    pub(crate) differs: Option<String>,
    /// Why it gave no figures.
    pub(crate) broken: Option<String>,
    /// Milliseconds of the median step, round by round.
    rounds_ms: Vec<f64>,
}

/// kiln's side of a case.
pub(super) struct Side {
    pub(super) amount: Amount,
    pub(super) times: Times,
    /// Multiply-adds or bytes per second that the machine gave, round by round.
    pub(super) ceilings: Vec<f64>,
}

impl Row {
    /// Sums up kiln's rounds, of which there is at least one.
    pub(super) fn of_kiln(case: &Case, threads: NonZeroUsize, side: &Side) -> Self {
        Self::of(case, threads, KILN, side, &side.times)
    }

    /// Sums up a rival's rounds beside kiln's.
    pub(super) fn new(
        case: &Case,
        threads: NonZeroUsize,
        rival: Rival,
        outcome: Outcome,
        side: &Side,
        times: &Times,
    ) -> Self {
        let bar = case.bar(rival, threads);
        let mut row = Row { bar, ..Self::of(case, threads, rival.name(), side, times) };
        match outcome {
            Outcome::Broken(why) => {
                let Row { case, threads, peer, bar, .. } = row;
                return Row { case, threads, peer, bar, broken: Some(why), ..Row::default() };
            }
            Outcome::Differs(what) => {
                row.differs = Some(what);
                return row;
            }
            Outcome::Same(losses) => {
                row.loss_kiln = losses.map(|losses| losses.kiln);
                row.loss_peer = losses.map(|losses| losses.peer);
                let without = losses.is_some_and(|losses| losses.rates == Rates::Zero);
                row.compared = without.then(|| "with p = 0".to_owned());
            }
        }
        let mut ratios: Vec<f64> =
            times.middle.iter().zip(&side.times.middle).map(|(peer, kiln)| peer / kiln).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        row.ratio_min = ratios.first().copied();
        row.ratio_max = ratios.last().copied();
        row.noisy = !ratios.is_empty() && is_noisy(&ratios);
        row.ratio = Some(median(ratios));
        row
    }

    fn of(case: &Case, threads: NonZeroUsize, peer: &str, side: &Side, times: &Times) -> Self {
        let work = match side.amount {
            Amount::Flops(amount) | Amount::Bytes(amount) => amount as f64,
        };
        let rates = times.middle.iter().zip(&side.ceilings);
        let shares = rates.map(|(ms, ceiling)| work / (ms / 1e3) / ceiling).collect();
        let ms = median(times.middle.clone());
        Row {
            case: case.name.to_owned(),
            threads: threads.get(),
            peer: peer.to_owned(),
            ms: Some(ms),
            slow_ms: Some(median(times.slow.clone())),
            samples_per_s: Some(case.samples() as f64 / ms * 1e3),
            share: Some(median(shares)),
            rounds_ms: times.middle.clone(),
            ..Row::default()
        }
    }

    /// Whether its peer gave no figures.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }
}

impl Report {
    /// The rows whose ratio is below their bar.
    pub(super) fn missed(&self) -> Vec<&Row> {
        let is_below = |row: &&Row| match (row.ratio, row.bar) {
            (Some(ratio), Some(bar)) => ratio < bar,
            (None, bar) => bar.is_some(),
            (Some(_), None) => false,
        };
        self.rows.iter().filter(is_below).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (library, version) in &self.versions {
            writeln!(f, "{library} {version}")?;
        }
        writeln!(f, "ratio = a peer's time / kiln's, median over the rounds")?;
        writeln!(f, "share = of the multiply-adds, or of the copied bytes of dropout alone, that the machine gave")?;
        write!(
            f,
            "{:<9} {:>7} {:<14} {:>9} {:>9} {:>12} {:>6} {:>6} {:>13} {:>5} {:>10}",
            "case",
            "threads",
            "peer",
            "ms",
            "p99 ms",
            "samples/s",
            "share",
            "ratio",
            "(min-max)",
            "bar",
            "loss"
        )?;
        self.rows.iter().try_for_each(|row| write!(f, "\n{row}"))?;
        if !self.costs.is_empty() {
            let [first, peak, size] = ["first step ms", "peak MiB", "program MiB"];
            write!(f, "\n\n{:<9} {first} {peak:>9} {size:>12}", "process")?;
        }
        self.costs.iter().try_for_each(|cost| write!(f, "\n{cost}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9} {:>7} {:<14}", self.case, self.threads, self.peer)?;
        if let Some(why) = &self.broken {
            return write!(f, " no figures: {why}");
        }
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        let range = match (self.ratio_min, self.ratio_max) {
            (Some(least), Some(most)) => format!("({least:.2}-{most:.2})"),
            _ => String::new(),
        };
        write!(
            f,
            " {:>9} {:>9} {:>12} {:>6} {:>6} {range:>13} {:>5} {:>10}",
            number(self.ms, 3),
            number(self.slow_ms, 3),
            number(self.samples_per_s, 0),
            number(self.share, 3),
            number(self.ratio, 2),
            number(self.bar, 1),
            number(self.loss_kiln, 6),
        )?;
        if let Some(what) = &self.differs {
            write!(f, "  computes something else: {what}")?;
        }
        if let Some(how) = &self.compared {
            write!(f, "  takes no masks: compared {how}")?;
        }
        f.write_str(if self.noisy { "  noisy" } else { "" })
    }
}

/// The value below which so many hundredths lie; NaN of nothing.
pub(crate) fn percentile(values: &[f64], hundredths: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last * hundredths).div_ceil(100)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::super::case::CASES;
    use super::super::peer::Torch;
    use super::*;

    fn times(middle: Vec<f64>) -> Times {
        Times { slow: middle.clone(), middle }
    }

    fn row_of(outcome: Outcome, ratios: &[f64]) -> Row {
        let kiln = times(vec![2.0; ratios.len()]);
        let side =
            Side { amount: Amount::Flops(4), times: kiln, ceilings: vec![8e3; ratios.len()] };
        let peer = times(ratios.iter().map(|ratio| 2.0 * ratio).collect());
        let rival = Rival::Torch(Torch::Eager);
        Row::new(&CASES[0], NonZeroUsize::MIN, rival, outcome, &side, &peer)
    }

    fn row(ratios: &[f64]) -> Row {
        row_of(Outcome::Same(None), ratios)
    }

    #[test]
    fn a_row_holds_the_median_ratio_to_its_bar() {
        let good = row(&[3.0, 2.7, 9.0]);
        let found = [good.ratio, good.ratio_min, good.ratio_max];
        assert_eq!(found, [Some(3.0), Some(2.7), Some(9.0)]);
        let rows = vec![good, row(&[2.5, 2.7, 1.0, 2.6])];
        let report = Report { rows, ..Report::default() };
        let missed: Vec<Option<f64>> = report.missed().iter().map(|row| row.ratio).collect();
        assert_eq!(missed, [Some(2.55)]);
    }

    /// 4 multiply-adds in 6 ms are 667 a second, of 8000 that there are.
    #[test]
    fn a_row_is_a_share_of_what_the_machine_gave() {
        let row = row(&[3.0]);
        assert!((row.share.expect("a share") - 1.0 / 12.0).abs() < 1e-12, "{row}");
        assert_eq!(row.samples_per_s.map(f64::round), Some(10_667.0));
    }

    /// No ratio, and so nothing that clears a bar.
    #[test]
    fn what_computes_something_else_has_times_and_no_ratio() {
        let row = row_of(Outcome::Differs("gradient.fc1.weight differs".into()), &[9.0]);
        assert_eq!((row.ms, row.ratio), (Some(18.0), None));
        assert!(row.to_string().ends_with("computes something else: gradient.fc1.weight differs"));
        let report = Report { rows: vec![row], ..Report::default() };
        assert_eq!(report.missed().len(), 1);
        let broken = row_of(Outcome::Broken("it is gone".into()), &[]);
        assert_eq!((broken.ms, broken.is_broken()), (None, true));
        assert!(broken.to_string().ends_with("no figures: it is gone"), "{broken}");
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

    #[test]
    fn a_hundredth_of_the_steps_is_slower_than_the_percentile() {
        let steps: Vec<f64> = (0..200).rev().map(f64::from).collect();
        assert_eq!(percentile(&steps, 99), 198.0);
        assert_eq!(percentile(&steps[..2], 99), 199.0);
        assert_eq!(percentile(&steps[..1], 99), 199.0);
    }
}
