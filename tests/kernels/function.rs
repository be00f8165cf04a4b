// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions of one element, by their definitions.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use crate::abi::*;

/// All functions that do something.
pub(crate) const FUNCTIONS: [KilnUnary; 23] = [
    KILN_UNARY_RELU,
    KILN_UNARY_LEAKY_RELU,
    KILN_UNARY_GELU,
    KILN_UNARY_GELU_TANH,
    KILN_UNARY_SILU,
    KILN_UNARY_TANH,
    KILN_UNARY_SIGMOID,
    KILN_UNARY_SOFTPLUS,
    KILN_UNARY_EXP,
    KILN_UNARY_LOG,
    KILN_UNARY_SQUARE,
    KILN_UNARY_SCALE,
    KILN_UNARY_OFFSET,
    KILN_UNARY_ABS,
    KILN_UNARY_SQRT,
    KILN_UNARY_RSQRT,
    KILN_UNARY_RECIPROCAL,
    KILN_UNARY_SIN,
    KILN_UNARY_COS,
    KILN_UNARY_ERF,
    KILN_UNARY_POW,
    KILN_UNARY_CLAMP,
    KILN_UNARY_NOT,
];

/// The second parameter of those that take two.
pub(crate) const SECOND: f64 = 1.5;

/// The value at `x`.
pub(crate) fn value(function: KilnUnary, x: f64, parameter: f64) -> f64 {
    match function {
        KILN_UNARY_RELU if x <= 0.0 => 0.0,
        KILN_UNARY_LEAKY_RELU if x <= 0.0 => parameter * x,
        KILN_UNARY_NONE | KILN_UNARY_RELU | KILN_UNARY_LEAKY_RELU => x,
        KILN_UNARY_GELU => x * normal_distribution(x),
        KILN_UNARY_GELU_TANH => 0.5 * x * (1.0 + gelu_inner(x).tanh()),
        KILN_UNARY_SILU => x * sigmoid(x),
        KILN_UNARY_TANH => x.tanh(),
        KILN_UNARY_SIGMOID => sigmoid(x),
        KILN_UNARY_SOFTPLUS => x.exp().ln_1p(),
        KILN_UNARY_EXP => x.exp(),
        KILN_UNARY_LOG => x.ln(),
        KILN_UNARY_SQUARE => x * x,
        KILN_UNARY_SCALE => parameter * x,
        KILN_UNARY_OFFSET => x + parameter,
        KILN_UNARY_ABS => x.abs(),
        KILN_UNARY_SQRT => x.sqrt(),
        KILN_UNARY_RSQRT => 1.0 / x.sqrt(),
        KILN_UNARY_RECIPROCAL => 1.0 / x,
        KILN_UNARY_SIN => x.sin(),
        KILN_UNARY_COS => x.cos(),
        KILN_UNARY_ERF => 2.0 * normal_distribution(x / FRAC_1_SQRT_2) - 1.0,
        KILN_UNARY_POW => x.powf(parameter),
        KILN_UNARY_CLAMP if x.is_nan() => x,
        KILN_UNARY_CLAMP => x.max(parameter).min(SECOND),
        KILN_UNARY_NOT => f64::from(u8::from(x == 0.0)),
        other => panic!("no function {other}"),
    }
}

/// The derivative from what backward keeps: the output of relu, tanh, sigmoid, exp, sqrt, rsqrt and
/// reciprocal, else the input.
pub(crate) fn derivative(function: KilnUnary, kept: f64, parameter: f64) -> f64 {
    match function {
        KILN_UNARY_RELU if kept == 0.0 => 0.0,
        KILN_UNARY_NONE | KILN_UNARY_RELU => 1.0,
        KILN_UNARY_LEAKY_RELU if kept > 0.0 => 1.0,
        KILN_UNARY_LEAKY_RELU | KILN_UNARY_SCALE => parameter,
        KILN_UNARY_TANH => 1.0 - kept * kept,
        KILN_UNARY_SIGMOID => kept * (1.0 - kept),
        KILN_UNARY_EXP => kept,
        KILN_UNARY_GELU => {
            normal_distribution(kept) + kept * (-0.5 * kept * kept).exp() / (2.0 * PI).sqrt()
        }
        KILN_UNARY_GELU_TANH => {
            let t = gelu_inner(kept).tanh();
            let slope = (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044715 * kept * kept);
            0.5 * (1.0 + t) + 0.5 * kept * (1.0 - t * t) * slope
        }
        KILN_UNARY_SILU => sigmoid(kept) * (1.0 + kept * (1.0 - sigmoid(kept))),
        KILN_UNARY_SOFTPLUS => sigmoid(kept),
        KILN_UNARY_LOG => 1.0 / kept,
        KILN_UNARY_SQUARE => 2.0 * kept,
        KILN_UNARY_OFFSET => 1.0,
        KILN_UNARY_ABS if kept == 0.0 || kept.is_nan() => 0.0,
        KILN_UNARY_ABS => kept.signum(),
        KILN_UNARY_SQRT => 0.5 / kept,
        KILN_UNARY_RSQRT => -0.5 * kept.powi(3),
        KILN_UNARY_RECIPROCAL => -kept * kept,
        KILN_UNARY_SIN => kept.cos(),
        KILN_UNARY_COS => -kept.sin(),
        KILN_UNARY_ERF => 2.0 / PI.sqrt() * (-kept * kept).exp(),
        KILN_UNARY_POW => parameter * kept.powf(parameter - 1.0),
        KILN_UNARY_CLAMP => f64::from(u8::from(parameter < kept && kept < SECOND)),
        KILN_UNARY_NOT => 0.0,
        other => panic!("no function {other}"),
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu_inner(x: f64) -> f64 {
    (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)
}

/// The normal distribution function by the series of erf, exact to f64 for |x| <= 6.
fn normal_distribution(x: f64) -> f64 {
    let z = x * FRAC_1_SQRT_2;
    let (mut term, mut sum, mut n) = (z, z, 0.0);
    while term.abs() > 1e-18 {
        n += 1.0;
        term *= 2.0 * z * z / (2.0 * n + 1.0);
        sum += term;
    }
    0.5 + sum * (-z * z).exp() / PI.sqrt()
}
