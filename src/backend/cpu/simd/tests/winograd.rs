// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{ConvTail, ConvWay};
use super::conv::{applies_tails, depends_on_nothing_else, Case, Numbers, Sink};
use super::*;

/// What errors may be of the largest result.
const BOUND: f64 = 1e-5;

/// Squares that end at the edge and before it, channels that fill vectors and panels and that do not,
/// less padding and more, on either side, many samples of few squares, planes of a volume.
const CASES: [Numbers; 8] = [
    ([2, 32, 32, 1], [1, 8, 8], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([1, 64, 64, 1], [1, 12, 16], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([3, 37, 50, 1], [1, 7, 10], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([2, 33, 70, 1], [1, 9, 6], [1, 3, 3], [1; 3], [1; 3], [[0; 2]; 3]),
    ([2, 48, 35, 1], [1, 6, 7], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [2; 2], [0, 1]]),
    ([17, 40, 32, 1], [1, 4, 4], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    ([2, 32, 32, 1], [3, 4, 5], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
    // One plain channel more than a vector, and fewer than a tile.
    ([1, 3, 17, 1], [1, 5, 4], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]),
];

fn each_case(test: impl Fn(&Case)) {
    for numbers in &CASES {
        test(&Case::new(numbers).by(ConvWay::Winograd));
    }
}

/// Compares to a bound relative to the largest value.
#[track_caller]
fn assert_within(got: &[f32], want: &[f64]) {
    let largest = largest(want);
    let scaled: Vec<f64> = want.iter().map(|want| want / largest).collect();
    let got: Vec<f32> = got.iter().map(|&got| (f64::from(got) / largest) as f32).collect();
    assert_close(&got, &scaled, BOUND);
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()))
}

#[test]
fn squares_give_what_sums_give() {
    each_case(|case| {
        let (y, dx, dw, db) = (case.y(), case.dx(), case.dw(), case.db());
        everywhere(|pool, isa| {
            assert_within(&case.forward(pool, isa, ConvTail::NONE), &y);
            assert_within(&case.input_gradient(pool, isa, ConvTail::NONE), &dx);
            let mut got = case.gradients();
            case.weight_gradient(pool, isa, Sink::Overwrite, &mut got);
            assert_within(&got[0], &dw);
            assert_within(&got[1], &db);
            case.weight_gradient(pool, isa, Sink::Accumulate, &mut got);
            assert_within(&got[0], &dw.iter().map(|dw| 2.0 * dw).collect::<Vec<_>>());
        });
    });
}

#[test]
fn squares_depend_on_nothing_else() {
    each_case(depends_on_nothing_else);
}

#[test]
fn tails_are_applied_to_squares() {
    for numbers in [CASES[0], CASES[3]] {
        let case = Case::new(&numbers).by(ConvWay::Winograd);
        let of = |values: &[f64]| 3.0 * BOUND * largest(values);
        applies_tails(&case, [of(&case.y()), of(&case.dx())]);
    }
}

#[test]
fn a_thousand_channels_and_squares_keep_the_bound() {
    // One tile of weights shows the sums over all squares, one square those over all channels.
    let many_squares =
        ([40, 32, 32, 1], [1, 28, 28], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]);
    let many_channels =
        ([1, 1000, 32, 1], [1, 4, 4], [1, 3, 3], [1; 3], [1; 3], [[0; 2], [1; 2], [1; 2]]);
    let isa = Isa::best();
    let case = Case::new(&many_squares).by(ConvWay::Winograd);
    let mut got = case.gradients();
    case.weight_gradient(&pool(2), isa, Sink::Overwrite, &mut got);
    let direct = case.by(ConvWay::Direct);
    let mut want = direct.gradients();
    direct.weight_gradient(&pool(2), isa, Sink::Overwrite, &mut want);
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    assert_within(&got[0], &wide(&want[0]));
    assert_within(&got[1], &wide(&want[1]));
    let case = Case::new(&many_channels).by(ConvWay::Winograd);
    assert_within(&case.forward(&pool(1), isa, ConvTail::NONE), &case.y());
}
