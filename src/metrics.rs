// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures for each class: what was taken for what, and how often rightly.

use std::fmt;

use crate::{Error, Result, Tensor};

/// Counts of samples by their class and by what they were taken for.
///
/// ```
/// use kiln::metrics::Confusion;
///
/// // Guesses, and the classes that the samples have.
/// let mut counts = Confusion::new(3)?;
/// counts.add(&[0, 0, 1, 1, 0], &[0, 0, 0, 1, 2])?;
/// assert_eq!(counts.count(0, 1), 1);
/// assert_eq!(counts.accuracy(), Some(3.0 / 5.0));
/// assert_eq!((counts.precision(0), counts.recall(0)), (Some(2.0 / 3.0), Some(2.0 / 3.0)));
/// assert_eq!((counts.precision(2), counts.recall(2)), (None, Some(0.0)), "nothing was taken for 2");
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// With a trainer, [`evaluate_with`](crate::Trainer::evaluate_with) shows the outputs:
///
/// ```no_run
/// # use kiln::{data::Loader, metrics::Confusion, models::SimpleNet, Trainer};
/// # fn measure(fit: &mut Trainer<SimpleNet>, test: &mut Loader) -> kiln::Result<()> {
/// let mut counts = Confusion::new(10)?;
/// fit.evaluate_with(test, |batch, scores| counts.add_scores(&scores, &batch.targets[0]))?;
/// println!("{counts}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// For each class a row of what its samples were taken for.
    counts: Vec<u64>,
}

/// More classes than figures for each are of use for.
const MOST_CLASSES: usize = 1 << 14;

impl Confusion {
    /// No samples yet, of so many classes.
    ///
    /// # Errors
    /// [`Error::Argument`] for no classes or more than 16,384; [`Error::Device`] if there is no memory
    /// for the counts.
    pub fn new(classes: usize) -> Result<Self> {
        if !(1..=MOST_CLASSES).contains(&classes) {
            return Err(Error::argument("classes", format!("1 to {MOST_CLASSES}"), classes));
        }
        let counts = crate::allocate::zeros(classes * classes, "counts of classes")?;
        Ok(Confusion { classes, counts })
    }

    /// Counts samples: what each was taken for, and its class.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are not as many of both, or one is no class; nothing is counted
    /// then.
    pub fn add(&mut self, guesses: &[usize], labels: &[i32]) -> Result<()> {
        if guesses.len() != labels.len() {
            let expected = format!("{} labels, as guesses", guesses.len());
            return Err(Error::argument("labels", expected, labels.len()));
        }
        let classes = self.classes;
        let wrong = |what: String, got: &dyn fmt::Display| {
            Err(Error::argument(what, format!("classes 0..{classes}"), got))
        };
        for (place, (&guess, &label)) in guesses.iter().zip(labels).enumerate() {
            if guess >= classes {
                return wrong(format!("guesses[{place}]"), &guess);
            }
            if usize::try_from(label).map_or(true, |label| label >= classes) {
                return wrong(format!("labels[{place}]"), &label);
            }
        }
        for (&guess, &label) in guesses.iter().zip(labels) {
            self.counts[label as usize * classes + guess] += 1;
        }
        Ok(())
    }

    /// Counts samples by scores `[samples, classes]`, the highest of which is the guess, and labels
    /// `i32 [samples]`.
    ///
    /// # Errors
    /// As [`add`](Self::add), [`Error::Shape`] for tensors of other kinds, and [`Error::Argument`] if
    /// a score is NaN, which is no answer.
    pub fn add_scores(&mut self, scores: &Tensor, labels: &Tensor) -> Result<()> {
        if let Some(place) = scores.values()?.iter().position(|score| score.is_nan()) {
            let what = format!("scores of sample {}", place / scores.shape().last().max(1));
            return Err(Error::argument(what, "numbers", "NaN"));
        }
        self.add(&scores.argmax()?, labels.integers()?)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Samples of a class that were taken for another, or the same; 0 if either is no class.
    pub fn count(&self, class: usize, guess: usize) -> u64 {
        match class < self.classes && guess < self.classes {
            true => self.counts[class * self.classes + guess],
            false => 0,
        }
    }

    /// Samples of a class.
    pub fn samples_of(&self, class: usize) -> u64 {
        (0..self.classes).map(|guess| self.count(class, guess)).sum()
    }

    /// Samples that were taken for a class.
    pub fn guesses_of(&self, guess: usize) -> u64 {
        (0..self.classes).map(|class| self.count(class, guess)).sum()
    }

    /// Samples in all.
    pub fn samples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Share of the samples that were taken for what they are; `None` without samples.
    pub fn accuracy(&self) -> Option<f64> {
        share((0..self.classes).map(|class| self.count(class, class)).sum(), self.samples())
    }

    /// Share of what was taken for a class that is of it; `None` if nothing was.
    pub fn precision(&self, class: usize) -> Option<f64> {
        share(self.count(class, class), self.guesses_of(class))
    }

    /// Share of a class that was taken for it; `None` if there is nothing of it.
    pub fn recall(&self, class: usize) -> Option<f64> {
        share(self.count(class, class), self.samples_of(class))
    }

    /// The harmonic mean of precision and recall: `2 right / (samples + guesses)` of a class. `None`
    /// if there are neither.
    pub fn f1(&self, class: usize) -> Option<f64> {
        share(2 * self.count(class, class), self.samples_of(class) + self.guesses_of(class))
    }

    /// The mean precision of all classes, whatever their sizes, where nothing counts as 0: as
    /// scikit-learn's `average="macro"`.
    pub fn macro_precision(&self) -> f64 {
        self.mean(Self::precision)
    }

    /// The mean recall of all classes, likewise.
    pub fn macro_recall(&self) -> f64 {
        self.mean(Self::recall)
    }

    /// The mean F1 of all classes, likewise.
    pub fn macro_f1(&self) -> f64 {
        self.mean(Self::f1)
    }

    fn mean(&self, figure: impl Fn(&Self, usize) -> Option<f64>) -> f64 {
        let sum: f64 = (0..self.classes).filter_map(|class| figure(self, class)).sum();
        sum / self.classes as f64
    }
}

impl fmt::Display for Confusion {
    /// A line for each class, and one for their means.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |figure: Option<f64>| figure.map_or("-".into(), |figure| format!("{figure:.4}"));
        writeln!(
            f,
            "{:>5} {:>9} {:>9} {:>9} {:>9}",
            "class", "precision", "recall", "f1", "samples"
        )?;
        for class in 0..self.classes {
            let figures = [self.precision(class), self.recall(class), self.f1(class)].map(shown);
            let [precision, recall, f1] = figures;
            let samples = self.samples_of(class);
            writeln!(f, "{class:>5} {precision:>9} {recall:>9} {f1:>9} {samples:>9}")?;
        }
        let means = [self.macro_precision(), self.macro_recall(), self.macro_f1()];
        let [precision, recall, f1] = means.map(|mean| shown(Some(mean)));
        write!(f, "{:>5} {precision:>9} {recall:>9} {f1:>9} {:>9}", "macro", self.samples())
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}
