// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks behave as independent coins of the right weight.

use kiln::mask::Mask;

/// Decisions looked at per statistic. A correlation of independent coins has a standard deviation
/// of 1/256, and [`SIGMAS`] of them are the bound.
const COUNT: u32 = 1 << 16;
const SIGMAS: f64 = 5.0;
const RATES: [f32; 4] = [0.1, 0.25, 0.5, 0.9];

/// Kept elements as 1, dropped ones as 0, of one sample of one pass of one site.
fn decisions(site: &str, p: f32, step: u32, sample: u32) -> Vec<f64> {
    let mask = Mask::new(2024, site, p);
    (0..COUNT).map(|element| f64::from(u8::from(mask.keeps(step, sample, element)))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let covariance = |a: &[f64], ma: f64, b: &[f64], mb: f64| -> f64 {
        a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum()
    };
    let (aa, bb) = (covariance(a, mean_a, a, mean_a), covariance(b, mean_b, b, mean_b));
    covariance(a, mean_a, b, mean_b) / (aa * bb).sqrt()
}

#[test]
fn rates_are_right() {
    for p in RATES {
        for (sample, step) in [(0, 0), (1, 0), (0, 1), (77, 12345)] {
            let exact = (f64::from(p) * 32768.0).round() / 32768.0;
            let sigma = (exact * (1.0 - exact) / f64::from(COUNT)).sqrt();
            let rate = 1.0 - mean(&decisions("dropout1#0", p, step, sample));
            let off = (rate - exact).abs() / sigma;
            assert!(off < SIGMAS, "p = {p}: {rate}, {off:.1} sigma from {exact}");
        }
    }
}

/// The expectation of `mask * scale` is 1 exactly, because the scale is that of the rounded rate.
#[test]
fn the_scale_undoes_the_rate() {
    for p in RATES.into_iter().chain([0.2, 0.3, 1.0 / 3.0, 0.7]) {
        let drop = (f64::from(p) * 32768.0).round();
        let scale = f64::from(Mask::new(1, "a#0", p).scale());
        let product = (32768.0 - drop) / 32768.0 * scale;
        assert!((product - 1.0).abs() < 6e-8, "p = {p}: {product}");

        let kept = mean(&decisions("dropout1#0", p, 5, 9));
        let sigma = scale * (kept * (1.0 - kept) / f64::from(COUNT)).sqrt();
        assert!((kept * scale - 1.0).abs() < SIGMAS * sigma, "p = {p}: {}", kept * scale);
    }
}

/// Neighbours in every direction of the counter, and all distances within two blocks of elements.
#[test]
fn neighbours_are_uncorrelated() {
    let bound = SIGMAS / f64::from(COUNT).sqrt();
    for p in RATES {
        let here = decisions("dropout1#0", p, 3, 10);
        let others = [
            ("sample", decisions("dropout1#0", p, 3, 11)),
            ("step", decisions("dropout1#0", p, 4, 10)),
            ("call", decisions("dropout1#1", p, 3, 10)),
            ("site", decisions("dropout2#0", p, 3, 10)),
            ("Monte Carlo pass", decisions("dropout1#0", p, kiln::MONTE_CARLO_PASS | 3, 10)),
        ];
        for (what, other) in others {
            let r = correlation(&here, &other);
            assert!(r.abs() < bound, "p = {p}: neighbouring {what}: r = {r:.4}");
        }
        for distance in 1..=16 {
            let r = correlation(&here[..here.len() - distance], &here[distance..]);
            assert!(r.abs() < bound, "p = {p}: elements {distance} apart: r = {r:.4}");
        }
    }
}

/// The same statistics notice a mask that is not random.
#[test]
fn the_statistics_can_fail() {
    let here = decisions("dropout1#0", 0.5, 3, 10);
    assert!(correlation(&here, &here) > 0.999);
    let shifted: Vec<f64> = here.iter().skip(1).copied().chain([0.0]).collect();
    assert!(correlation(&here[1..], &shifted[..shifted.len() - 1]) > 0.999);
}
