// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::column_sums;
use super::chain::{function_of, gradient_of};
use super::*;
use crate::op::Unary;

/// The error function in f64: its series, or the continued fraction of its complement.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..120).rev().fold(0.0, |below, n| f64::from(n) / 2.0 / (x + below));
    (-x * x).exp() / (std::f64::consts::PI.sqrt() * (x + fraction))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn normal(x: f64) -> f64 {
    0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

fn gelu_inner(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + f64::from(0.044715f32) * x * x * x)
}

/// About a million values: all sizes near 0, and evenly spaced ones up to `most`.
fn sweep(most: f32) -> Vec<f32> {
    let even = (0..500_000).map(|index| most * (index as f32 / 250_000.0 - 1.0));
    let small = (0..250_000).map(|index| f32::from_bits(0x3000_0000 + index * 600));
    even.chain(small.clone()).chain(small.map(|value| -value)).filter(|x| x.abs() <= most).collect()
}

/// The largest error in units of the last place of the correct result.
fn worst_ulp(got: &[f32], want: impl Iterator<Item = f64>) -> f64 {
    let ulp = |value: f64| {
        2f64.powf((value.abs().max(f64::from(f32::MIN_POSITIVE))).log2().floor() - 23.0)
    };
    got.iter()
        .zip(want)
        .map(|(&got, want)| (f64::from(got) - want).abs() / ulp(want))
        .fold(0.0, f64::max)
}

fn worst_absolute(got: &[f32], want: impl Iterator<Item = f64>) -> f64 {
    got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).abs()).fold(0.0, f64::max)
}

/// Every 499th f32 from 2^-24 on, of either sign, and where functions were found to be worst.
fn spread() -> Vec<f32> {
    let sizes = (0x3380_0000..=110f32.to_bits()).step_by(499).map(f32::from_bits);
    sizes.flat_map(|size| [size, -size]).chain(WORST).collect()
}

/// Where a sweep over every third f32 found the largest errors.
const WORST: [f32; 5] = [-5.542_755, -7.597_275_7, 1.258_583_7, -0.982_603_25, -0.975_482_9];

/// Bounds in ulp as `math` states them, with the interval on which they hold.
type Bound = (Unary, fn(f64) -> f64, f32, f32, f64);

#[test]
fn functions_keep_their_bounds_in_ulp() {
    let bounds: [Bound; 5] = [
        (Unary::Tanh, f64::tanh, -110.0, 110.0, 2.0),
        (Unary::Sigmoid, sigmoid, -110.0, 110.0, 2.5),
        (Unary::Silu, |x| x * sigmoid(x), -87.3, 110.0, 3.3),
        (Unary::Gelu, |x| x * normal(x), -1.0, 110.0, 4.0),
        (Unary::LeakyRelu(0.25), |x| if x > 0.0 { x } else { x * 0.25 }, -110.0, 110.0, 0.0),
    ];
    let pool = pool(1);
    let all = spread();
    for (activation, function, least, most, bound) in bounds {
        let inside = |x: &f32| (least..=most).contains(x);
        let x: Vec<f32> = all.iter().copied().filter(inside).collect();
        let want: Vec<f64> = x.iter().map(|&x| function(f64::from(x))).collect();
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            function_of(&pool, isa, activation, &x, &mut y);
            let worst = worst_ulp(&y, want.iter().copied());
            assert!(worst <= bound, "{activation:?} on {isa}: {worst} ulp");
        }
    }
}

/// Where e^x is subnormal it has few digits, and so have its products.
#[test]
fn far_below_zero_silu_is_nearly_nothing() {
    let x: Vec<f32> = spread().into_iter().filter(|&x| x <= -87.3).collect();
    assert!(x.len() > 1000, "{} values", x.len());
    for isa in Isa::available() {
        let mut y = vec![0.0; x.len()];
        function_of(&pool(1), isa, Unary::Silu, &x, &mut y);
        let want = x.iter().map(|&x| f64::from(x) * sigmoid(f64::from(x)));
        let worst = worst_absolute(&y, want);
        assert!(worst <= 2e-43, "{isa}: {worst:e}");
    }
}

