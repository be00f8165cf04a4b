// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether dropout helped, by three signs and by what chance explains, and what to try next.

use super::figures::{Arm, Measure};
use super::statistics::Paired;

/// What a comparison with the network without dropout comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) effect: Effect,
    /// For people, without a full stop.
    pub(super) sentence: String,
    /// What else is seen, and what to try.
    pub(super) remarks: Vec<String>,
}

/// The effect of dropout on the accuracy on the test set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// More than chance explains.
    Helps,
    /// Harm, more than chance explains.
    Harms,
    /// Nothing that chance would not explain with so many seeds.
    Unseen,
    /// One seed, which says nothing of chance.
    OneSeed,
    /// A network gave NaN.
    NoNumbers,
}

/// A sign that dropout helps.
pub(super) struct Sign {
    pub(super) name: &'static str,
    /// Whether it is seen in the mean over all seeds.
    pub(super) is_seen: bool,
    /// Seeds with which it is seen.
    pub(super) seeds: usize,
}

/// A gap below which there is little that dropout could take away.
const LITTLE_GAP: f64 = 0.01;

/// Rates below it may regularise too little, and rates above the other much too much.
const USUAL_RATES: [f32; 2] = [0.2, 0.5];

impl Effect {
    /// For machines.
    pub(super) fn key(self) -> &'static str {
        match self {
            Effect::Helps => "helps",
            Effect::Harms => "harms",
            Effect::Unseen => "no effect seen",
            Effect::OneSeed => "one seed",
            Effect::NoNumbers => "no numbers",
        }
    }
}

/// Lower training accuracy, both in eval mode, higher test accuracy, and a smaller gap.
pub(super) fn signs(arm: &Arm, base: &Arm) -> [Sign; 3] {
    let lower = |name, measure| {
        let Paired { mean, signs, .. } = arm.paired(measure, base);
        Sign { name, is_seen: mean < 0.0, seeds: signs.below }
    };
    let test = arm.paired(Measure::TestAccuracy, base);
    [
        lower("lower training accuracy", Measure::TrainAccuracy),
        Sign { name: "higher test accuracy", is_seen: test.mean > 0.0, seeds: test.signs.above },
        lower("smaller gap between training and test", Measure::Gap),
    ]
}

/// What dropout did, against the network without it.
pub(super) fn verdict(arm: &Arm, base: &Arm) -> Verdict {
    let test = arm.paired(Measure::TestAccuracy, base);
    let effect = match arm.runs.len() {
        _ if test.mean.is_nan() => Effect::NoNumbers,
        1 => Effect::OneSeed,
        _ if test.is_above() => Effect::Helps,
        _ if test.is_below() => Effect::Harms,
        _ => Effect::Unseen,
    };
    let mut remarks = probabilities(arm, base);
    let is_better = test.mean > 0.0 && matches!(effect, Effect::Helps | Effect::OneSeed);
    if effect != Effect::NoNumbers && !is_better {
        remarks.push(advice(arm, base, effect));
    }
    Verdict { effect, sentence: sentence(effect, &test, arm, base), remarks }
}

fn sentence(effect: Effect, test: &Paired, arm: &Arm, base: &Arm) -> String {
    let seeds = arm.runs.len();
    let points = format!("{:+.2} points of test accuracy", 100.0 * test.mean);
    let interval = match test.interval {
        Some([low, high]) => {
            format!("95 % interval {:+.2} to {:+.2}", 100.0 * low, 100.0 * high)
        }
        None => "the same with every seed, which says nothing of others".into(),
    };
    let by_every_sign = signs(arm, base).iter().all(|sign| sign.is_seen);
    let more = match by_every_sign {
        true => "",
        false => ", not by every sign",
    };
    match effect {
        Effect::NoNumbers => "none, since a network no longer gives numbers".into(),
        Effect::OneSeed if test.mean > 0.0 => format!(
            "dropout helps, by {points}, with the one seed tried{more}; three or more would tell it from \
             chance"
        ),
        Effect::OneSeed => format!(
            "dropout does not help with the one seed tried ({points}); three or more would tell it from \
             chance"
        ),
        Effect::Helps => {
            let with = test.signs.above;
            format!("dropout helps, by {points} ({interval}; better with {with} of {seeds} seeds){more}")
        }
        Effect::Harms => {
            let with = test.signs.below;
            format!("dropout harms, by {points} ({interval}; worse with {with} of {seeds} seeds)")
        }
        Effect::Unseen => {
            format!("no effect on the test accuracy seen with {seeds} seeds: {points} ({interval})")
        }
    }
}

