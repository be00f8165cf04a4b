// SPDX-License-Identifier: MIT OR Apache-2.0
//! What networks are compared by.

use kiln::lint::Report;
use serde::{Deserialize, Serialize};

use super::statistics::{mean, Paired};
use crate::cli::metrics::{number_or_nan, percent, Epoch};

/// What is measured of a network at the end of its training; NaN where it gives no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    /// On the training set as it is trained: with dropout, and batch norm by the batch.
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) train_mode_accuracy: f64,
    /// On the training set in eval mode, as the test set is measured.
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) train_accuracy: f64,
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) test_accuracy: f64,
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) train_loss: f64,
    /// The mean negative log-likelihood.
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) test_loss: f64,
    /// The expected calibration error on the test set.
    #[serde(deserialize_with = "number_or_nan")]
    pub(super) ece: f64,
}

/// A figure, or what follows from several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    TrainModeAccuracy,
    TrainAccuracy,
    TestAccuracy,
    /// By how much a network is better on what it was trained on.
    Gap,
    TrainLoss,
    TestLoss,
    Ece,
}

/// A training to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) figures: Figures,
    pub(super) history: Vec<Epoch>,
}

/// A network at certain rates, and its trainings, one from each seed.
#[derive(Debug)]
pub(super) struct Arm {
    /// Its rates, for people.
    pub(super) rates: String,
    /// Its rate, if there is but one.
    pub(super) p: Option<f32>,
    /// What lint says of it.
    pub(super) report: Report,
    pub(super) runs: Vec<Finished>,
}

impl Measure {
    pub(super) const ALL: [Measure; 7] = [
        Measure::TrainModeAccuracy,
        Measure::TrainAccuracy,
        Measure::TestAccuracy,
        Measure::Gap,
        Measure::TrainLoss,
        Measure::TestLoss,
        Measure::Ece,
    ];

    pub(super) fn of(self, figures: &Figures) -> f64 {
        match self {
            Measure::TrainModeAccuracy => figures.train_mode_accuracy,
            Measure::TrainAccuracy => figures.train_accuracy,
            Measure::TestAccuracy => figures.test_accuracy,
            Measure::Gap => figures.train_accuracy - figures.test_accuracy,
            Measure::TrainLoss => figures.train_loss,
            Measure::TestLoss => figures.test_loss,
            Measure::Ece => figures.ece,
        }
    }

    /// The key in objects for machines.
    pub(super) fn key(self) -> &'static str {
        match self {
            Measure::TrainModeAccuracy => "train_mode_accuracy",
            Measure::TrainAccuracy => "train_accuracy",
            Measure::TestAccuracy => "test_accuracy",
            Measure::Gap => "gap",
            Measure::TrainLoss => "train_loss",
            Measure::TestLoss => "test_loss",
            Measure::Ece => "ece",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Measure::TrainModeAccuracy => "training accuracy in train mode",
            Measure::TrainAccuracy => "training accuracy",
            Measure::TestAccuracy => "test accuracy",
            Measure::Gap => "gap, training less test",
            Measure::TrainLoss => "training loss",
            Measure::TestLoss => "test loss (NLL)",
            Measure::Ece => "calibration error (ECE)",
        }
    }

    /// A value, for people.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Measure::Gap => self.show_difference(value),
            _ if value.is_nan() => "unknown".into(),
            _ if self.is_share() => percent(value),
            _ => format!("{value:.4}"),
        }
    }

    /// A difference of two values, for people: of accuracies in points.
    pub(super) fn show_difference(self, difference: f64) -> String {
        match self {
            _ if difference.is_nan() => "unknown".into(),
            _ if self.is_share() => format!("{:+.2}", 100.0 * difference),
            _ => format!("{difference:+.4}"),
        }
    }

    fn is_share(self) -> bool {
        !matches!(self, Measure::TrainLoss | Measure::TestLoss | Measure::Ece)
    }
}

impl Arm {
    /// The values of each seed.
    pub(super) fn values(&self, measure: Measure) -> Vec<f64> {
        self.runs.iter().map(|run| measure.of(&run.figures)).collect()
    }

