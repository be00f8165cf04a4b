// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::data::Digits;

#[test]
fn the_shipped_digits_are_the_data_set() {
    let digits = Digits::load();
    assert_eq!(digits.pixels().len(), 1797 * 64);
    assert!(digits.pixels().iter().all(|&value| value <= 16));
    let counts = digits.to_8x8().class_counts();
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    // The head of the source: the first digit is a 0, its second row starts 0 0 13 15.
    assert_eq!(digits.labels()[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(digits.pixels()[..12], [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15]);
    let total: u64 = digits.pixels().iter().map(|&value| u64::from(value)).sum();
    assert_eq!(total, 561_718);
}

#[test]
fn an_enlarged_digit_repeats_each_pixel_inside_a_zero_border() {
    let digits = Digits::load();
    let large = digits.to_28x28();
    assert_eq!(large.sample_shape(), [1, 28, 28]);
    for index in [0, 1, 1796] {
        let (image, label) = large.sample(index).unwrap();
        assert_eq!(label, i32::from(digits.labels()[index]));
        for (row, line) in image.chunks(28).enumerate() {
            for (column, &value) in line.iter().enumerate() {
                let inside = (2..26).contains(&row) && (2..26).contains(&column);
                let source = || digits.pixels()[index * 64 + (row - 2) / 3 * 8 + (column - 2) / 3];
                let wanted = if inside { f32::from(source()) / 16.0 } else { 0.0 };
                assert_eq!(value, wanted, "digit {index}, row {row}, column {column}");
            }
        }
    }
}

#[test]
fn colour_digits_have_three_equal_channels() {
    let digits = Digits::load();
    let colour = digits.to_32x32_rgb();
    assert_eq!(colour.sample_shape(), [3, 32, 32]);
    let (image, _) = colour.sample(5).unwrap();
    assert_eq!(image[..1024], image[1024..2048]);
    assert_eq!(image[..1024], image[2048..]);
    assert_eq!(image[4 * 32 + 11], f32::from(digits.pixels()[5 * 64 + 8 + 2]) / 16.0);
}

#[test]
fn the_split_parts_the_digits_and_repeats() {
    let (train, test) = Digits::load().split(600, 0).unwrap();
    assert_eq!((train.len(), test.len()), (600, 1197));
    let sum =
        |a: Vec<usize>, b: Vec<usize>| a.iter().zip(&b).map(|(a, b)| a + b).collect::<Vec<_>>();
    let all = sum(train.class_counts(), test.class_counts());
    assert_eq!(all, Digits::load().to_8x8().class_counts());

    assert_eq!(Digits::load().split(600, 0).unwrap(), (train.clone(), test));
    assert_ne!(Digits::load().split(600, 1).unwrap().0, train);
    assert_eq!(blamed(Digits::load().split(1798, 0)), "count");
}

/// Published accuracies rest on this split.
#[test]
fn the_split_never_changes() {
    let (train, _) = Digits::load().split(600, 0).unwrap();
    assert_eq!(train.labels()[..12], [4, 9, 0, 8, 5, 3, 0, 0, 0, 6, 0, 3]);
    let (image, _) = train.sample(1).unwrap();
    let source = Digits::load().to_28x28();
    assert_eq!(image, source.sample(415).unwrap().0);
}
