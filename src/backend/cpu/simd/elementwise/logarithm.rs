// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logarithms of vectors, and what is made of them. As in `math`, the bounds hold on every
//! instruction set and are measured by the tests.
#![allow(clippy::excessive_precision)]

use super::base::Vector;
use super::math::{exp, polynomial};

/// (log(1 + f) - f + f^2 / 2) / f^3 for sqrt(1/2) - 1 <= f <= sqrt(2) - 1 (Moshier, Cephes' `logf`).
const LOG: [f32; 9] = [
    0.33333331174,
    -0.24999993993,
    0.20000714765,
    -0.16668057665,
    0.14249322787,
    -0.12420140846,
    0.11676998740,
    -0.11514610310,
    0.070376836292,
];

/// log(x) within 1 ulp; NaN below 0, -inf at 0.
#[inline(always)]
pub(super) fn log<V: Vector>(x: V) -> V {
    // Subnormal numbers are made normal first.
    let is_small = V::splat(f32::MIN_POSITIVE).greater(x);
    let normal = V::select(is_small, x.mul(V::splat(16_777_216.0)), x);
    let (mantissa, exponent) = normal.split();
    let exponent = V::select(is_small, exponent.sub(V::splat(24.0)), exponent);
    let f = mantissa.sub(V::splat(1.0));
    let square = f.mul(f);
    // The parts from the smallest on; ln(2) in two, the first short enough for exact products.
    let rest = polynomial(&LOG, f).mul(f).mul(square);
    let rest = exponent.mul_add(V::splat(-2.121_944_4e-4), rest);
    let rest = square.mul_add(V::splat(-0.5), rest);
    let result = exponent.mul_add(V::splat(0.693_359_375), f.add(rest));
    // What is no positive finite number.
    let without =
        V::select(x.differs(V::splat(0.0)), V::splat(f32::NAN), V::splat(f32::NEG_INFINITY));
    let result = V::select(x.greater(V::splat(0.0)), result, without);
    V::select(V::splat(f32::INFINITY).greater(x), result, x)
}

/// log(1 + x) for 0 <= x <= 1, within 2 ulp.
#[inline(always)]
pub(super) fn log_1p<V: Vector>(x: V) -> V {
    let sum = x.add(V::splat(1.0));
    // What the sum has rounded away, relative to it.
    let lost = x.sub(sum.sub(V::splat(1.0))).div(sum);
    log(sum).add(lost)
}

/// log(1 + e^x), within 3 ulp.
#[inline(always)]
pub(super) fn softplus<V: Vector>(x: V) -> V {
    let decayed = exp(V::splat(0.0).sub(x.abs()));
    // NaN passes as the second operand.
    V::splat(0.0).max(x).add(log_1p(decayed))
}
