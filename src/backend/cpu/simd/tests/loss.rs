// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{cross_entropy, log_softmax_rows, softmax_rows, target_weight, CrossEntropy};
use super::*;

#[test]
fn golden_numbers_of_pytorch() {
    let logits = [1.0, 2.0, 3.0, 0.5, -1.0, 0.25, 2.0, 0.0, 1.0];
    let targets = [2, -100, 0];
    let weights = [1.0, 2.0, 0.5];
    for (label_smoothing, class_weights, want) in
        [(0.0, None, 0.4076060), (0.1, None, 0.5076060), (0.1, Some(&weights[..]), 0.6191397)]
    {
        let loss = CrossEntropy { ignore_index: -100, label_smoothing, class_weights };
        everywhere(|pool, isa| {
            let mut losses = [f32::NAN; 3];
            cross_entropy(pool, isa, &loss, 3, &logits, &targets, &mut losses, None);
            let sum: f64 = losses.iter().map(|&value| f64::from(value)).sum();
            let mean = sum / target_weight(&loss, 3, &targets);
            assert!((mean - want).abs() < 2e-7, "got {mean}, want {want}");
        });
    }
}

/// The loss of one row in f64.
fn row_loss(loss: &CrossEntropy<'_>, logits: &[f64], target: usize) -> f64 {
    let log_sum = logits.iter().map(|value| value.exp()).sum::<f64>().ln();
    let weight = |class: usize| loss.class_weights.map_or(1.0, |weights| f64::from(weights[class]));
    let smoothing = f64::from(loss.label_smoothing);
    let term = |class: usize| weight(class) * (log_sum - logits[class]);
    let all: f64 = (0..logits.len()).map(term).sum();
    (1.0 - smoothing) * term(target) + smoothing / logits.len() as f64 * all
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    for classes in [1, 3, 10, 37] {
        let logits: Vec<f32> = noise(6 * classes, 10).iter().map(|value| value * 4.0).collect();
        let targets: Vec<i32> = (0..6).map(|row| (row * 7 % classes) as i32).collect();
        let weights: Vec<f32> = (0..classes).map(|class| 0.5 + class as f32 * 0.25).collect();
        let loss =
            CrossEntropy { ignore_index: -1, label_smoothing: 0.2, class_weights: Some(&weights) };
        let mut want = Vec::new();
        for (row, &target) in logits.chunks(classes).zip(&targets) {
            let row: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
            for class in 0..classes {
                let moved = |by: f64| {
                    let mut row = row.clone();
                    row[class] += by;
                    row_loss(&loss, &row, target as usize)
                };
                want.push((moved(1e-5) - moved(-1e-5)) / 2e-5 * 0.5);
            }
        }
        everywhere(|pool, isa| {
            let (mut losses, mut gradient) = (vec![0.0; 6], vec![f32::NAN; logits.len()]);
            let to = Some((&mut gradient[..], 0.5));
            cross_entropy(pool, isa, &loss, classes, &logits, &targets, &mut losses, to);
            assert_close(&gradient, &want, 2e-6);
        });
    }
}

#[test]
fn ignored_rows_are_zero_and_wrong_targets_are_nan() {
    let loss = CrossEntropy { ignore_index: 1, label_smoothing: 0.0, class_weights: None };
    everywhere(|pool, isa| {
        let (mut losses, mut gradient) = ([9.0; 3], [9.0; 6]);
        let to = Some((&mut gradient[..], 1.0));
        cross_entropy(pool, isa, &loss, 2, &[1.0; 6], &[1, 2, -3], &mut losses, to);
        assert_eq!((losses[0], &gradient[..2]), (0.0, &[0.0, 0.0][..]));
        assert!(losses[1..].iter().chain(&gradient[2..]).all(|value| value.is_nan()));
    });
}

#[test]
fn softmax_of_rows() {
    for columns in [1, 7, 16, 45] {
        let mut x: Vec<f32> = noise(5 * columns, 11).iter().map(|value| value * 20.0).collect();
        x[0] += 1000.0;
        x[columns] = f32::NAN;
        let mut want = Vec::new();
        for row in x.chunks(columns) {
            let most =
                row.iter().fold(f64::NEG_INFINITY, |most, &value| most.max(f64::from(value)));
            let sum: f64 = row.iter().map(|&value| (f64::from(value) - most).exp()).sum();
            want.extend(row.iter().map(|&value| f64::from(value) - most - sum.ln()));
        }
        let softmax: Vec<f64> = want.iter().map(|value| value.exp()).collect();
        everywhere(|pool, isa| {
            let mut y = vec![f32::INFINITY; x.len()];
            log_softmax_rows(pool, isa, columns, &x, &mut y);
            assert_close(&y, &want, 1e-6);
            softmax_rows(pool, isa, columns, &x, &mut y);
            assert_close(&y, &softmax, 1e-6);
        });
    }
}

/// Scores far apart, of which one makes an infinite logarithm: the other classes do not hear of it.
#[test]
fn infinite_log_probabilities() {
    let plain = CrossEntropy { ignore_index: -1, label_smoothing: 0.0, class_weights: None };
    let scores = [1.0, 2.0, f32::NEG_INFINITY, 3e38, -3e38, -3e38];
    everywhere(|pool, isa| {
        let (mut losses, mut gradient) = ([f32::NAN; 2], [f32::NAN; 6]);
        let to = Some((&mut gradient[..], 1.0));
        cross_entropy(pool, isa, &plain, 3, &scores, &[0, 0], &mut losses, to);
        assert_close(&losses, &[1.313_261_7, 0.0], 2e-7);
        assert_close(&gradient, &[-0.731_058_6, 0.731_058_6, 0.0, 0.0, 0.0, 0.0], 2e-7);
    });
}

/// Weights of thousands of classes are added up without loss.
#[test]
fn smoothing_over_many_classes() {
    for classes in [1_000, 50_000] {
        let logits: Vec<f32> = noise(classes, 12).iter().map(|value| value * 2.0).collect();
        let weights: Vec<f32> = noise(classes, 13).iter().map(|value| value.abs()).collect();
        for class_weights in [None, Some(&weights[..])] {
            let loss = CrossEntropy { ignore_index: -1, label_smoothing: 0.1, class_weights };
            let wide: Vec<f64> = logits.iter().map(|&value| f64::from(value)).collect();
            let weight =
                |class: usize| class_weights.map_or(1.0, |weights| f64::from(weights[class]));
            let spread = f64::from(loss.label_smoothing) / classes as f64;
            let on_target = (1.0 - f64::from(loss.label_smoothing)) * weight(3);
            let all = on_target + spread * (0..classes).map(weight).sum::<f64>();
            let sum: f64 = wide.iter().map(|value| value.exp()).sum();
            everywhere(|pool, isa| {
                let (mut losses, mut gradient) = ([0.0], vec![f32::NAN; classes]);
                let to = Some((&mut gradient[..], 1.0));
                cross_entropy(pool, isa, &loss, classes, &logits, &[3], &mut losses, to);
                assert_close(&losses, &[row_loss(&loss, &wide, 3)], 1e-6);
                for (class, (&got, logit)) in gradient.iter().zip(&wide).enumerate() {
                    let (pull, push) = (all * logit.exp() / sum, spread * weight(class));
                    let push = push + if class == 3 { on_target } else { 0.0 };
                    let error = (f64::from(got) - (pull - push)).abs() / (pull + push);
                    assert!(error < 1e-6, "class {class} of {classes} on {isa}: {error:e} off");
                }
            });
        }
    }
}
