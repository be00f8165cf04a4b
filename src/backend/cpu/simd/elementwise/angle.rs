// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sine and cosine of vectors. As in `math`, the bounds hold on every instruction set and are measured
//! by the tests.
#![allow(clippy::excessive_precision)]

use super::base::Vector;
use super::math::polynomial;

/// pi / 2 in four parts, of which the first three are short enough for exact products with numbers
/// of 13 bits: what is left of an angle keeps its digits even next to a zero of the sine.
const QUARTER: [f32; 4] =
    [1.570_312_5, 4.837_512_969_970_703e-4, 7.549_533_620_476_723e-8, 2.563_344_068_257_089_6e-12];

/// Larger angles, of more than 2^13 quarters, are worked out one by one in f64.
const MOST: f32 = 12_800.0;

/// (sin(r) / r - 1) / r^2 in r^2, for |r| <= pi / 4 (Moshier, Cephes' `sinf`).
const SIN: [f32; 3] = [-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4];
/// (cos(r) - 1 + r^2 / 2) / r^4 in r^2, likewise.
const COS: [f32; 3] = [4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5];

/// sin(x) within 2 ulp.
#[inline(always)]
pub(super) fn sin<V: Vector>(x: V) -> V {
    shifted(x, 0.0, f64::sin)
}

/// cos(x) within 2 ulp.
#[inline(always)]
pub(super) fn cos<V: Vector>(x: V) -> V {
    shifted(x, 1.0, f64::cos)
}

/// The sine of x and some quarters of a turn; `exact` is the same for one large number.
#[inline(always)]
fn shifted<V: Vector>(x: V, quarters: f32, exact: fn(f64) -> f64) -> V {
    // False for NaN, too.
    let is_near = V::splat(MOST).greater(x.abs());
    let near = V::select(is_near, x, V::splat(0.0));
    let turned = near.mul(V::splat(std::f32::consts::FRAC_2_PI)).round();
    let mut r = near;
    for part in QUARTER {
        r = turned.mul_add(V::splat(-part), r);
    }
    let square = r.mul(r);
    let sine = polynomial(&SIN, square).mul(square).mul_add(r, r);
    let half = square.mul_add(V::splat(-0.5), V::splat(1.0));
    let cosine = polynomial(&COS, square).mul(square).mul_add(square, half);
    // Quarters that are left of whole turns: from -2 to 2.
    let quarters = turned.add(V::splat(quarters));
    let whole = quarters.mul(V::splat(0.25)).round();
    let left = whole.mul_add(V::splat(-4.0), quarters);
    let is_odd = V::splat(0.5).greater(left.abs().sub(V::splat(1.0)).abs());
    let size = V::select(is_odd, cosine, sine);
    let negative = V::splat(0.0).sub(size);
    let size = V::select(V::splat(-0.5).greater(left), negative, size);
    let result = V::select(left.greater(V::splat(1.5)), negative, size);
    let far = V::select(is_near, V::splat(0.0), V::splat(1.0));
    match far.non_zero_bits() {
        0 => result,
        bits => {
            let lanes = one_by_one(x.lanes(), result.lanes(), bits, exact);
            // SAFETY: the array holds at least as many values as a vector.
            unsafe { V::load(lanes.as_ptr()) }
        }
    }
}

/// `exact` of the lanes whose bits are set, in place of the result.
#[cold]
#[inline(never)]
fn one_by_one(x: [f32; 16], result: [f32; 16], bits: u32, exact: fn(f64) -> f64) -> [f32; 16] {
    let mut lanes = result;
    for (lane, x) in x.into_iter().enumerate().filter(|(lane, _)| bits >> lane & 1 != 0) {
        lanes[lane] = exact(f64::from(x)) as f32;
    }
    lanes
}
