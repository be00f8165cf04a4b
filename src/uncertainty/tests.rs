// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::{Result, Tensor};

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
}

fn probabilities(rows: &[&[f64]]) -> Result<Probabilities> {
    let mut all = Probabilities::new(rows[0].len())?;
    rows.iter().try_for_each(|row| all.add(row))?;
    Ok(all)
}

/// Scores whose softmax are these probabilities.
fn scores(shape: &[usize], probabilities: &[f32]) -> Result<Tensor> {
    Tensor::new(shape, probabilities.iter().map(|p| p.ln()).collect())
}

/// Five samples of two classes: confidences 0.9, 0.8, 0.8, 0.6, 0.6, of which the second and the last are
/// wrong.
fn five() -> Result<(Probabilities, [i32; 5])> {
    let rows: [&[f64]; 5] = [&[0.9, 0.1], &[0.8, 0.2], &[0.2, 0.8], &[0.4, 0.6], &[0.6, 0.4]];
    Ok((probabilities(&rows)?, [0, 1, 1, 1, 1]))
}

#[test]
fn figures_of_probabilities_are_those_by_hand() -> Result<()> {
    let (all, labels) = five()?;
    assert_eq!((all.samples(), all.classes(), all.of(2)), (5, 2, &[0.2, 0.8][..]));
    assert_eq!(all.guesses(), [0, 0, 1, 1, 0]);
    assert_eq!(all.confidences(), [0.9, 0.8, 0.8, 0.6, 0.6]);
    close(all.accuracy(&labels)?, 3.0 / 5.0);
    // -log(0.9 * 0.2 * 0.8 * 0.6 * 0.4) / 5
    close(all.negative_log_likelihood(&labels)?, -(0.03456_f64.ln()) / 5.0);
    // 2 (0.1^2 + 0.8^2 + 0.2^2 + 0.4^2 + 0.6^2) / 5
    close(all.brier_score(&labels)?, 2.0 * 1.21 / 5.0);
    close(all.entropy()[0], -(0.9 * 0.9_f64.ln() + 0.1 * 0.1_f64.ln()));
    let certain = probabilities(&[&[1.0, 0.0], &[0.5, 0.5]])?;
    assert_eq!(certain.entropy()[0], 0.0);
    close(certain.entropy()[1], 2.0_f64.ln());
    assert_eq!(certain.negative_log_likelihood(&[1, 0])?, f64::INFINITY);
    Ok(())
}

#[test]
fn calibration_errors_are_those_by_hand() -> Result<()> {
    let (all, labels) = five()?;
    // (0.5, 0.6], (0.7, 0.8] and (0.8, 0.9]: |1 - 1.2| + |1 - 1.6| + |1 - 0.9|.
    close(all.calibration_error(&labels, Bins::EqualWidth(10))?, 0.9 / 5.0);
    // (0.5, 1] alone: |3 - 3.7|.
    close(all.calibration_error(&labels, Bins::EqualWidth(2))?, 0.7 / 5.0);
    // 0.6 0.6 | 0.8 0.8 0.9, of which one and two are right.
    close(all.calibration_error(&labels, Bins::EqualCount(2))?, (0.2 + 0.5) / 5.0);
    // One by one: 0.4 + 0.6 + 0.8 + 0.2 + 0.1.
    close(all.calibration_error(&labels, Bins::EqualCount(99))?, 2.1 / 5.0);
    // An edge belongs to the bin below it.
    let edge = probabilities(&[&[0.5, 0.5], &[0.75, 0.25]])?;
    close(edge.calibration_error(&[0, 1], Bins::EqualWidth(4))?, (0.5 + 0.75) / 2.0);
    Ok(())
}

/// All of these are sums of powers of 2, so that figures are exact.
#[test]
fn few_bins_are_those_by_hand() -> Result<()> {
    let rows: [&[f64]; 5] = [
        // Into the bin up to 0.5, its upper edge included: confidences 0.5 and 0.375, one right.
        &[0.5, 0.25, 0.25],
        &[0.25, 0.375, 0.375],
        // Into that above: 0.75, 0.625 and 1, two right.
        &[0.75, 0.25, 0.0],
        &[0.125, 0.25, 0.625],
        &[0.0, 1.0, 0.0],
    ];
    let (all, labels) = (probabilities(&rows)?, [0, 2, 0, 1, 1]);
    assert_eq!(all.accuracy(&labels)?, 3.0 / 5.0);
    // |1 - 0.875| and |2 - 2.375|.
    assert_eq!(all.calibration_error(&labels, Bins::EqualWidth(2))?, (0.125 + 0.375) / 5.0);
    // How far the mean confidence is from the accuracy: 3.25 of 5, against 3 of 5.
    assert_eq!(all.calibration_error(&labels, Bins::EqualWidth(1))?, 0.25 / 5.0);
    let product: f64 = 0.5 * 0.375 * 0.75 * 0.25 * 1.0;
    let nll = all.negative_log_likelihood(&labels)?;
    assert!((nll + product.ln() / 5.0).abs() < 1e-15, "{nll}");
    Ok(())
}

