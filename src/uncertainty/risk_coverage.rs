// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a network errs if it answers only where it is sure.

use super::probabilities::{likeliest, Probabilities};
use crate::{Error, Result};

impl Probabilities {
    /// The area under the risk-coverage curve (Geifman & El-Yaniv 2017, arXiv:1705.08500): the mean over
    /// `i = 1..n` of the share of wrong answers among the `i` samples of the highest
    /// [confidence](Probabilities::confidences). Of equally sure samples none comes first: their errors
    /// count as spread evenly.
    ///
    /// # Errors
    /// As all figures with labels.
    pub fn risk_coverage_area(&self, labels: &[i32]) -> Result<f64> {
        let doubts: Vec<f64> = self.confidences().into_iter().map(|sure| -sure).collect();
        self.risk_coverage_area_by(labels, &doubts)
    }

    /// The same with the samples in the order of other doubts, the smallest first, such as
    /// [mutual information](super::Spread::mutual_information).
    ///
    /// # Errors
    /// As all figures with labels; [`Error::Argument`] for another number of doubts and for NaN.
    pub fn risk_coverage_area_by(&self, labels: &[i32], doubts: &[f64]) -> Result<f64> {
        let labelled = self.labelled(labels)?;
        if doubts.len() != labels.len() || doubts.iter().any(|doubt| doubt.is_nan()) {
            let expected = format!("{}, one number per sample", labels.len());
            return Err(Error::argument("doubts", expected, format!("{doubts:?}")));
        }
        let wrong = |(row, label)| likeliest(row) != label;
        let mut answers: Vec<(f64, bool)> =
            doubts.iter().copied().zip(labelled.map(wrong)).collect();
        answers.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut area, mut before, mut wrong_before) = (0.0, 0.0, 0.0);
        for equal in answers.chunk_by(|a, b| a.0 == b.0) {
            let count = equal.len() as f64;
            let wrong = equal.iter().filter(|(_, is_wrong)| *is_wrong).count() as f64;
            for taken in (1..=equal.len()).map(|taken| taken as f64) {
                area += (wrong_before + wrong * taken / count) / (before + taken);
            }
            before += count;
            wrong_before += wrong;
        }
        Ok(area / answers.len() as f64)
    }
}