#[test]
fn gelu_keeps_its_absolute_bounds() {
    let pool = pool(1);
    let x = sweep(20.0);
    for isa in Isa::available() {
        let mut y = vec![0.0; x.len()];
        function_of(&pool, isa, Unary::Gelu, &x, &mut y);
        // Relative to values above 1.
        let relative = |want: &[f64], y: &[f32]| {
            let scaled =
                |(&got, &want): (&f32, &f64)| (f64::from(got) - want).abs() / want.abs().max(1.0);
            y.iter().zip(want).map(scaled).fold(0.0, f64::max)
        };
        let want: Vec<f64> = x.iter().map(|&x| f64::from(x) * normal(f64::from(x))).collect();
        let below = x.iter().zip(want.iter().zip(&y)).filter(|(x, _)| **x <= -1.0);
        let worst = below.map(|(_, (want, &y))| (f64::from(y) - want).abs()).fold(0.0, f64::max);
        assert!(worst <= 1e-7, "gelu on {isa}: {worst}");
        function_of(&pool, isa, Unary::GeluTanh, &x, &mut y);
        let want: Vec<f64> =
            x.iter().map(|&x| f64::from(x) * sigmoid(2.0 * gelu_inner(f64::from(x)))).collect();
        let worst = relative(&want, &y);
        assert!(worst <= 4e-7, "gelu by tanh on {isa}: {worst}");
    }
}

/// The derivative of an activation and its bound.
type Slope<'a> = (Unary, &'a dyn Fn(f64) -> f64, f64);

#[test]
fn derivatives_keep_their_bounds() {
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let silu = |x: f64| sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
    let gelu = |x: f64| normal(x) + x * density(x);
    let gelu_tanh = |x: f64| {
        let s = sigmoid(2.0 * gelu_inner(x));
        let inner = 2.0
            * (2.0 / std::f64::consts::PI).sqrt()
            * (1.0 + 3.0 * f64::from(0.044715f32) * x * x);
        s + x * s * (1.0 - s) * inner
    };
    let slopes: [Slope<'_>; 6] = [
        (Unary::Tanh, &|y| 1.0 - y * y, 2e-7),
        (Unary::Sigmoid, &|y| y * (1.0 - y), 5e-7),
        (Unary::Relu, &|y| if y == 0.0 { 0.0 } else { 1.0 }, 0.0),
        (Unary::Silu, &silu, 3e-7),
        (Unary::Gelu, &gelu, 3e-7),
        (Unary::GeluTanh, &gelu_tanh, 5e-7),
    ];
    let pool = pool(1);
    for (activation, slope, bound) in slopes {
        let is_of_output = matches!(activation, Unary::Tanh | Unary::Sigmoid);
        let saved = sweep(if is_of_output { 1.0 } else { 20.0 });
        for isa in Isa::available() {
            let mut dx = vec![0.0; saved.len()];
            gradient_of(&pool, isa, activation, &saved, &vec![1.0; saved.len()], &mut dx);
            let worst = worst_absolute(&dx, saved.iter().map(|&x| slope(f64::from(x))));
            assert!(worst <= bound, "slope of {activation:?} on {isa}: {worst}");
        }
    }
}

#[test]
fn extremes_and_nan() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 0.0, -0.0, 1e-40];
    everywhere(|pool, isa| {
        let run = |activation| {
            let mut y = [0.5; 8];
            function_of(pool, isa, activation, &x, &mut y);
            assert!(y[0].is_nan(), "{activation:?} of NaN on {isa}");
            y
        };
        assert_eq!(run(Unary::Relu)[1..], [f32::INFINITY, 0.0, 1e30, 0.0, 0.0, 0.0, 1e-40]);
        assert_eq!(run(Unary::Tanh)[1..], [1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 1e-40]);
        assert_eq!(run(Unary::Sigmoid)[1..], [1.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.5]);
        for activation in [Unary::Silu, Unary::Gelu, Unary::GeluTanh] {
            let y = run(activation);
            assert_eq!((y[1], y[3], y[4]), (f32::INFINITY, 1e30, 0.0), "{activation:?} on {isa}");
            let mut dx = [0.5; 8];
            gradient_of(pool, isa, activation, &x, &[1.0; 8], &mut dx);
            assert!(dx[0].is_nan());
            assert_eq!(dx[3..7], [1.0, 0.0, 0.5, 0.5], "slope of {activation:?} on {isa}");
        }
    });
}

#[test]
fn columns() {
    for (rows, columns) in [(1, 1), (3, 17), (40, 50)] {
        let x = noise(rows * columns, 12);
        let sum =
            |column: usize| x[column..].iter().step_by(columns).map(|&x| f64::from(x)).sum::<f64>();
        let want_sums: Vec<f64> = (0..columns).map(sum).collect();
        everywhere(|pool, isa| {
            let mut sums = vec![f32::NAN; columns];
            column_sums(pool, isa, rows, columns, &x, &mut sums);
            assert_close(&sums, &want_sums, 1e-6);
        });
    }
}
