// SPDX-License-Identifier: MIT OR Apache-2.0
//! Elementary functions of vectors. The bounds hold on every instruction set: they were measured
//! against f64 on every third f32 from 2^-24 to 110 of either sign, and the tests measure again on a
//! part of them and at the worst ones.
//!
//! Polynomials are Chebyshev fits on the stated interval, rounded to f32, lowest power first.
#![allow(clippy::excessive_precision)]

use super::base::Vector;

/// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2.
const EXP: [f32; 6] = [0.5, 0.16666667, 0.041666463, 0.00833331, 0.0013933731, 0.0001989108];
/// (tanh(x) / x - 1) / x^2 in x^2, for |x| <= 0.625.
const TANH: [f32; 6] =
    [-0.33333334, 0.13333304, -0.053959254, 0.021768868, -0.0083437804, 0.0022925576];
/// erf(x) / x - 1 in x^2, for |x| <= 1.
const ERF: [f32; 7] =
    [0.12837917, -0.37612626, 0.112835944, -0.02685421, 0.0051890872, -0.00080168643, 7.8758749e-5];
/// -ln(erfc(x)) / x for 1 <= x <= 6.
const LOG_ERFC: [f32; 10] = [
    1.1290221,
    0.6337443,
    0.1084165,
    -0.02555199,
    0.0044751987,
    -0.0005373008,
    3.7673613e-5,
    -7.062871e-7,
    -8.9896936e-8,
    4.982216e-9,
];

/// sqrt(2 / pi), the slope inside the tangent formula of GELU.
const GELU_SLOPE: f32 = 0.797_884_56;
/// The cubic coefficient inside the tangent formula of GELU.
const GELU_CUBIC: f32 = 0.044715;

/// e^x within 1 ulp where the result is normal; below, within the spacing of subnormals.
#[inline(always)]
pub(crate) fn exp<V: Vector>(x: V) -> V {
    // Beyond these the result is 0 or infinite. NaN passes as the second operand.
    let x = V::splat(89.0).min(V::splat(-104.0).max(x));
    let exponent = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    // ln(2) in two parts, the first short enough for exact products.
    let r = exponent.mul_add(V::splat(-0.693_359_375), x);
    let r = exponent.mul_add(V::splat(2.121_944_4e-4), r);
    let power = polynomial(&EXP, r).mul(r).mul_add(r, r).add(V::splat(1.0));
    power.scale_by_power(exponent)
}

/// tanh(x) within 2 ulp.
#[inline(always)]
pub(crate) fn tanh<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    let square = x.mul(x);
    let small = polynomial(&TANH, square).mul(square).mul_add(x, x);
    let decayed = exp(x.abs().mul(V::splat(-2.0)));
    let large = one.sub(decayed).div(one.add(decayed)).copy_sign(x);
    V::select(x.abs().greater(V::splat(0.625)), large, small)
}

/// 1 / (1 + e^-x) within 2.5 ulp; below -87.3, where e^x is subnormal, within the spacing of subnormals.
#[inline(always)]
pub(crate) fn sigmoid<V: Vector>(x: V) -> V {
    sigmoid_with_slope(x).0
}

/// The sigmoid and its derivative. From the output alone, s * (1 - s), the derivative would lose
/// all digits where s is near 1.
#[inline(always)]
fn sigmoid_with_slope<V: Vector>(x: V) -> (V, V) {
    let one = V::splat(1.0);
    let decayed = exp(V::splat(0.0).sub(x.abs()));
    let top = V::select(x.greater(V::splat(0.0)), one, decayed);
    let sum = one.add(decayed);
    (top.div(sum), decayed.div(sum.mul(sum)))
}

/// x where positive, else `slope * x`.
#[inline(always)]
pub(crate) fn leaky_relu<V: Vector>(x: V, slope: f32) -> V {
    V::select(x.greater(V::splat(0.0)), x, x.mul(V::splat(slope)))
}

/// x * sigmoid(x) within 3.3 ulp for x > -87.3; below, where e^x is subnormal, within 2e-43.
#[inline(always)]
pub(crate) fn silu<V: Vector>(x: V) -> V {
    x.mul(sigmoid(x))
}

