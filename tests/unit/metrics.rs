// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures for each class, against those made by hand.

use kiln::metrics::Confusion;
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