/// What the test loss and the calibration show, where chance hardly explains it.
fn probabilities(arm: &Arm, base: &Arm) -> Vec<String> {
    let mut remarks = Vec::new();
    for (measure, lower, higher) in [
        (Measure::TestLoss, "its probabilities are better", "its probabilities are worse"),
        (Measure::Ece, "its confidence fits better", "its confidence fits worse"),
    ] {
        let paired = arm.paired(measure, base);
        let what = match (paired.is_below(), paired.is_above()) {
            (true, _) => lower,
            (_, true) => higher,
            _ => continue,
        };
        let (name, mean) = (measure.name(), measure.show_difference(paired.mean));
        remarks.push(format!("{name} {mean}: {what}"));
    }
    remarks
}

/// What to try where the test accuracy did not rise.
fn advice(arm: &Arm, base: &Arm, effect: Effect) -> String {
    let falls = |measure| {
        let paired = arm.paired(measure, base);
        match effect {
            Effect::OneSeed => paired.mean < 0.0,
            _ => paired.is_below(),
        }
    };
    let gap = 100.0 * base.mean(Measure::Gap);
    let [low, high] = USUAL_RATES;
    let reduce = match arm.p {
        Some(p) if p > high => "reduce the rate, which underfits above 0.5, or increase capacity",
        _ => "reduce the rate or increase capacity",
    };
    match (falls(Measure::TrainAccuracy), falls(Measure::Gap)) {
        (true, false) => format!(
            "training accuracy falls and the gap does not: the network is underfitting; {reduce}"
        ),
        (true, true) => format!(
            "the gap shrinks by what training accuracy loses, and the test gains nothing of it: the network \
             may be underfitting; {reduce}"
        ),
        (false, _) if base.mean(Measure::Gap) < LITTLE_GAP => format!(
            "without dropout the gap is {gap:+.2} points: there is little overfitting to take away"
        ),
        (false, _) if arm.p.is_some_and(|p| p < low) => {
            "training accuracy does not clearly fall: a rate below 0.2 may not regularise enough; \
             raise it"
                .into()
        }
        (false, _) => "training accuracy does not clearly fall: dropout regularises little here; \
                       raise the rate, train longer or take more seeds"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::arm;
    use super::*;

    fn remarks(verdict: &Verdict) -> String {
        verdict.remarks.join("\n")
    }

    #[test]
    fn all_signs_and_a_clear_interval_make_a_verdict() {
        let base = arm("0", &[[0.98, 0.82], [0.99, 0.81], [0.97, 0.82]]);
        let verdict = verdict(&arm("0.5", &[[0.77, 0.90], [0.78, 0.90], [0.77, 0.89]]), &base);
        assert_eq!(verdict.effect, Effect::Helps);
        // Differences of 8, 9 and 7 points: a standard error of 1 / sqrt(3), times 4.3027.
        assert_eq!(
            verdict.sentence,
            "dropout helps, by +8.00 points of test accuracy (95 % interval +5.52 to +10.48; better \
             with 3 of 3 seeds)"
        );
        assert_eq!(verdict.remarks, ["test loss (NLL) -0.0800: its probabilities are better"]);
    }

    #[test]
    fn what_chance_explains_is_no_effect_at_this_number_of_seeds() {
        let base = arm("0", &[[0.98, 0.82], [0.98, 0.81], [0.98, 0.83]]);
        let with = arm("0.5", &[[0.90, 0.85], [0.90, 0.80], [0.91, 0.84]]);
        let verdict = verdict(&with, &base);
        assert_eq!(verdict.effect, Effect::Unseen);
        let start =
            "no effect on the test accuracy seen with 3 seeds: +1.00 points of test accuracy (95 %";
        assert!(verdict.sentence.starts_with(start), "{}", verdict.sentence);
        assert!(remarks(&verdict).contains("reduce the rate or increase capacity"), "{verdict:?}");
        let same = arm("0.5", &[[0.90, 0.83], [0.90, 0.82], [0.90, 0.84]]);
        let differences = [0.5, 0.5, 0.5].map(|_| [1.0, 0.5]);
        let equal = super::verdict(&arm("0.5", &[[1.0, 0.75]; 3]), &arm("0", &differences));
        assert_eq!(equal.effect, Effect::Unseen, "equal differences say nothing of chance");
        assert!(equal.sentence.contains("the same with every seed"), "{}", equal.sentence);
        assert_eq!(super::verdict(&same, &base).effect, Effect::Unseen, "up to rounding");
    }

    #[test]
    fn advice_is_by_what_training_accuracy_and_gap_do() {
        let base = arm("0", &[[0.90, 0.80], [0.91, 0.80], [0.90, 0.81]]);
        let advised = |p: &str, runs: &[[f64; 2]]| remarks(&verdict(&arm(p, runs), &base));
        let both_fall = advised("0.8", &[[0.70, 0.61], [0.72, 0.60], [0.70, 0.60]]);
        assert!(both_fall.contains("training accuracy falls and the gap does not"), "{both_fall}");
        assert!(both_fall.contains("underfits above 0.5"), "{both_fall}");
        let gap_too = advised("0.5", &[[0.80, 0.80], [0.81, 0.795], [0.81, 0.81]]);
        assert!(gap_too.contains("the test gains nothing of it"), "{gap_too}");
        let little = advised("0.1", &[[0.90, 0.80], [0.92, 0.80], [0.89, 0.81]]);
        assert!(little.contains("may not regularise enough"), "{little}");
        let flat = arm("0", &[[0.80, 0.80], [0.81, 0.81], [0.80, 0.80]]);
        let nothing = verdict(&arm("0.5", &[[0.80, 0.81], [0.81, 0.80], [0.81, 0.80]]), &flat);
        assert!(remarks(&nothing).contains("little overfitting to take away"), "{nothing:?}");
    }

    #[test]
    fn harm_is_told() {
        let base = arm("0", &[[0.90, 0.90], [0.91, 0.91], [0.90, 0.91]]);
        let verdict = verdict(&arm("0.8", &[[0.50, 0.52], [0.51, 0.51], [0.50, 0.50]]), &base);
        assert_eq!(verdict.effect, Effect::Harms);
        assert!(verdict.sentence.starts_with("dropout harms, by -39.67 points"), "{verdict:?}");
    }

    #[test]
    fn one_seed_says_nothing_of_chance() {
        let base = arm("0", &[[0.98, 0.82]]);
        let helps = verdict(&arm("0.5", &[[0.77, 0.90]]), &base);
        assert_eq!(helps.effect, Effect::OneSeed);
        let start =
            "dropout helps, by +8.00 points of test accuracy, with the one seed tried; three";
        assert!(helps.sentence.starts_with(start), "{}", helps.sentence);
        let not = verdict(&arm("0.5", &[[0.80, 0.80]]), &base);
        assert!(not.sentence.starts_with("dropout does not help with the one seed"), "{not:?}");
        assert!(remarks(&not).contains("reduce the rate or increase capacity"), "{not:?}");
    }

    #[test]
    fn without_numbers_there_is_no_verdict() {
        let base = arm("0", &[[0.9, 0.9], [0.9, 0.8]]);
        let verdict = verdict(&arm("0.5", &[[f64::NAN, f64::NAN], [0.9, 0.9]]), &base);
        assert_eq!(verdict.effect, Effect::NoNumbers);
        assert_eq!(verdict.sentence, "none, since a network no longer gives numbers");
    }

    #[test]
    fn signs_are_counted_by_seeds() {
        let base = arm("0", &[[0.9, 0.8], [0.9, 0.8]]);
        let signs = signs(&arm("0.5", &[[0.8, 0.9], [0.95, 0.79]]), &base);
        let seen: Vec<_> = signs.iter().map(|sign| (sign.is_seen, sign.seeds)).collect();
        assert_eq!(seen, [(true, 1), (true, 1), (true, 1)]);
    }
}
