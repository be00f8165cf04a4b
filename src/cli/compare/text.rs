// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results of a comparison as text for people.

use std::fmt::Write;

use super::figures::{best, Arm, Measure};
use super::statistics::Paired;
use super::verdict::{signs, verdict};

/// What the differences are told for.
pub(super) const DIFFERENCES: [Measure; 5] =
    [Measure::TrainAccuracy, Measure::TestAccuracy, Measure::Gap, Measure::TestLoss, Measure::Ece];

/// Tables of means and differences, and the verdicts.
pub(super) fn text(arms: &[Arm]) -> String {
    let Some((base, others)) = arms.split_first() else { return String::new() };
    let mut text = means(arms);
    if base.runs.len() > 1 {
        text += &differences(others, base);
    }
    match others {
        [arm] => {
            text += &told_signs(arm, base);
            text += &told_verdict("verdict", arm, base);
        }
        several => {
            text.push('\n');
            for arm in several {
                text += &told_verdict(&format!("verdict on {}", arm.rates), arm, base);
            }
            if let Some(best) = best(arms) {
                let _ = writeln!(
                    text,
                    "highest test accuracy: dropout {}; since the test chose it, a new test would show less",
                    best.rates
                );
            }
        }
    }
    text.trim_end().into()
}

fn means(arms: &[Arm]) -> String {
    let width = width(arms);
    let mut text = format!(
        "{:<width$}  in train mode  train accuracy  test accuracy     gap  train loss  test loss     ECE  \
         \u{20}   time\n",
        "dropout"
    );
    for arm in arms {
        let shown = |measure: Measure| measure.show(arm.mean(measure));
        let _ = writeln!(
            text,
            "{:<width$}  {:>13}  {:>14}  {:>13}  {:>6}  {:>10}  {:>9}  {:>6}  {:>6.1} s",
            arm.rates,
            shown(Measure::TrainModeAccuracy),
            shown(Measure::TrainAccuracy),
            shown(Measure::TestAccuracy),
            shown(Measure::Gap),
            shown(Measure::TrainLoss),
            shown(Measure::TestLoss),
            shown(Measure::Ece),
            arm.seconds(),
        );
    }
    text
}

fn differences(others: &[Arm], base: &Arm) -> String {
    let width = width(others).max("dropout".len());
    let seeds = base.runs.len();
    let mut text = format!(
        "\ndifferences from dropout 0 with the same seed, means over {seeds} seeds\n\
         {:<width$}  {:<23}  {:>8}  {:<20}  above  below\n",
        "dropout", "", "mean", "95 % interval"
    );
    for arm in others {
        for measure in DIFFERENCES {
            let paired = arm.paired(measure, base);
            let _ = writeln!(
                text,
                "{:<width$}  {:<23}  {:>8}  {:<20}  {:>5}  {:>5}",
                arm.rates,
                measure.name(),
                measure.show_difference(paired.mean),
                interval(measure, &paired),
                paired.signs.above,
                paired.signs.below,
            );
        }
    }
    text
}

/// An interval, for people.
pub(super) fn interval(measure: Measure, paired: &Paired) -> String {
    match paired.interval {
        Some(ends) => ends.map(|end| measure.show_difference(end)).join(" to "),
        None => "none".into(),
    }
}

fn told_signs(arm: &Arm, base: &Arm) -> String {
    let mut text = String::from("\nsigns that dropout helps:\n");
    let seeds = arm.runs.len();
    for sign in signs(arm, base) {
        let seen = if sign.is_seen { "yes" } else { "no" };
        let _ = match seeds {
            1 => writeln!(text, "  {:<40} {seen}", sign.name),
            _ => writeln!(text, "  {:<40} {seen:<3} ({} of {seeds} seeds)", sign.name, sign.seeds),
        };
    }
    text
}

fn told_verdict(title: &str, arm: &Arm, base: &Arm) -> String {
    let verdict = verdict(arm, base);
    let mut text = format!("{title}: {}\n", verdict.sentence);
    for remark in verdict.remarks {
        let _ = writeln!(text, "  {remark}");
    }
    text
}

fn width(arms: &[Arm]) -> usize {
    let longest = arms.iter().map(|arm| arm.rates.len()).max().unwrap_or(0);
    longest.max("dropout".len())
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::arm;
    use super::*;

    #[test]
    fn one_network_with_dropout_is_told_by_signs_and_a_verdict() {
        let base = arm("0", &[[0.98, 0.82], [0.99, 0.81], [0.97, 0.82]]);
        let with = arm("0.5", &[[0.77, 0.90], [0.78, 0.90], [0.77, 0.89]]);
        let text = text(&[base, with]);
        let lines: Vec<&str> = text.lines().collect();
        let row = |start: &str| *lines.iter().find(|line| line.starts_with(start)).expect("a row");
        assert_eq!(
            row("0 "),
            "0              88.00 %         98.00 %        81.67 %  +16.33      0.0200     0.1833  \
             0.2500     0.0 s"
        );
        assert_eq!(
            row("0.5      test acc"),
            "0.5      test accuracy               +8.00  +5.52 to +10.48           3      0"
        );
        assert_eq!(
            row("0.5      calibration"),
            "0.5      calibration error (ECE)   +0.0000  none                      0      0"
        );
        assert_eq!(
            row("  higher test"),
            "  higher test accuracy                     yes (3 of 3 seeds)"
        );
        assert!(lines[lines.len() - 2].starts_with("verdict: dropout helps, by +8.00 points of"));
        assert!(text.ends_with("its probabilities are better"), "{text}");
    }

    #[test]
    fn several_networks_have_a_verdict_each_and_a_warning() {
        let runs = [[0.98, 0.82], [0.99, 0.80]];
        let text = text(&[arm("0", &runs), arm("0.2", &runs), arm("0.2+0.5", &[[0.9, 0.9]; 2])]);
        assert!(text.contains("\nverdict on 0.2: no effect on the test accuracy seen with 2 seeds"));
        assert!(text.contains("\nverdict on 0.2+0.5: "), "{text}");
        assert!(text.contains("highest test accuracy: dropout 0.2+0.5; since the test chose it"));
        assert!(!text.contains("signs"));
    }

    #[test]
    fn one_seed_has_no_differences() {
        let text = text(&[arm("0", &[[0.98, 0.82]]), arm("0.5", &[[0.77, 0.9]])]);
        assert!(
            !text.contains("95 %")
                && text.contains("smaller gap between training and test    yes\n")
        );
    }
}
