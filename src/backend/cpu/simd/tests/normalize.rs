// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{
    normalize, normalize_gradient, statistics, statistics_gradient, Affine, Groups, Statistics,
    Sums,
};
use super::*;
use crate::op::{Array, Normalize, Op, Over};
use crate::scalars::Scalars;
use crate::Shape;

const EPS: f64 = 1e-5;

/// Rows and columns: single ones, odd ones, several blocks, more columns than a vector.
const MATRICES: [[usize; 2]; 7] =
    [[1, 1], [2, 3], [7, 33], [300, 5], [1000, 16], [517, 64], [40, 1030]];

/// A matrix whose groups have means far from 0, and what belongs to each group.
struct Case {
    over: Over,
    groups: Groups,
    x: Array,
    dy: Array,
    numbers: [Array; 4],
}

impl Case {
    fn each(test: impl Fn(&Case)) {
        for [rows, columns] in MATRICES {
            for over in [Over::Channels, Over::Rows] {
                let shape: Shape = [rows, columns].into();
                let group = |at: usize| match over {
                    Over::Channels => at % columns,
                    Over::Rows => at / columns,
                };
                let far = |(at, x): (usize, f32)| f64::from(x + (group(at) % 7) as f32 * 3.0);
                let x = noise(rows * columns, 1).into_iter().enumerate().map(far).collect();
                let dy = noise(rows * columns, 2).into_iter().map(f64::from).collect();
                let count = over.groups(&shape);
                let numbers = [3, 4, 5, 6].map(|seed| {
                    let values = noise(count, seed).into_iter().map(|x| f64::from(x) + 1.5);
                    Array::new([count].into(), values.collect())
                });
                let groups = match over {
                    Over::Channels => Groups::Columns(columns),
                    Over::Rows => Groups::Rows(columns),
                };
                let [x, dy] = [x, dy].map(|values| Array::new(shape.clone(), values));
                test(&Case { over, groups, x, dy, numbers });
            }
        }
    }

    fn op(&self) -> Normalize {
        Normalize { over: self.over, eps: EPS }
    }
}

fn narrow(array: &Array) -> Vec<f32> {
    array.data.iter().map(|&value| value as f32).collect()
}

fn meant(op: Op, inputs: &[&Array]) -> Vec<Array> {
    op.eval(inputs, &Scalars::new(1))
}

#[test]
fn statistics_are_those_of_each_group() {
    Case::each(|case| {
        let wanted = meant(Op::Statistics(case.over), &[&case.x]);
        let [mean, d_mean, d_variance, _] = &case.numbers;
        let dx = meant(Op::StatisticsGrad(case.over), &[&case.x, mean, d_mean, d_variance]);
        everywhere(|pool, isa| {
            let x = narrow(&case.x);
            let mut found = [(); 2].map(|()| vec![f32::NAN; mean.data.len()]);
            let [got_mean, got_variance] = &mut found;
            statistics(pool, isa, case.groups, &x, got_mean, got_variance);
            assert_close(got_mean, &wanted[0].data, 1e-6);
            assert_close(got_variance, &wanted[1].data, 2e-6);
            let mut got = vec![f32::NAN; x.len()];
            let [mean, d_mean, d_variance] = [mean, d_mean, d_variance].map(narrow);
            let sums = [d_mean.as_slice(), d_variance.as_slice()];
            statistics_gradient(pool, isa, case.groups, &mean, sums, &x, &mut got);
            assert_close(&got, &dx[0].data, 2e-6);
        });
    });
}

#[test]
fn normalisation_and_its_gradients_are_their_meaning() {
    Case::each(|case| {
        let [mean, variance, gamma, beta] = &case.numbers;
        for affine in [false, true] {
            let mut operands = vec![&case.x, mean, variance];
            let mut of_gradient = vec![&case.x, &case.dy, mean, variance];
            if affine {
                operands.extend([gamma, beta]);
                of_gradient.push(gamma);
            }
            let y = meant(Op::Normalize(case.op()), &operands).remove(0);
            let wanted = meant(Op::NormalizeGrad(case.op()), &of_gradient);
            everywhere(|pool, isa| {
                let [x, dy] = [&case.x, &case.dy].map(narrow);
                let [mean, variance, gamma, beta] = case.numbers.each_ref().map(narrow);
                let statistics = Statistics { mean: &mean, variance: &variance, eps: EPS };
                let learned = affine.then_some(Affine { gamma: &gamma, beta: &beta });
                let mut got = vec![f32::NAN; x.len()];
                normalize(pool, isa, case.groups, &statistics, learned, &x, &mut got);
                assert_close(&got, &y.data, 2e-6);
                let mut found = [(); 4].map(|()| vec![f32::NAN; mean.len()]);
                let [d_mean, d_variance, d_gamma, d_beta] = &mut found;
                let sums = Sums {
                    mean: Some(d_mean),
                    variance: Some(d_variance),
                    gamma: Some(d_gamma),
                    beta: Some(d_beta),
                };
                let (gamma, pair) = (affine.then_some(gamma.as_slice()), [&x[..], &dy[..]]);
                let (groups, to) = (case.groups, &mut got);
                normalize_gradient(pool, isa, groups, &statistics, gamma, pair, to, sums);
                assert_close(&got, &wanted[0].data, 2e-6);
                for (found, wanted) in found.iter().zip(&wanted[1..]) {
                    let terms = x.len() / mean.len();
                    assert_close(found, &wanted.data, 20.0 * rounding(terms));
                }
                let mut alone = vec![f32::NAN; x.len()];
                let sums = Sums::default();
                normalize_gradient(pool, isa, groups, &statistics, gamma, pair, &mut alone, sums);
                assert_eq!(alone, got);
            });
        }
    });
}

#[test]
fn sums_of_groups_do_not_depend_on_threads() {
    Case::each(|case| {
        let x = narrow(&case.x);
        for isa in Isa::available() {
            let of = |threads: usize| {
                let mut found = [(); 2].map(|()| vec![f32::NAN; case.numbers[0].data.len()]);
                let [mean, variance] = &mut found;
                statistics(&pool(threads), isa, case.groups, &x, mean, variance);
                found
            };
            let one = of(1);
            assert!([2, 3, 7].into_iter().all(|threads| of(threads) == one), "{isa}");
        }
    });
}
