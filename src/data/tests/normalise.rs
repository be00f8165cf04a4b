// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::Arc;

use super::*;
use crate::data::{Normalisation, Normalised};

/// Two samples of two channels: 1 3 5 7 (mean 4, std sqrt 5) and a constant 9.
fn two_channels() -> MemoryDataset {
    MemoryDataset::new(vec![1., 3., 9., 9., 5., 7., 9., 9.], &[2, 2], vec![0, 1], 2).unwrap()
}

#[test]
fn measured_values_are_exact() {
    let measured = Normalisation::measure(&two_channels()).unwrap();
    assert_eq!(measured.mean(), [4.0, 9.0]);
    assert_eq!(measured.std(), [5.0_f32.sqrt(), 1.0]);
}

#[test]
fn a_normalised_set_has_mean_zero_and_deviation_one() {
    let measured = Normalisation::measure(&two_channels()).unwrap();
    let set = Normalised::new(Arc::new(two_channels()), measured).unwrap();
    assert_eq!((set.len(), set.classes(), set.sample_shape()), (2, 2, vec![2, 2]));
    let root = 5.0_f32.sqrt();
    assert_eq!(read(&set, 1).unwrap(), (vec![1.0 / root, 3.0 / root, 0.0, 0.0], 1));

    let again = Normalisation::measure(&set).unwrap();
    assert!(again.mean()[0].abs() < 1e-7 && (again.std()[0] - 1.0).abs() < 1e-6, "{again:?}");
    assert_eq!(blamed(read(&set, 2)), "index");
}

#[test]
fn values_that_cannot_normalise_are_refused() {
    assert_eq!(blamed(Normalisation::new(&[], &[])), "mean and std");
    assert_eq!(blamed(Normalisation::new(&[0.0], &[1.0, 1.0])), "mean and std");
    assert_eq!(blamed(Normalisation::new(&[f32::NAN], &[1.0])), "mean");
    for std in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(blamed(Normalisation::new(&[0.0], &[std])), "std");
    }
    let nan = MemoryDataset::new(vec![f32::NAN], &[1], vec![0], 1).unwrap();
    assert_eq!(blamed(Normalisation::measure(&nan)), "mean");
    let empty = MemoryDataset::new(vec![], &[1], vec![], 1).unwrap();
    assert_eq!(blamed(Normalisation::measure(&empty)), "dataset");
    let scalars = MemoryDataset::new(vec![0.0], &[], vec![0], 1).unwrap();
    assert_eq!(blamed(Normalisation::measure(&scalars)), "sample_shape");

    let one = Normalisation::new(&[0.1307], &[0.3081]).unwrap();
    assert_eq!(blamed(Normalised::new(Arc::new(two_channels()), one)), "sample_shape");
}
