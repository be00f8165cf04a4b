// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a classifier's probabilities can be believed.

use crate::{Error, Result, Tensor};

/// Calibration of a classifier's probabilities: the negative log-likelihood, and the expected
/// calibration error over confidences in bins of equal width (Guo et al. 2017, arXiv:1706.04599).
///
/// A sample's confidence is the highest of its probabilities, of equal ones the first. With `m` bins, bin
/// `i` of `0..m` holds the confidences in `(i / m, (i + 1) / m]`.
///
/// ```
/// use kiln::metrics::Calibration;
/// use kiln::Tensor;
///
/// // Three samples, two of which were told rightly.
/// let probabilities = Tensor::new([3, 2], vec![0.9, 0.1, 0.2, 0.8, 0.7, 0.3])?;
/// let mut calibration = Calibration::default(); // 15 bins
/// calibration.add_probabilities(&probabilities, &Tensor::labels([3], vec![0, 1, 1])?)?;
///
/// // Each is in a bin of its own: |1 - 0.9|, |1 - 0.8| and |0 - 0.7|, a third each.
/// let ece = calibration.ece().expect("samples");
/// assert!((ece - (0.1 + 0.2 + 0.7) / 3.0).abs() < 1e-6, "{ece}");
/// let nll = calibration.nll().expect("samples");
/// assert!((nll + (0.9_f64.ln() + 0.8_f64.ln() + 0.3_f64.ln()) / 3.0).abs() < 1e-6, "{nll}");
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// Scores that are not yet probabilities go through
/// [`add_scores`](Calibration::add_scores), which takes their softmax.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    bins: Vec<Bin>,
    /// The sum of `-ln(p)` of the classes that the samples have.
    nll: f64,
}

/// Samples of like confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    samples: u64,
    right: u64,
    /// The sum of their confidences.
    confidence: f64,
}

/// What a tensor holds for each class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    Probabilities,
    Scores,
}

/// More bins than there is a use for.
const MOST_BINS: usize = 1 << 14;

impl Default for Calibration {
    /// With [`BINS`](Calibration::BINS) bins.
    fn default() -> Self {
        Calibration { bins: vec![Bin::default(); Self::BINS], nll: 0.0 }
    }
}

impl Calibration {
    /// Bins unless told otherwise, as in the paper.
    pub const BINS: usize = 15;

    /// No samples yet, with so many bins.
    ///
    /// # Errors
    /// [`Error::Argument`] for no bins or more than 16,384.
    pub fn with_bins(bins: usize) -> Result<Self> {
        if !(1..=MOST_BINS).contains(&bins) {
            return Err(Error::argument("bins", format!("1 to {MOST_BINS}"), bins));
        }
        Ok(Calibration { bins: vec![Bin::default(); bins], nll: 0.0 })
    }

    /// Counts samples by probabilities `[samples, classes]`, which a mean over several draws yields, and
    /// labels `i32 [samples]`.
    ///
    /// # Errors
    /// [`Error::Argument`] if a probability is not in `[0, 1]`, NaN included, or a label is no class;
    /// [`Error::Shape`] for tensors of other kinds. Nothing is counted then.
    pub fn add_probabilities(&mut self, probabilities: &Tensor, labels: &Tensor) -> Result<()> {
        self.add(Given::Probabilities, probabilities, labels)
    }

    /// Counts samples by scores `[samples, classes]`, whose softmax are the probabilities, and labels
    /// `i32 [samples]`.
    ///
    /// # Errors
    /// As [`add_probabilities`](Self::add_probabilities); scores are to be finite.
    pub fn add_scores(&mut self, scores: &Tensor, labels: &Tensor) -> Result<()> {
        self.add(Given::Scores, scores, labels)
    }

    /// Samples in all.
    pub fn samples(&self) -> u64 {
        self.bins.iter().map(|bin| bin.samples).sum()
    }

    /// Share of the samples whose most probable class is their own; `None` without samples.
    pub fn accuracy(&self) -> Option<f64> {
        self.mean(self.bins.iter().map(|bin| bin.right as f64).sum())
    }

    /// The mean negative log-likelihood of the samples' classes, in nats; infinite if one was held for
    /// impossible, `None` without samples. Of scores it is the cross-entropy.
    pub fn nll(&self) -> Option<f64> {
        self.mean(self.nll)
    }

    /// The expected calibration error, from 0 to 1: by how much the share of right answers in each bin
    /// differs from the mean confidence in it, weighed by the bins' samples. `None` without samples.
    pub fn ece(&self) -> Option<f64> {
        let gaps = self.bins.iter().map(|bin| (bin.right as f64 - bin.confidence).abs());
        self.mean(gaps.sum())
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        let samples = self.samples();
        (samples > 0).then(|| sum / samples as f64)
    }

    fn add(&mut self, given: Given, rows: &Tensor, labels: &Tensor) -> Result<()> {
        let (values, labels) = (rows.values()?, labels.integers()?);
        let classes = rows.shape().last();
        if labels.len().checked_mul(classes) != Some(values.len()) {
            let expected = format!("{} labels, as samples", values.len() / classes.max(1));
            return Err(Error::argument("labels", expected, labels.len()));
        }
        let rows = || values.chunks(classes.max(1));
        for (place, row) in rows().enumerate() {
            given.check(place, row)?;
        }
        for (place, &label) in labels.iter().enumerate() {
            if usize::try_from(label).map_or(true, |label| label >= classes) {
                let what = format!("labels[{place}]");
                return Err(Error::argument(what, format!("classes 0..{classes}"), label));
            }
        }
        for (row, &label) in rows().zip(labels) {
            let label = label as usize;
            let answer = given.answer(row, label);
            self.nll += answer.nll;
            let bin = self.bin(answer.confidence);
            bin.samples += 1;
            bin.right += u64::from(answer.guess == label);
            bin.confidence += answer.confidence;
        }
        Ok(())
    }

    fn bin(&mut self, confidence: f64) -> &mut Bin {
        let last = self.bins.len() - 1;
        let edge = |index: usize| (index + 1) as f64 / (last + 1) as f64;
        let index = (0..last).find(|index| confidence <= edge(*index)).unwrap_or(last);
        &mut self.bins[index]
    }
}

/// What a classifier says of a sample.
struct Answer {
    guess: usize,
    confidence: f64,
    /// The negative logarithm of the probability of the sample's class.
    nll: f64,
}

impl Given {
    fn check(self, place: usize, row: &[f32]) -> Result<()> {
        let is_right = |value: &&f32| match self {
            Given::Probabilities => (0.0..=1.0).contains(*value),
            Given::Scores => value.is_finite(),
        };
        let (name, expected) = match self {
            Given::Probabilities => ("probabilities", "numbers from 0 to 1"),
            Given::Scores => ("scores", "finite numbers"),
        };
        match row.iter().find(|value| !is_right(value)) {
            Some(value) => {
                Err(Error::argument(format!("{name} of sample {place}"), expected, value))
            }
            None => Ok(()),
        }
    }

    fn answer(self, row: &[f32], label: usize) -> Answer {
        let larger = |best, class| if row[class] > row[best] { class } else { best };
        let guess = (1..row.len()).fold(0, larger);
        let [most, own] = [guess, label].map(|class| f64::from(row[class]));
        match self {
            Given::Probabilities => Answer { guess, confidence: most, nll: -own.ln() },
            Given::Scores => {
                let sum: f64 = row.iter().map(|score| (f64::from(*score) - most).exp()).sum();
                Answer { guess, confidence: 1.0 / sum, nll: most - own + sum.ln() }
            }
        }
    }
}
