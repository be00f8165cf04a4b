// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probabilities of classes, and what they are worth where the classes are known.

use crate::{allocate, Error, Result, Tensor};

/// For each of some samples, a probability of each class.
///
/// Labels are given as the classes of the samples, in their order. All figures that take them fail with
/// [`Error::Argument`] for another number of labels than samples, for labels that are no classes, and where
/// there are no samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Probabilities {
    classes: usize,
    /// A row for each sample.
    values: Vec<f64>,
}

impl Probabilities {
    /// Of no samples yet.
    ///
    /// # Errors
    /// [`Error::Argument`] for no classes.
    pub fn new(classes: usize) -> Result<Self> {
        match classes {
            0 => Err(Error::argument("classes", "1 or more", 0)),
            _ => Ok(Probabilities { classes, values: vec![] }),
        }
    }

    /// The softmax of scores `[samples, classes]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a tensor of another kind; [`Error::Argument`] with the sample for scores that
    /// have no softmax: NaN, positive infinity, or none but negative infinities; [`Error::Device`] if there
    /// is no memory for them.
    pub fn of_scores(scores: &Tensor) -> Result<Self> {
        Self::at(scores, 1.0)
    }

    /// The softmax of scores times a factor.
    pub(super) fn at(scores: &Tensor, factor: f64) -> Result<Self> {
        let [_, classes] = *scores.shape().dims() else {
            return Err(wrong_scores("scores [samples, classes]", scores));
        };
        let mut all = Self::new(classes)?;
        all.add_at(scores, factor)?;
        Ok(all)
    }

    /// Adds samples: the softmax of scores `[samples, classes]`.
    ///
    /// # Errors
    /// As [`of_scores`](Self::of_scores); [`Error::Shape`] for another number of classes. Nothing is added then.
    pub fn add_scores(&mut self, scores: &Tensor) -> Result<()> {
        self.add_at(scores, 1.0)
    }

    fn add_at(&mut self, scores: &Tensor, factor: f64) -> Result<()> {
        if !matches!(*scores.shape().dims(), [_, classes] if classes == self.classes) {
            return Err(wrong_scores(&format!("scores [samples, {}]", self.classes), scores));
        }
        let mut added = allocate::room(scores.shape().elements(), "probabilities")?;
        for (sample, row) in scores.values()?.chunks_exact(self.classes).enumerate() {
            added.extend(softmax(row, factor).ok_or_else(|| no_softmax(sample))?);
        }
        self.values.append(&mut added);
        Ok(())
    }

    /// Adds a sample: one number for each class, none negative, of sum 1 up to rounding.
    ///
    /// # Errors
    /// [`Error::Argument`] for numbers that are no probabilities.
    pub fn add(&mut self, of_classes: &[f64]) -> Result<()> {
        let sum: f64 = of_classes.iter().sum();
        let are_probabilities = of_classes.len() == self.classes
            && of_classes.iter().all(|&value| value >= 0.0)
            && (sum - 1.0).abs() <= 1e-6;
        if !are_probabilities {
            let expected = format!("{} numbers from 0 with a sum of 1", self.classes);
            let got = format!("{} with a sum of {sum}", of_classes.len());
            return Err(Error::argument("probabilities", expected, got));
        }
        self.values.extend(of_classes);
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.values.len() / self.classes
    }

    /// The probabilities of a sample's classes; none for a sample that is not there.
    pub fn of(&self, sample: usize) -> &[f64] {
        self.rows().nth(sample).unwrap_or(&[])
    }

    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.classes)
    }

    /// For each sample the first class of the highest probability.
    pub fn guesses(&self) -> Vec<usize> {
        self.rows().map(likeliest).collect()
    }

    /// For each sample the highest probability.
    pub fn confidences(&self) -> Vec<f64> {
        self.rows().map(|row| row[likeliest(row)]).collect()
    }

    /// For each sample the entropy `-sum_c p_c log p_c` (Shannon 1948), 0 where one class is certain and
    /// at most the logarithm of the number of classes.
    pub fn entropy(&self) -> Vec<f64> {
        self.rows().map(entropy).collect()
    }

    /// Share of the samples whose likeliest class is theirs.
    ///
    /// # Errors
    /// As all figures with labels.
    pub fn accuracy(&self, labels: &[i32]) -> Result<f64> {
        let right = self.labelled(labels)?.filter(|(row, label)| likeliest(row) == *label).count();
        Ok(right as f64 / self.samples() as f64)
    }

    /// Mean of `-log p_y`, where `y` is a sample's class; infinite if a class of probability 0 came.
    ///
    /// # Errors
    /// As all figures with labels.
    pub fn negative_log_likelihood(&self, labels: &[i32]) -> Result<f64> {
        let sum: f64 = self.labelled(labels)?.map(|(row, label)| -row[label].ln()).sum();
        Ok(sum / self.samples() as f64)
    }

    /// Mean of `sum_c (p_c - [c = y])^2`, from 0 to 2 (Brier 1950, in its original form for several
    /// classes).
    ///
    /// # Errors
    /// As all figures with labels.
    pub fn brier_score(&self, labels: &[i32]) -> Result<f64> {
        let of_sample = |(row, label): (&[f64], usize)| -> f64 {
            let classes = row.iter().enumerate();
            classes.map(|(class, p)| (p - f64::from(u8::from(class == label))).powi(2)).sum()
        };
        let sum: f64 = self.labelled(labels)?.map(of_sample).sum();
        Ok(sum / self.samples() as f64)
    }

    /// The samples with their classes.
    pub(super) fn labelled<'a>(
        &'a self,
        labels: &'a [i32],
    ) -> Result<impl ExactSizeIterator<Item = (&'a [f64], usize)>> {
        check_labels(labels, self.samples(), self.classes)?;
        Ok(self.rows().zip(labels).map(|(row, &label)| (row, label as usize)))
    }
}

/// Checks that there is a class for each of some samples.
pub(super) fn check_labels(labels: &[i32], samples: usize, classes: usize) -> Result<()> {
    if samples == 0 {
        return Err(Error::argument("samples", "1 or more", 0));
    }
    if labels.len() != samples {
        return Err(Error::argument("labels", format!("{samples}, one per sample"), labels.len()));
    }
    let is_class = |&label: &i32| usize::try_from(label).is_ok_and(|label| label < classes);
    match labels.iter().position(|label| !is_class(label)) {
        None => Ok(()),
        Some(place) => {
            let expected = format!("a class from 0 to {}", classes.saturating_sub(1));
            Err(Error::argument(format!("labels[{place}]"), expected, labels[place]))
        }
    }
}

/// The first of the largest.
pub(super) fn likeliest(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

pub(super) fn entropy(row: &[f64]) -> f64 {
    // Of what never happens nothing is to be learned.
    -row.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}

/// The softmax of a row times a factor; `None` if it has none.
pub(super) fn softmax(scores: &[f32], factor: f64) -> Option<impl Iterator<Item = f64> + '_> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let power = move |score: &f32| ((f64::from(*score) - f64::from(largest)) * factor).exp();
    let sum: f64 = scores.iter().map(power).sum();
    Some(scores.iter().map(move |score| power(score) / sum))
}

pub(super) fn no_softmax(sample: usize) -> Error {
    Error::argument(format!("scores of sample {sample}"), "finite numbers", "others")
}

pub(super) fn wrong_scores(expected: &str, scores: &Tensor) -> Error {
    Error::Shape {
        layer: String::new(),
        op: "uncertainty".into(),
        expected: expected.into(),
        got: scores.shape().to_string(),
    }
}
