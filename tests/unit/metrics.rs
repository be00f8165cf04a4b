// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures for each class and of calibration, against those made by hand.

use kiln::metrics::{Calibration, Confusion};
use kiln::{Error, Result, Tensor};

/// The argument that an error blames.
fn blamed<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result.expect_err("an error") {
        Error::Argument { what, .. } => what,
        other => panic!("expected an argument error, got {other:?}"),
    }
}

/// Class 0: 3 right, 1 taken for 1. Class 1: 2 right, 1 for 0, 1 for 2. Class 2: 4 right. Class 3:
/// one, taken for 0, and nothing is taken for it. Class 4: nothing at all.
fn counted() -> Confusion {
    let mut counts = Confusion::new(5).expect("classes");
    counts.add(&[0, 0, 0, 1, 1, 1, 0], &[0, 0, 0, 0, 1, 1, 1]).expect("counted");
    counts.add(&[2, 2, 2, 2, 2, 0], &[1, 2, 2, 2, 2, 3]).expect("counted");
    counts
}

#[test]
fn figures_are_those_made_by_hand() {
    let counts = counted();
    assert_eq!((counts.samples(), counts.accuracy()), (13, Some(9.0 / 13.0)));
    let rows: Vec<Vec<u64>> =
        (0..3).map(|class| (0..3).map(|guess| counts.count(class, guess)).collect()).collect();
    assert_eq!(rows, [[3, 1, 0], [1, 2, 1], [0, 0, 4]]);
    assert_eq!((counts.samples_of(1), counts.guesses_of(0)), (4, 5));

    let of = |figure: fn(&Confusion, usize) -> Option<f64>| {
        (0..5).map(|class| figure(&counts, class)).collect::<Vec<_>>()
    };
    let precisions = [Some(3.0 / 5.0), Some(2.0 / 3.0), Some(4.0 / 5.0), None, None];
    assert_eq!(of(Confusion::precision), precisions);
    let recalls = [Some(3.0 / 4.0), Some(2.0 / 4.0), Some(1.0), Some(0.0), None];
    assert_eq!(of(Confusion::recall), recalls);
    let f1 = [Some(6.0 / 9.0), Some(4.0 / 7.0), Some(8.0 / 9.0), Some(0.0), None];
    assert_eq!(of(Confusion::f1), f1);

    let mean = |figures: [Option<f64>; 5]| figures.iter().flatten().sum::<f64>() / 5.0;
    assert_eq!(counts.macro_precision(), mean(precisions));
    assert_eq!(counts.macro_recall(), mean(recalls));
    assert_eq!(counts.macro_f1(), mean(f1));
}

#[test]
fn a_table_has_a_line_for_each_class() {
    let expected = "\
class precision    recall        f1   samples
    0    0.6000    0.7500    0.6667         4
    1    0.6667    0.5000    0.5714         4
    2    0.8000    1.0000    0.8889         4
    3         -    0.0000    0.0000         1
    4         -         -         -         0
macro    0.4133    0.4500    0.4254        13";
    assert_eq!(counted().to_string(), expected);
}

#[test]
fn nothing_is_counted_of_a_batch_that_is_refused() {
    let mut counts = counted();
    assert_eq!(blamed(counts.add(&[0, 0], &[0])), "labels");
    assert_eq!(blamed(counts.add(&[0, 5], &[0, 0])), "guesses[1]");
    assert_eq!(blamed(counts.add(&[0, 0], &[0, -1])), "labels[1]");
    assert_eq!(blamed(counts.add(&[0, 0], &[0, 5])), "labels[1]");
    let scores = |values: [f32; 4]| Tensor::new([2, 2], values.to_vec()).expect("scores");
    let labels = Tensor::labels([2], vec![0, 1]).expect("labels");
    let nan = scores([0.0, 1.0, f32::NAN, 2.0]);
    assert_eq!(blamed(counts.add_scores(&nan, &labels)), "scores of sample 1");
    assert!(matches!(counts.add_scores(&labels, &labels), Err(Error::Shape { .. })));
    assert_eq!(counts, counted());
    counts.add_scores(&scores([3.0, 1.0, 1.0, 2.0]), &labels).expect("counted");
    assert_eq!((counts.count(0, 0), counts.count(1, 1), counts.samples()), (4, 3, 15));

    assert_eq!(blamed(Confusion::new(0)), "classes");
    assert_eq!(blamed(Confusion::new(usize::MAX)), "classes");
    let empty: Result<Confusion> = Confusion::new(2);
    assert_eq!(empty.expect("classes").accuracy(), None);
}

fn labels(labels: &[i32]) -> Tensor {
    Tensor::labels([labels.len()], labels.to_vec()).expect("labels")
}