/// The softmax of (a, a + ln 3) is (1/4, 3/4), however large a is; batches are counted together, and one that
/// is refused leaves nothing behind.
#[test]
fn scores_are_taken_by_their_softmax_in_batches() -> Result<()> {
    let ln3 = 3.0_f32.ln();
    for large in [0.0, 64.0, -64.0] {
        let mut all = Probabilities::new(2)?;
        all.add_scores(&Tensor::new([1, 2], vec![large, large + ln3])?)?;
        let before = all.clone();
        let wrong = Tensor::new([2, 2], vec![0.0, 0.0, f32::NAN, 0.0])?;
        assert!(all.add_scores(&wrong).is_err() && all.add_scores(&Tensor::zeros([1, 3])).is_err());
        assert_eq!(all, before);
        all.add_scores(&Tensor::new([1, 2], vec![large + ln3, large])?)?;
        let ece = all.calibration_error(&[1, 1], Bins::USUAL)?;
        assert!((ece - 0.25).abs() < 1e-5, "{ece} at {large}");
        let nll = all.negative_log_likelihood(&[1, 1])?;
        assert!((nll + (0.75_f64.ln() + 0.25_f64.ln()) / 2.0).abs() < 1e-5, "{nll} at {large}");
    }
    let far = Probabilities::of_scores(&Tensor::new([1, 2], vec![3e38, -3e38])?)?;
    assert_eq!(far.calibration_error(&[1], Bins::USUAL)?, 1.0);
    assert_eq!(far.negative_log_likelihood(&[1])?, f64::INFINITY);
    Ok(())
}

#[test]
fn risk_coverage_areas_are_those_by_hand() -> Result<()> {
    let (all, labels) = five()?;
    // One right; of two equally sure ones one is wrong; likewise of the last two.
    let risks = [0.0, 0.5 / 2.0, 1.0 / 3.0, 1.5 / 4.0, 2.0 / 5.0];
    close(all.risk_coverage_area(&labels)?, risks.iter().sum::<f64>() / 5.0);
    let risks = [1.0, 2.0 / 2.0, 2.0 / 3.0, 2.0 / 4.0, 2.0 / 5.0];
    let by = all.risk_coverage_area_by(&labels, &[3.0, 1.0, 4.0, 5.0, 2.0])?;
    close(by, risks.iter().sum::<f64>() / 5.0);
    // Nobody is surer than another: the risk is that of all, whatever is covered.
    close(all.risk_coverage_area_by(&labels, &[0.0; 5])?, 2.0 / 5.0);
    Ok(())
}

#[test]
fn spreads_are_those_by_hand() -> Result<()> {
    // Two samples of two classes with four draws each.
    let of_draws = [0.9, 0.1, 0.5, 0.5, 0.3, 0.7, 0.5, 0.5, 0.6, 0.4, 0.5, 0.5, 0.6, 0.4, 0.5, 0.5];
    let mut spread = Spread::new(2)?;
    spread.add(&scores(&[4, 2, 2], &of_draws)?)?;
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    };
    near(spread.mean().of(0)[0], 0.6);
    // (0.3^2 + 0.3^2 + 0 + 0) / 4 for either class.
    near(spread.variance()[0], 0.045);
    near(spread.variance()[1], 0.045);
    assert_eq!(spread.variation_ratio()[0], 0.25);
    let h = |p: f64| -(p * p.ln() + (1.0 - p) * (1.0 - p).ln());
    near(spread.predictive_entropy()[0], h(0.6));
    near(spread.expected_entropy()[0], (h(0.9) + h(0.3) + 2.0 * h(0.6)) / 4.0);
    let information = h(0.6) - (h(0.9) + h(0.3) + 2.0 * h(0.6)) / 4.0;
    near(spread.mutual_information()[0], information);
    // Draws that all say the same.
    assert_eq!(spread.mean().of(1), [0.5, 0.5]);
    assert_eq!((spread.variance()[2], spread.mutual_information()[1]), (0.0, 0.0));
    assert_eq!(spread.variation_ratio()[1], 0.0);

    // Sample by sample it is the same.
    let mut parts = Spread::new(2)?;
    for sample in 0..2 {
        let rows = of_draws.chunks(2).skip(sample).step_by(2).flatten().copied();
        parts.add(&scores(&[4, 1, 2], &rows.collect::<Vec<f32>>())?)?;
    }
    assert_eq!(parts, spread);
    Ok(())
}