/// The derivative of [`silu`], within 3e-7.
#[inline(always)]
pub(crate) fn silu_slope<V: Vector>(x: V) -> V {
    let (s, slope) = sigmoid_with_slope(x);
    // Beyond 104 the slope is 0, and an infinite x must not turn it into NaN.
    let x = V::splat(104.0).min(V::splat(-104.0).max(x));
    x.mul_add(slope, s)
}

/// x * normal(x), within 4 ulp for x > -1 and 1e-7 below.
#[inline(always)]
pub(crate) fn gelu<V: Vector>(x: V) -> V {
    x.mul(normal(x))
}

/// The derivative of [`gelu`], within 3e-7.
#[inline(always)]
pub(crate) fn gelu_slope<V: Vector>(x: V) -> V {
    const DENSITY_AT_0: f32 = 0.398_942_28;
    let density = exp(x.mul(x).mul(V::splat(-0.5))).mul(V::splat(DENSITY_AT_0));
    x.mul_add(density, normal(x))
}

/// x * (1 + tanh(u)) / 2 with u = sqrt(2 / pi) * (x + 0.044715 x^3), within 4e-7 of results up to 1 and
/// of larger ones relative to them.
#[inline(always)]
pub(crate) fn gelu_tanh<V: Vector>(x: V) -> V {
    // (1 + tanh(u)) / 2 is sigmoid(2 u), which keeps small results exact.
    x.mul(sigmoid(gelu_exponent(bounded(x))))
}

/// The derivative of [`gelu_tanh`], within 5e-7.
#[inline(always)]
pub(crate) fn gelu_tanh_slope<V: Vector>(x: V) -> V {
    let x = bounded(x);
    let (s, slope) = sigmoid_with_slope(gelu_exponent(x));
    let inner = x.mul(x).mul_add(V::splat(3.0 * GELU_CUBIC), V::splat(1.0));
    x.mul(inner.mul(V::splat(2.0 * GELU_SLOPE))).mul_add(slope, s)
}

/// The error function within 3 ulp.
#[inline(always)]
pub(super) fn erf<V: Vector>(x: V) -> V {
    let size = x.abs();
    let near = polynomial(&ERF, x.mul(x)).mul_add(x, x);
    let far = V::splat(1.0).sub(erf_complement(size)).copy_sign(x);
    V::select(size.greater(V::splat(1.0)), far, near)
}

/// The derivative of [`erf`], within 3e-7.
#[inline(always)]
pub(super) fn erf_slope<V: Vector>(x: V) -> V {
    exp(V::splat(0.0).sub(x.mul(x))).mul(V::splat(std::f32::consts::FRAC_2_SQRT_PI))
}

/// The normal distribution function.
#[inline(always)]
fn normal<V: Vector>(x: V) -> V {
    let (one, half) = (V::splat(1.0), V::splat(0.5));
    let z = x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
    let (square, size) = (z.mul(z), z.abs());
    let erf = polynomial(&ERF, square).mul_add(z, z);
    let near = erf.mul_add(half, half);
    let tail = erf_complement(size).mul(half);
    let far = V::select(z.greater(V::splat(0.0)), one.sub(tail), tail);
    V::select(size.greater(one), far, near)
}

/// 1 - erf(size) for sizes of 1 and more. It has its own fit: as a difference it would have no correct
/// digit.
#[inline(always)]
fn erf_complement<V: Vector>(size: V) -> V {
    let exponent = V::splat(0.0).sub(size.mul(polynomial(&LOG_ERFC, size)));
    V::select(size.greater(V::splat(6.0)), V::splat(0.0), exp(exponent))
}

/// 2 u of the tangent formula.
#[inline(always)]
fn gelu_exponent<V: Vector>(x: V) -> V {
    let cubic = x.mul(x).mul_add(V::splat(GELU_CUBIC), V::splat(1.0));
    x.mul(cubic).mul(V::splat(2.0 * GELU_SLOPE))
}

/// Within +-20, where the tangent formula has long reached its ends and its cube cannot overflow.
#[inline(always)]
fn bounded<V: Vector>(x: V) -> V {
    V::splat(20.0).min(V::splat(-20.0).max(x))
}

#[inline(always)]
pub(super) fn polynomial<V: Vector, const N: usize>(coefficients: &[f32; N], x: V) -> V {
    let mut value = V::splat(coefficients[N - 1]);
    for index in (0..N - 1).rev() {
        value = value.mul_add(x, V::splat(coefficients[index]));
    }
    value
}
