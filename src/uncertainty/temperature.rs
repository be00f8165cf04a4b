// SPDX-License-Identifier: MIT OR Apache-2.0
//! Temperature scaling.

use super::probabilities::{check_labels, no_softmax, softmax, wrong_scores, Probabilities};
use crate::{Result, Tensor};

/// A number that all scores are divided by before the softmax (Guo et al. 2017, arXiv:1706.04599). It
/// changes how sure answers are, and none of the answers.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Temperature(f64);

/// The bounds of a temperature that is fitted.
const RANGE: [f64; 2] = [0.01, 100.0];

/// Steps at most; ten are usual.
const MOST_STEPS: usize = 100;

/// How near to the best logarithm is near enough.
const NEAR: f64 = 1e-10;

impl Temperature {
    /// The temperature between 0.01 and 100 of the least negative log-likelihood for scores
    /// `[samples, classes]` and their labels, which should be held-out samples: of neither training nor
    /// test. 1 if all are as good.
    ///
    /// By Newton's method on `log T`, within bounds that close in; the likelihood has one peak, since it is
    /// concave in `1 / T`.
    ///
    /// # Errors
    /// As [`Probabilities::of_scores`] and its figures with labels.
    pub fn fit(scores: &Tensor, labels: &[i32]) -> Result<Self> {
        let rows = Rows::new(scores, labels)?;
        let slope_at = |temperature: f64| rows.slopes(1.0 / temperature)[0];
        let [mut low, mut high] = RANGE.map(f64::ln);
        if slope_at(1.0) == 0.0 {
            return Ok(Temperature(1.0));
        }
        if slope_at(RANGE[0]) <= 0.0 {
            return Ok(Temperature(RANGE[0]));
        }
        if slope_at(RANGE[1]) >= 0.0 {
            return Ok(Temperature(RANGE[1]));
        }
        let mut log = 0.0_f64;
        for _ in 0..MOST_STEPS {
            let factor = (-log).exp();
            let [slope, curve] = rows.slopes(factor);
            // Where the loss rises with the factor, a higher temperature is better.
            match slope > 0.0 {
                true => low = log,
                false => high = log,
            }
            let newton = log + slope / (factor * curve);
            let next = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
            let step = (next - log).abs();
            log = next;
            if step < NEAR {
                break;
            }
        }
        Ok(Temperature(log.exp()))
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }

    /// The softmax of scores `[samples, classes]`, each divided by the temperature.
    ///
    /// # Errors
    /// As [`Probabilities::of_scores`].
    pub fn probabilities(self, scores: &Tensor) -> Result<Probabilities> {
        Probabilities::at(scores, 1.0 / self.0)
    }
}

/// Scores with the classes that samples have.
struct Rows<'a> {
    scores: &'a [f32],
    labels: &'a [i32],
    classes: usize,
}

impl<'a> Rows<'a> {
    fn new(scores: &'a Tensor, labels: &'a [i32]) -> Result<Self> {
        let [samples, classes] = *scores.shape().dims() else {
            return Err(wrong_scores("scores [samples, classes]", scores));
        };
        check_labels(labels, samples, classes)?;
        let rows = Rows { scores: scores.values()?, labels, classes };
        let refused = |(_, row): &(usize, &[f32])| softmax(row, 1.0).is_none();
        match rows.scores.chunks_exact(classes).enumerate().find(refused) {
            Some((sample, _)) => Err(no_softmax(sample)),
            None => Ok(rows),
        }
    }

    /// First and second derivative of the negative log-likelihood with respect to the factor of the scores:
    /// mean and variance of a sample's scores under its probabilities, the mean less the score of its
    /// class. A class that never comes, of a score of negative infinity, adds to neither.
    fn slopes(&self, factor: f64) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for (row, label) in self.scores.chunks_exact(self.classes).zip(self.labels) {
            let weighted = || {
                let pairs = softmax(row, factor).into_iter().flatten().zip(row);
                pairs.filter(|(p, _)| *p > 0.0).map(|(p, score)| (p, f64::from(*score)))
            };
            let mean: f64 = weighted().map(|(p, score)| p * score).sum();
            sums[0] += mean - f64::from(row[*label as usize]);
            sums[1] += weighted().map(|(p, score)| p * (score - mean).powi(2)).sum::<f64>();
        }
        sums
    }
}
