// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far the draws of a sample are from one another.

use super::probabilities::{entropy, likeliest, no_softmax, softmax, wrong_scores, Probabilities};
use crate::{Result, Tensor};

/// What draws of samples say together, for a classifier's scores as
/// [`MonteCarlo::forward`](crate::MonteCarlo::forward) gives them. Samples are added batch by batch.
///
/// Below, `p_k` are the probabilities of a sample's draw `k = 1..K`, and `p` their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    mean: Probabilities,
    variance: Vec<f64>,
    expected_entropy: Vec<f64>,
    variation_ratio: Vec<f64>,
}

impl Spread {
    /// Of no samples yet.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for no classes.
    pub fn new(classes: usize) -> Result<Self> {
        Ok(Spread {
            mean: Probabilities::new(classes)?,
            variance: vec![],
            expected_entropy: vec![],
            variation_ratio: vec![],
        })
    }

    /// Adds samples by the scores of their draws, `[draws, samples, classes]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for a tensor of another kind; [`Error::Argument`](crate::Error::Argument) with the sample of the batch for
    /// scores that have no softmax. Nothing is added then.
    pub fn add(&mut self, scores: &Tensor) -> Result<()> {
        let classes = self.mean.classes();
        let expected = || format!("scores [draws, samples, {classes}] of 1 draw or more");
        let [draws, samples] = match *scores.shape().dims() {
            [draws, samples, width] if width == classes && draws > 0 => [draws, samples],
            _ => return Err(wrong_scores(&expected(), scores)),
        };
        let values = scores.values()?;
        let mut added = Spread::new(classes)?;
        let mut of_draws: Vec<f64> = Vec::with_capacity(draws * classes);
        for sample in 0..samples {
            of_draws.clear();
            for draw in 0..draws {
                let row = &values[(draw * samples + sample) * classes..][..classes];
                of_draws.extend(softmax(row, 1.0).ok_or_else(|| no_softmax(sample))?);
            }
            added.add_sample(&of_draws)?;
        }
        for row in added.mean.rows() {
            self.mean.add(row)?;
        }
        self.variance.extend(added.variance);
        self.expected_entropy.extend(added.expected_entropy);
        self.variation_ratio.extend(added.variation_ratio);
        Ok(())
    }

    /// Adds a sample by the probabilities of its draws, one row each.
    fn add_sample(&mut self, of_draws: &[f64]) -> Result<()> {
        let classes = self.mean.classes();
        let draws = || of_draws.chunks_exact(classes);
        let count = draws().len() as f64;
        let over_draws =
            |of_draw: &dyn Fn(&[f64]) -> f64| draws().map(of_draw).sum::<f64>() / count;
        let mean: Vec<f64> = (0..classes).map(|class| over_draws(&|p| p[class])).collect();
        let variance = (0..classes).map(|class| over_draws(&|p| (p[class] - mean[class]).powi(2)));
        self.variance.extend(variance);
        self.expected_entropy.push(over_draws(&entropy));
        let mut votes = vec![0_usize; classes];
        draws().for_each(|p| votes[likeliest(p)] += 1);
        let most = votes.into_iter().max().unwrap_or(0);
        self.variation_ratio.push(1.0 - most as f64 / count);
        self.mean.add(&mean)
    }

    /// The mean `p` of all draws: what Monte Carlo dropout predicts.
    pub fn mean(&self) -> &Probabilities {
        &self.mean
    }

    /// The variance of each class's probability over the draws, `1/K sum_k (p_kc - p_c)^2`, as
    /// `[samples, classes]`.
    pub fn variance(&self) -> &[f64] {
        &self.variance
    }

    /// The entropy `H[p]` of each sample's mean, all that is not known of its class.
    pub fn predictive_entropy(&self) -> Vec<f64> {
        self.mean.entropy()
    }

    /// The mean entropy `1/K sum_k H[p_k]` of each sample's draws: what they themselves are not sure of,
    /// as with noise in the data.
    pub fn expected_entropy(&self) -> &[f64] {
        &self.expected_entropy
    }

    /// The mutual information `H[p] - 1/K sum_k H[p_k]` of each sample's class and the masks (Houlsby et
    /// al. 2011, arXiv:1112.5745): what the draws disagree about.
    pub fn mutual_information(&self) -> Vec<f64> {
        let pairs = self.predictive_entropy().into_iter().zip(&self.expected_entropy);
        // Rounding must not make less than nothing of it.
        pairs.map(|(of_mean, of_draws)| (of_mean - of_draws).max(0.0)).collect()
    }

    /// The variation ratio of each sample: the share of draws whose likeliest class is not the most
    /// frequent of these (Freeman 1965).
    pub fn variation_ratio(&self) -> &[f64] {
        &self.variation_ratio
    }
}
