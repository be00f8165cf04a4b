// SPDX-License-Identifier: MIT OR Apache-2.0
//! How exact functions of one and two elements are, on many numbers of all sizes.

use super::super::chain;
use super::chain::{function_of, gradient_of, one_link};
use super::*;
use crate::kernel::chain::Function;
use crate::op::{Binary, Unary};

/// What one f32 is off from its neighbour, about: the bound of nearly everything here.
const BOUND: f64 = 3e-7;

/// Numbers of all sizes between two of one sign, evenly spread over their bits.
fn sizes(least: f32, most: f32, count: u32) -> impl Iterator<Item = f32> {
    let (least, most) = (least.to_bits(), most.to_bits());
    let step = ((most - least) / count).max(1);
    (least..=most).step_by(step as usize).map(f32::from_bits)
}

/// Both signs of sizes.
fn signed(least: f32, most: f32) -> Vec<f32> {
    sizes(least, most, 200_000).flat_map(|size| [size, -size]).collect()
}

fn positive(least: f32, most: f32) -> Vec<f32> {
    sizes(least, most, 400_000).collect()
}

/// The largest error relative to the correct result, or to the smallest normal number.
fn worst(got: &[f32], want: impl Iterator<Item = f64>) -> f64 {
    let error = |(&got, want): (&f32, f64)| {
        let error = (f64::from(got) - want).abs() / want.abs().max(f64::from(f32::MIN_POSITIVE));
        if error.is_nan() {
            f64::INFINITY
        } else {
            error
        }
    };
    got.iter().zip(want).map(error).fold(0.0, f64::max)
}

#[test]
fn functions_keep_their_relative_bounds() {
    const TINY: f32 = f32::MIN_POSITIVE;
    let spread = signed(1e-30, 87.0);
    let angles = signed(1e-30, 1e10);
    // Next to where sine and cosine are zero.
    let zeros: Vec<f32> =
        (1..20_000).map(|k| (f64::from(k) * std::f64::consts::FRAC_PI_2) as f32).collect();
    let of_all = positive(1e-45, f32::MAX);
    let near_one: Vec<f32> = (0..200_000).map(|k| 0.9 + k as f32 * 1e-6).collect();
    let cases: Vec<(Unary, &[f32], f64)> = vec![
        (Unary::Exp, &spread, 1.2e-7),
        (Unary::Log, &of_all, 1.2e-7),
        (Unary::Log, &near_one, 1.2e-7),
        (Unary::Softplus, &spread, BOUND),
        (Unary::Sin, &angles, BOUND),
        (Unary::Cos, &angles, BOUND),
        (Unary::Sin, &zeros, BOUND),
        (Unary::Cos, &zeros, BOUND),
        (Unary::Erf, &spread, BOUND),
        (Unary::Sqrt, &of_all, 6e-8),
        (Unary::Rsqrt, &of_all, 1.2e-7),
        (Unary::Pow(0.3), &of_all, 6e-8),
        (Unary::Pow(-2.4), &of_all[100_000..300_000], 6e-8),
        (Unary::Pow(3.0), &spread, 6e-8),
    ];
    for (function, x, bound) in cases {
        let want: Vec<f64> = x.iter().map(|&x| function.value(f64::from(x))).collect();
        let inside = |want: &f64| want.abs() < f64::from(f32::MAX);
        let (x, want): (Vec<f32>, Vec<f64>) =
            x.iter().zip(want).filter(|(_, want)| inside(want)).unzip();
        assert!(x.len() > 10_000, "{function:?}");
        for isa in Isa::available() {
            let mut y = vec![f32::NAN; x.len()];
            function_of(&pool(1), isa, function, &x, &mut y);
            // Results below the normal numbers have fewer digits.
            let normal = y.iter().zip(&want).filter(|(_, want)| want.abs() >= f64::from(TINY));
            let (y, want): (Vec<f32>, Vec<f64>) = normal.map(|(&y, &want)| (y, want)).unzip();
            let worst = worst(&y, want.into_iter());
            assert!(worst <= bound, "{function:?} on {isa}: {worst:e}");
        }
    }
}

/// Relative to 1 or, where it is larger, to the slope.
#[test]
fn slopes_keep_their_bounds() {
    let spread = signed(1e-20, 60.0);
    let away = positive(0.01, 100.0);
    let cases: Vec<(Unary, &[f32])> = vec![
        (Unary::Exp, &away),
        (Unary::Log, &away),
        (Unary::Softplus, &spread),
        (Unary::Square, &spread),
        (Unary::Abs, &spread),
        (Unary::Sqrt, &away),
        (Unary::Rsqrt, &away),
        (Unary::Reciprocal, &away),
        (Unary::Sin, &spread),
        (Unary::Cos, &spread),
        (Unary::Erf, &spread),
        (Unary::Pow(2.5), &away),
        (Unary::Clamp { min: -1.5, max: 20.0 }, &spread),
    ];
    for (function, saved) in cases {
        let dy: Vec<f32> = noise(saved.len(), 5);
        for isa in Isa::available() {
            let mut dx = vec![f32::NAN; saved.len()];
            gradient_of(&pool(1), isa, function, saved, &dy, &mut dx);
            let errors = dx.iter().zip(saved.iter().zip(&dy)).map(|(&dx, (&saved, &dy))| {
                let slope = function.derivative(f64::from(saved));
                let want = slope * f64::from(dy);
                (f64::from(dx) - want).abs() / (slope.abs().max(1.0) * f64::from(dy).abs() + 1e-30)
            });
            let worst = errors.fold(0.0, f64::max);
            assert!(worst <= BOUND, "slope of {function:?} on {isa}: {worst:e}");
        }
    }
}

/// Powers of numbers of all sizes to powers of all sizes, as far as they are f32.
#[test]
fn powers_are_rounded_once() {
    let bases = sizes(1e-30, 1e30, 300).chain((0..200).map(|k| 0.99 + k as f32 * 1e-4));
    let bases: Vec<f32> = bases.collect();
    let exponents: Vec<f32> = signed(1e-3, 300.0).into_iter().step_by(1999).collect();
    let pairs = bases.iter().flat_map(|&a| exponents.iter().map(move |&b| (a, b)));
    let is_normal = |&(a, b): &(f32, f32)| {
        let power = f64::from(a).powf(f64::from(b));
        (f64::from(f32::MIN_POSITIVE)..f64::from(f32::MAX)).contains(&power)
    };
    let (a, b): (Vec<f32>, Vec<f32>) = pairs.filter(is_normal).unzip();
    assert!(a.len() > 10_000);
    for (function, bound) in [(Binary::Power, 6e-8), (Binary::PowerSlope, 1e-7)] {
        for isa in Isa::available() {
            let mut got = vec![f32::NAN; a.len()];
            let link = one_link(Function::Binary(function), a.len(), 2);
            chain(&pool(1), isa, &link, &[&a, &b], vec![&mut got]);
            let want = a.iter().zip(&b).map(|(&a, &b)| function.value(f64::from(a), f64::from(b)));
            let (got, want): (Vec<f32>, Vec<f64>) =
                got.into_iter().zip(want).filter(|(_, want)| want.abs() < 1e38).unzip();
            let worst = worst(&got, want.into_iter());
            assert!(worst <= bound, "{function:?} on {isa}: {worst:e}");
        }
    }
}
