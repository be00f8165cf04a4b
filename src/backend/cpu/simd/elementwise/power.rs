// SPDX-License-Identifier: MIT OR Apache-2.0
//! Powers of vectors, worked out in f64 lane by lane in a text without branches, which the compiler
//! turns into vectors: in f32 the logarithm would have to be known to more digits than there are.

use super::base::Vector;

/// Terms of 2 / ln(2) * artanh(s) / s in s^2: enough for |s| <= 0.172.
const LOG: [f64; 9] = {
    let mut terms = [0.0; 9];
    let mut index = 0;
    while index < terms.len() {
        terms[index] = 2.0 / std::f64::consts::LN_2 / (2 * index + 1) as f64;
        index += 1;
    }
    terms
};

/// Terms of 2^x: enough for |x| <= 1/2.
const EXP: [f64; 12] = {
    let mut terms = [1.0; 12];
    let mut index = 1;
    while index < terms.len() {
        terms[index] = terms[index - 1] * std::f64::consts::LN_2 / index as f64;
        index += 1;
    }
    terms
};

/// Adding and subtracting it rounds to an integer: above, numbers have no fraction.
const INTEGERS: f64 = 1.5 * (1u64 << 52) as f64;

/// `base^exponent`, rounded once but for the last bits of f64; special values as C's `pow`.
#[inline(always)]
pub(super) fn power<V: Vector>(base: V, exponent: V) -> V {
    let exponent = exponent.lanes();
    each(base, |lane, base| power_and_log(base, f64::from(exponent[lane])).0)
}

/// Likewise with one exponent for all; half powers are roots, also of the negative infinity.
#[inline(always)]
pub(super) fn power_of<V: Vector>(base: V, exponent: f64) -> V {
    match exponent {
        0.5 => base.sqrt(),
        -0.5 => V::splat(1.0).div(base.sqrt()),
        1.0 => base,
        2.0 => base.mul(base),
        _ => each(base, |_, base| power_and_log(base, exponent).0),
    }
}

/// The derivative of [`power_of`]; that of the power 0 is 0, whatever the base.
#[inline(always)]
pub(super) fn slope_of_power<V: Vector>(base: V, exponent: f64) -> V {
    match exponent {
        0.0 => V::splat(0.0),
        _ => power_of(base, exponent - 1.0).mul(V::splat(exponent as f32)),
    }
}

/// `base^exponent * log(base)`; 0 where the base is 0 and the exponent is not negative.
#[inline(always)]
pub(super) fn power_slope<V: Vector>(base: V, exponent: V) -> V {
    let exponent = exponent.lanes();
    each(base, |lane, base| {
        let exponent = f64::from(exponent[lane]);
        let (power, log) = power_and_log(base, exponent);
        let log = if base >= 0.0 { log * std::f64::consts::LN_2 } else { f64::NAN };
        let is_flat = (base == 0.0) & (exponent >= 0.0);
        if is_flat {
            0.0
        } else {
            power * log
        }
    })
}

#[inline(always)]
fn each<V: Vector>(x: V, function: impl Fn(usize, f64) -> f64) -> V {
    let x = x.lanes();
    let mut result = [0.0f32; 16];
    for lane in 0..V::LANES {
        result[lane] = function(lane, f64::from(x[lane])) as f32;
    }
    // SAFETY: the array holds at least as many values as a vector.
    unsafe { V::load(result.as_ptr()) }
}

/// The power, and the binary logarithm of the base's size.
#[inline(always)]
fn power_and_log(base: f64, exponent: f64) -> (f64, f64) {
    let (size, order) = (base.abs(), exponent.abs());
    let log = log_2(size);
    // Far from these, a power is 0 or infinite as f32.
    let product = (exponent * log).clamp(-400.0, 400.0);
    let power = exp_2(product);
    let power = if product == -400.0 { 0.0 } else { power };
    let power = if product == 400.0 { f64::INFINITY } else { power };
    let is_integer = |x: f64| ((x + INTEGERS) - INTEGERS == x) | (x >= INTEGERS);
    let (is_whole, is_even) = (is_integer(order), is_integer(0.5 * order));
    let is_negative = base.is_sign_negative();
    let signed = if is_negative & is_whole & !is_even { -power } else { power };
    let has_power = !(base < 0.0) | is_whole | (size == f64::INFINITY);
    let power = if has_power & !base.is_nan() & !exponent.is_nan() { signed } else { f64::NAN };
    // Also to an infinite exponent.
    let power = if (base == -1.0) & (order == f64::INFINITY) { 1.0 } else { power };
    let power = if (base == 1.0) | (exponent == 0.0) { 1.0 } else { power };
    (power, log)
}

/// The binary logarithm of a number that is not negative.
#[inline(always)]
fn log_2(x: f64) -> f64 {
    const ROOT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    // In units of the last place of the mantissa, so that the exponent is the upper 12 bits.
    let shifted = x.to_bits().wrapping_sub(ROOT_HALF);
    let exponent = f64::from((shifted >> 32) as u32 as i32 >> 20);
    let mantissa = f64::from_bits(x.to_bits().wrapping_sub(shifted & 0xfff << 52));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let log = exponent + s * LOG.iter().rev().fold(0.0, |sum, term| sum * square + term);
    let log = if x == 0.0 { f64::NEG_INFINITY } else { log };
    if x == f64::INFINITY {
        x
    } else {
        log
    }
}

/// 2^x for |x| <= 1000.
#[inline(always)]
fn exp_2(x: f64) -> f64 {
    let shifted = x + INTEGERS;
    let fraction = x - (shifted - INTEGERS);
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    EXP.iter().rev().fold(0.0, |sum, term| sum * fraction + term) * scale
}