/// Of two classes whose scores are `a` apart, right with a share of `r`: `sigmoid(a / T) = r`.
#[test]
fn temperatures_are_those_by_hand() -> Result<()> {
    let rows = |apart: f32, count: usize| {
        Tensor::new([count, 2], [apart, 0.0].repeat(count)).expect("rows")
    };
    for (apart, wrong, count) in [(4.0_f32, 1, 4), (0.5, 1, 10), (30.0, 3, 10), (0.1, 1, 50)] {
        let labels: Vec<i32> = (0..count).map(|sample| i32::from(sample < wrong)).collect();
        let share = 1.0 - f64::from(wrong) / f64::from(count);
        let expected = f64::from(apart) / (share / (1.0 - share)).ln();
        let scores = rows(apart, count as usize);
        let temperature = Temperature::fit(&scores, &labels)?;
        let found = temperature.value();
        assert!((found / expected - 1.0).abs() < 1e-8, "{found} is not {expected}");
        let scaled = temperature.probabilities(&scores)?;
        assert!((scaled.of(0)[0] - share).abs() < 1e-8);
        // No other is better.
        let loss = scaled.negative_log_likelihood(&labels)?;
        for factor in [0.99, 1.01] {
            let other = Probabilities::at(&scores, factor / found)?;
            assert!(other.negative_log_likelihood(&labels)? > loss);
        }
    }
    // Where all are right no temperature is low enough, where most are wrong none high enough.
    assert_eq!(Temperature::fit(&rows(1.0, 3), &[0, 0, 0])?.value(), 0.01);
    assert_eq!(Temperature::fit(&rows(1.0, 3), &[1, 1, 0])?.value(), 100.0);
    assert_eq!(Temperature::fit(&rows(0.0, 3), &[1, 1, 0])?.value(), 1.0);
    Ok(())
}

#[test]
fn softmax_is_that_by_hand_and_knows_no_overflow() -> Result<()> {
    let scores = Tensor::new([2, 3], vec![1e30, 0.0, f32::NEG_INFINITY, 0.0, 3.0_f32.ln(), 0.0])?;
    let found = Probabilities::of_scores(&scores)?;
    assert_eq!(found.of(0), [1.0, 0.0, 0.0]);
    assert!((found.of(1)[1] - 0.6).abs() < 1e-7);
    Temperature::fit(&scores, &[0, 1])?;
    Ok(())
}

#[test]
fn what_is_no_figure_is_an_error() -> Result<()> {
    let (all, labels) = five()?;
    let text = |result: Result<f64>| result.unwrap_err().to_string();
    assert_eq!(text(all.accuracy(&labels[1..])), "labels: expected 5, one per sample, got 4");
    let error = text(all.brier_score(&[0, 1, 2, 0, 0]));
    assert_eq!(error, "labels[2]: expected a class from 0 to 1, got 2");
    let error = text(all.negative_log_likelihood(&[0, 1, -1, 0, 0]));
    assert_eq!(error, "labels[2]: expected a class from 0 to 1, got -1");
    let error = text(all.calibration_error(&labels, Bins::EqualWidth(0)));
    assert_eq!(error, "bins: expected 1 or more, got 0");
    assert!(all.risk_coverage_area_by(&labels, &[0.0; 4]).is_err());
    assert!(all.risk_coverage_area_by(&labels, &[0.0, 0.0, 0.0, 0.0, f64::NAN]).is_err());
    assert_eq!(text(Probabilities::new(2)?.accuracy(&[])), "samples: expected 1 or more, got 0");
    assert!(Probabilities::new(0).is_err() && Spread::new(0).is_err());
    let mut none = Probabilities::new(2)?;
    for row in [&[0.5, 0.6][..], &[1.5, -0.5], &[1.0], &[f64::NAN, 1.0]] {
        assert!(none.add(row).is_err(), "{row:?}");
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let scores = Tensor::new([2, 2], vec![0.0, 0.0, bad, 0.0])?;
        let error = Probabilities::of_scores(&scores).unwrap_err().to_string();
        assert_eq!(error, "scores of sample 1: expected finite numbers, got others");
        assert!(Temperature::fit(&scores, &[0, 1]).is_err());
        let mut spread = Spread::new(2)?;
        assert!(spread.add(&scores.reshaped([1, 2, 2])?).is_err());
        assert_eq!(spread, Spread::new(2)?, "nothing is added");
    }
    let error = Probabilities::of_scores(&Tensor::zeros([4])).unwrap_err().to_string();
    assert_eq!(error, "uncertainty: expected scores [samples, classes], got [4]");
    let error = Spread::new(3)?.add(&Tensor::zeros([2, 4, 2])).unwrap_err().to_string();
    let expected = "scores [draws, samples, 3] of 1 draw or more, got [2, 4, 2]";
    assert_eq!(error, format!("uncertainty: expected {expected}"));
    Ok(())
}