fn rows<const CLASSES: usize>(rows: &[[f32; CLASSES]]) -> Tensor {
    Tensor::new([rows.len(), CLASSES], rows.concat()).expect("rows")
}

/// All of these are numbers of f32, so that sums are exact.
#[test]
fn calibration_is_that_made_by_hand() -> Result<()> {
    let mut two = Calibration::with_bins(2)?;
    // Into the bin up to 0.5, its upper edge included: confidences 0.5 and 0.375, one right.
    two.add_probabilities(&rows(&[[0.5, 0.25, 0.25], [0.25, 0.375, 0.375]]), &labels(&[0, 2]))?;
    // Into that above: 0.75, 0.625 and 1, two right.
    let above = [[0.75, 0.25, 0.0], [0.125, 0.25, 0.625], [0.0, 1.0, 0.0]];
    two.add_probabilities(&rows(&above), &labels(&[0, 1, 1]))?;
    assert_eq!((two.samples(), two.accuracy()), (5, Some(3.0 / 5.0)));
    // |1 - 0.875| and |2 - 2.375|.
    assert_eq!(two.ece(), Some((0.125 + 0.375) / 5.0));
    let product: f64 = 0.5 * 0.375 * 0.75 * 0.25 * 1.0;
    let nll = two.nll().expect("samples");
    assert!((nll + product.ln() / 5.0).abs() < 1e-15, "{nll}");

    // One bin says how far the mean confidence is from the accuracy: 3.25 of 5, against 3 of 5.
    let mut one = Calibration::with_bins(1)?;
    one.add_probabilities(&rows(&[[0.5, 0.25, 0.25], [0.25, 0.375, 0.375]]), &labels(&[0, 2]))?;
    one.add_probabilities(&rows(&above), &labels(&[0, 1, 1]))?;
    assert_eq!(one.ece(), Some(0.25 / 5.0));

    // What was held for impossible.
    two.add_probabilities(&rows(&[[1.0, 0.0, 0.0]]), &labels(&[1]))?;
    assert_eq!(two.nll(), Some(f64::INFINITY));
    Ok(())
}

/// The softmax of (a, a + ln 3) is (1/4, 3/4), however large a is.
#[test]
fn scores_are_calibrated_by_their_softmax() -> Result<()> {
    let ln3 = 3.0_f32.ln();
    for large in [0.0, 64.0, -64.0] {
        let mut calibration = Calibration::default();
        let scores = rows(&[[large, large + ln3], [large + ln3, large]]);
        calibration.add_scores(&scores, &labels(&[1, 1]))?;
        let (ece, nll) = (calibration.ece().expect("two"), calibration.nll().expect("two"));
        assert!((ece - 0.25).abs() < 1e-5, "{ece} at {large}");
        assert!((nll + (0.75_f64.ln() + 0.25_f64.ln()) / 2.0).abs() < 1e-5, "{nll} at {large}");
    }
    let mut far = Calibration::default();
    far.add_scores(&rows(&[[3e38, -3e38]]), &labels(&[1]))?;
    assert_eq!((far.ece(), far.nll().map(|nll| nll > 5e38)), (Some(1.0), Some(true)));
    Ok(())
}

#[test]
fn nothing_is_calibrated_by_a_batch_that_is_refused() -> Result<()> {
    let mut some = Calibration::default();
    assert_eq!((some.ece(), some.nll(), some.accuracy()), (None, None, None));
    some.add_scores(&rows(&[[1.0, 2.0]]), &labels(&[1]))?;
    let before = some.clone();
    let fine = rows(&[[0.5, 0.5], [1.0, 0.0]]);
    assert_eq!(blamed(some.add_probabilities(&fine, &labels(&[0]))), "labels");
    assert_eq!(blamed(some.add_probabilities(&fine, &labels(&[0, 2]))), "labels[1]");
    assert_eq!(blamed(some.add_scores(&fine, &labels(&[0, -1]))), "labels[1]");
    for wrong in [f32::NAN, 1.5, -0.5] {
        let wrong = rows(&[[0.5, 0.5], [wrong, 0.5]]);
        let refused = some.add_probabilities(&wrong, &labels(&[0, 1]));
        assert_eq!(blamed(refused), "probabilities of sample 1");
    }
    for wrong in [f32::NAN, f32::INFINITY] {
        let wrong = rows(&[[0.5, 0.5], [wrong, 0.5]]);
        assert_eq!(blamed(some.add_scores(&wrong, &labels(&[0, 1]))), "scores of sample 1");
    }
    assert!(matches!(some.add_scores(&labels(&[0]), &labels(&[0])), Err(Error::Shape { .. })));
    assert_eq!(some, before);
    assert_eq!(blamed(Calibration::with_bins(0)), "bins");
    assert_eq!(blamed(Calibration::with_bins(usize::MAX)), "bins");
    Ok(())
}
