// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether dropout helped, by three signs.

use std::fmt::Write;

use super::metrics::Epoch;

/// The last epochs of the runs without and with dropout.
pub(super) struct Verdict<'a> {
    pub(super) without: &'a Epoch,
    pub(super) with: &'a Epoch,
}

impl Verdict<'_> {
    /// What dropout added to the test accuracy.
    pub(super) fn gain(&self) -> f64 {
        self.with.test_accuracy - self.without.test_accuracy
    }

    /// The signs and what follows from them, for people.
    pub(super) fn text(&self) -> String {
        let (without, with) = (self.without, self.with);
        let signs = [
            ("lower training accuracy", with.train_accuracy < without.train_accuracy),
            ("higher test accuracy", self.gain() > 0.0),
            ("smaller gap between training and test", gap(with) < gap(without)),
        ];
        let mut text = String::from("signs that dropout helps:\n");
        for (sign, seen) in signs {
            let _ = writeln!(text, "  {sign:<40} {}", if seen { "yes" } else { "no" });
        }
        let points = 100.0 * self.gain();
        let conclusion = if points.is_nan() {
            "verdict: none, since a network no longer gives numbers".into()
        } else if signs.iter().all(|(_, seen)| *seen) {
            format!("verdict: dropout helps, by {points:+.2} points of test accuracy")
        } else if self.gain() > 0.0 {
            format!(
                "verdict: dropout helps on the test set ({points:+.2} points), not by every sign"
            )
        } else {
            format!(
                "verdict: dropout does not help ({points:+.2} points of test accuracy); the network \
                 may be underfitting: try a lower rate or a larger network"
            )
        };
        text + &conclusion
    }
}

/// How much better a network is on what it was trained on.
pub(super) fn gap(epoch: &Epoch) -> f64 {
    epoch.train_accuracy - epoch.test_accuracy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(train_accuracy: f64, test_accuracy: f64) -> Epoch {
        Epoch {
            epoch: 1,
            p: None,
            train_loss: 0.0,
            train_accuracy,
            test_loss: 0.0,
            test_accuracy,
            seconds: 0.0,
            learning_rate: 0.0,
            dropout: Default::default(),
        }
    }

    #[test]
    fn all_signs_make_a_verdict() {
        let verdict = Verdict { without: &epoch(0.98, 0.82), with: &epoch(0.77, 0.90) };
        assert!(verdict.text().ends_with("dropout helps, by +8.00 points of test accuracy"));
        assert_eq!(verdict.text().matches(" yes\n").count(), 3);
    }

    #[test]
    fn without_numbers_there_is_no_verdict() {
        let verdict = Verdict { without: &epoch(0.9, 0.9), with: &epoch(f64::NAN, f64::NAN) };
        assert!(verdict.text().ends_with("verdict: none, since a network no longer gives numbers"));
    }

    #[test]
    fn no_gain_brings_advice() {
        let verdict = Verdict { without: &epoch(0.90, 0.90), with: &epoch(0.80, 0.85) };
        assert!(verdict.text().contains("try a lower rate or a larger network"));
        assert!(verdict.text().contains("higher test accuracy                     no\n"));
    }
}