    /// The mean over all seeds.
    pub(super) fn mean(&self, measure: Measure) -> f64 {
        mean(&self.values(measure))
    }

    /// By how much each seed's value is above that of another network from the same seed.
    pub(super) fn differences(&self, measure: Measure, base: &Arm) -> Vec<f64> {
        let pairs = self.values(measure).into_iter().zip(base.values(measure));
        pairs.map(|(with, without)| with - without).collect()
    }

    pub(super) fn paired(&self, measure: Measure, base: &Arm) -> Paired {
        Paired::of(&self.differences(measure, base))
    }

    /// Means over all seeds for each epoch.
    pub(super) fn mean_history(&self) -> Vec<Epoch> {
        let Some(first) = self.runs.first() else { return Vec::new() };
        let mean_of = |index: usize, value: fn(&Epoch) -> f64| {
            let epochs = self.runs.iter().filter_map(|run| run.history.get(index));
            mean(&epochs.map(value).collect::<Vec<_>>())
        };
        let epochs = first.history.iter().enumerate().map(|(index, epoch)| Epoch {
            train_loss: mean_of(index, |epoch| epoch.train_loss),
            train_accuracy: mean_of(index, |epoch| epoch.train_accuracy),
            test_loss: mean_of(index, |epoch| epoch.test_loss),
            test_accuracy: mean_of(index, |epoch| epoch.test_accuracy),
            ..epoch.clone()
        });
        epochs.collect()
    }

    /// How long all trainings took.
    pub(super) fn seconds(&self) -> f64 {
        let epochs = self.runs.iter().flat_map(|run| &run.history);
        // A sum of nothing is -0.
        epochs.map(|epoch| epoch.seconds).sum::<f64>() + 0.0
    }
}

/// The network with dropout that is best on the test set, by the mean over all seeds; the first is that
/// without.
pub(super) fn best(arms: &[Arm]) -> Option<&Arm> {
    let accuracy = |arm: &&Arm| arm.mean(Measure::TestAccuracy);
    let known = arms.iter().skip(1).filter(|arm| !accuracy(arm).is_nan());
    known.max_by(|a, b| accuracy(a).total_cmp(&accuracy(b)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An arm whose runs have these training and test accuracies.
    pub(in crate::cli::compare) fn arm(rates: &str, accuracies: &[[f64; 2]]) -> Arm {
        let runs = accuracies.iter().map(|&[train_accuracy, test_accuracy]| Finished {
            figures: Figures {
                train_mode_accuracy: train_accuracy - 0.1,
                train_accuracy,
                test_accuracy,
                train_loss: 1.0 - train_accuracy,
                test_loss: 1.0 - test_accuracy,
                ece: 0.25,
            },
            history: Vec::new(),
        });
        let report = Report { findings: Vec::new() };
        Arm { rates: rates.into(), p: rates.parse().ok(), report, runs: runs.collect() }
    }

    #[test]
    fn differences_are_of_the_same_seed() {
        let base = arm("0", &[[1.0, 0.5], [1.0, 0.75]]);
        let with = arm("0.5", &[[0.75, 0.75], [0.875, 0.75]]);
        assert_eq!(with.differences(Measure::TestAccuracy, &base), [0.25, 0.0]);
        assert_eq!(with.differences(Measure::Gap, &base), [-0.5, -0.125]);
        assert_eq!(with.mean(Measure::TestAccuracy), 0.75);
        let arms = [base, with, arm("0.8", &[[0.5, f64::NAN], [0.5, 1.0]])];
        assert_eq!(best(&arms).map(|arm| arm.rates.as_str()), Some("0.5"), "NaN is never best");
    }

    #[test]
    fn values_are_shown_in_their_units() {
        assert_eq!(Measure::TestAccuracy.show(0.875), "87.50 %");
        assert_eq!(Measure::Gap.show(0.125), "+12.50");
        assert_eq!(Measure::TestAccuracy.show_difference(-0.0725), "-7.25");
        assert_eq!(Measure::Ece.show_difference(0.25), "+0.2500");
        assert_eq!(Measure::TestLoss.show(f64::NAN), "unknown");
    }
}
