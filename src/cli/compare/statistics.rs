// SPDX-License-Identifier: MIT OR Apache-2.0
//! Differences of pairs, and how far chance can explain them.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

/// Differences of pairs that share everything but what is compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Paired {
    pub(super) mean: f64,
    /// The 95 % confidence interval of the mean by Student's t. There is none of fewer than two
    /// differences, of equal ones, which say nothing of how far others would be, and of NaN.
    pub(super) interval: Option<[f64; 2]>,
    pub(super) signs: Signs,
}

/// Differences above, below and at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signs {
    pub(super) above: usize,
    pub(super) below: usize,
    pub(super) equal: usize,
}

/// How often an interval holds the mean that it is of.
const CONFIDENCE: f64 = 0.95;

/// Differences of numbers near 1 that differ by less are equal.
const ROUNDING: f64 = 1e-12;

impl Paired {
    pub(super) fn of(differences: &[f64]) -> Self {
        let count = differences.len() as f64;
        let mean = mean(differences);
        let squares = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>();
        let spread = differences.iter().map(|difference| (difference - mean).abs());
        let is_spread = spread.fold(0.0, f64::max) > ROUNDING;
        let interval = (is_spread && squares.is_finite()).then(|| {
            let error = (squares / (count - 1.0) / count).sqrt();
            let half = t_quantile(differences.len() - 1) * error;
            [mean - half, mean + half]
        });
        let signs = |is: fn(&f64) -> bool| differences.iter().filter(|value| is(value)).count();
        let signs = Signs {
            above: signs(|value| *value > 0.0),
            below: signs(|value| *value < 0.0),
            equal: signs(|value| *value == 0.0),
        };
        Paired { mean, interval, signs }
    }

    /// Whether chance hardly explains that the mean is above 0.
    pub(super) fn is_above(&self) -> bool {
        self.interval.is_some_and(|[low, _]| low > 0.0)
    }

    /// Whether chance hardly explains that the mean is below 0.
    pub(super) fn is_below(&self) -> bool {
        self.interval.is_some_and(|[_, high]| high < 0.0)
    }
}

/// NaN without values.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The value that |t| stays below with a probability of 95 %, for 1 and more degrees of freedom.
pub(super) fn t_quantile(degrees: usize) -> f64 {
    // The probability rises with the angle, so halving finds it to the last bits.
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    loop {
        let angle = 0.5 * (low + high);
        if angle <= low || angle >= high {
            return (degrees as f64).sqrt() * angle.tan();
        }
        match probability_within(angle, degrees) < CONFIDENCE {
            true => low = angle,
            false => high = angle,
        }
    }
}

/// The probability that |t| is below `sqrt(degrees) * tan(angle)`: the finite sums for whole degrees of
/// freedom in Abramowitz and Stegun, 26.7.3 and 26.7.4.
fn probability_within(angle: f64, degrees: usize) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let is_odd = degrees % 2 == 1;
    let (mut term, mut sum) = if is_odd { (cosine, 0.0) } else { (1.0, 0.0) };
    // The powers of the cosine go up by two, to the number of degrees less two.
    let mut power = if is_odd { 1 } else { 0 };
    while power + 2 <= degrees {
        sum += term;
        term *= cosine * cosine * (power + 1) as f64 / (power + 2) as f64;
        power += 2;
    }
    match is_odd {
        true => FRAC_2_PI * (angle + sine * sum),
        false => sine * sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To twelve digits, from 30 digits by the incomplete beta function.
    #[test]
    fn quantiles_are_those_of_tables() {
        for (degrees, expected) in [
            (1, 12.706_204_736_175),
            (2, 4.302_652_729_749),
            (3, 3.182_446_305_284),
            (4, 2.776_445_105_198),
            (5, 2.570_581_835_636),
            (9, 2.262_157_162_799),
            (10, 2.228_138_851_986),
            (29, 2.045_229_642_133),
            (30, 2.042_272_456_301),
            (100, 1.983_971_518_524),
            (1000, 1.962_339_080_826),
        ] {
            let got = t_quantile(degrees);
            assert!((got - expected).abs() < 2e-12 * expected, "{got} of {degrees}");
        }
    }

    #[test]
    fn an_interval_is_that_made_by_hand() {
        // Deviations -2, 0 and 2: a variance of 8 / 2, a standard error of sqrt(4 / 3).
        let paired = Paired::of(&[1.0, 3.0, 5.0]);
        let half = 4.302_652_729_749 * (4.0_f64 / 3.0).sqrt();
        let [low, high] = paired.interval.expect("an interval");
        assert_eq!(paired.mean, 3.0);
        assert!((low - (3.0 - half)).abs() < 1e-11 && (high - (3.0 + half)).abs() < 1e-11);
        assert!(!paired.is_above() && !paired.is_below(), "{low} to {high}");
        assert_eq!(paired.signs, Signs { above: 3, below: 0, equal: 0 });

        let narrow = Paired::of(&[-0.9, -1.0, -1.1, -1.0]);
        assert!(narrow.is_below() && !narrow.is_above());
        // A variance of 0.02 / 3, a standard error of sqrt(0.02 / 12).
        let half = 3.182_446_305_284 * (0.02_f64 / 12.0).sqrt();
        let [low, high] = narrow.interval.expect("an interval");
        assert!((low + 1.0 + half).abs() < 1e-12 && (high + 1.0 - half).abs() < 1e-12);
        assert_eq!(
            Paired::of(&[1.0, 0.0, -2.0, 0.0]).signs,
            Signs { above: 1, below: 1, equal: 2 }
        );
    }

    /// One pair, equal differences and NaN have no interval, and so no effect is seen in them.
    #[test]
    fn what_says_nothing_of_chance_has_no_interval() {
        for differences in [
            &[0.5][..],
            &[0.5; 3],
            &[0.3 - 0.2, 0.1],
            &[0.0; 4],
            &[0.5, f64::NAN],
            &[1.0, f64::INFINITY],
        ] {
            let paired = Paired::of(differences);
            assert_eq!(paired.interval, None, "{differences:?}");
            assert!(!paired.is_above() && !paired.is_below());
        }
        assert!(Paired::of(&[0.5, f64::NAN]).mean.is_nan() && Paired::of(&[]).mean.is_nan());
    }
}
