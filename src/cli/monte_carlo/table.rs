// SPDX-License-Identifier: MIT OR Apache-2.0
//! A comparison as people read it.

use std::fmt;

use kiln::{Dropouts, Masks};

use super::super::metrics::percent;
use super::{Comparison, Doubts, Figures};

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropouts = match self.draws.dropouts {
            Dropouts::All => "",
            Dropouts::Last => " of the last dropout alone",
        };
        let masks = match self.draws.masks {
            Masks::PerSample => "masks per sample",
            Masks::Consistent => "the same masks for all samples",
        };
        let (count, samples) = (self.draws.count, self.samples);
        writeln!(f, "{count} draws{dropouts} of each of {samples} samples, {masks}")?;
        let [first, second] = self.temperatures;
        writeln!(
            f,
            "temperatures {first:.3} and {second:.3}: each half of the samples has that of the other"
        )?;
        writeln!(
            f,
            "\n{:<18}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "", "accuracy", "NLL", "Brier", "ECE", "AURC"
        )?;
        let rows = [
            ("single pass", &self.single),
            ("with temperature", &self.scaled),
            ("Monte Carlo mean", &self.mean),
        ];
        for (name, figures) in rows {
            let Figures { negative_log_likelihood, brier_score, .. } = figures;
            writeln!(
                f,
                "{name:<18}{:>9}{negative_log_likelihood:>9.4}{brier_score:>9.4}{:>9.4}{:>9.5}",
                percent(figures.accuracy),
                figures.calibration_error,
                figures.risk_coverage_area,
            )?;
        }
        writeln!(
            f,
            "\n{:<18}{:>9}{:>9}{:>20}",
            "answers", "samples", "entropy", "mutual information"
        )?;
        writeln!(f, "{}", self.right.line("right"))?;
        write!(f, "{}", self.wrong.line("wrong"))
    }
}

impl Doubts {
    fn line(&self, name: &str) -> String {
        let shown =
            |mean: Option<f64>| mean.map_or_else(|| "-".into(), |mean| format!("{mean:.4}"));
        let (entropy, information) = (shown(self.entropy), shown(self.mutual_information));
        format!("{name:<18}{:>9}{entropy:>9}{information:>20}", self.answers)
    }
}
