// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gradients of functions of one element.

use super::super::base::{load, store, Kernel, Vector};
use super::super::{angle, math, power};
use super::link::{each, Apply};
use crate::op::Unary;

/// `to = dy * slope(saved)` from `(saved, dy)`. Valid as [`Apply`] says.
pub(super) struct Slopes {
    pub(super) function: Unary,
    pub(super) link: Apply,
}

impl Kernel for Slopes {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (zero, half, one) = (V::splat(0.0), V::splat(0.5), V::splat(1.0));
        macro_rules! each_pair {
            (|$saved:ident, $dy:ident| $result:expr) => {
                each!(V, self.link, |$saved, $dy| $result)
            };
        }
        match self.function {
            Unary::Relu => each_pair!(|y, dy| V::select(y.differs(zero), dy, zero)),
            Unary::LeakyRelu(slope) => {
                let slope = V::splat(slope as f32);
                each_pair!(|x, dy| V::select(x.greater(zero), dy, dy.mul(slope)))
            }
            Unary::Gelu => each_pair!(|x, dy| dy.mul(math::gelu_slope(x))),
            Unary::GeluTanh => each_pair!(|x, dy| dy.mul(math::gelu_tanh_slope(x))),
            Unary::Silu => each_pair!(|x, dy| dy.mul(math::silu_slope(x))),
            Unary::Tanh => each_pair!(|y, dy| dy.mul(one.sub(y).mul(one.add(y)))),
            Unary::Sigmoid => each_pair!(|y, dy| dy.mul(y.mul(one.sub(y)))),
            Unary::Softplus => each_pair!(|x, dy| dy.mul(math::sigmoid(x))),
            Unary::Exp => each_pair!(|y, dy| dy.mul(y)),
            Unary::Log => each_pair!(|x, dy| dy.div(x)),
            Unary::Square => each_pair!(|x, dy| x.add(x).mul(dy)),
            Unary::Scale(factor) => each_pair!(|_x, dy| dy.mul(V::splat(factor as f32))),
            Unary::Offset(_) => each_pair!(|_x, dy| dy),
            Unary::Abs => each_pair!(|x, dy| {
                let up = V::select(x.greater(zero), one, zero);
                dy.mul(V::select(zero.greater(x), zero.sub(one), up))
            }),
            Unary::Sqrt => each_pair!(|y, dy| dy.mul(half).div(y)),
            Unary::Rsqrt => each_pair!(|y, dy| dy.mul(zero.sub(half)).mul(y).mul(y).mul(y)),
            Unary::Reciprocal => each_pair!(|y, dy| zero.sub(dy.mul(y)).mul(y)),
            Unary::Sin => each_pair!(|x, dy| dy.mul(angle::cos(x))),
            Unary::Cos => each_pair!(|x, dy| zero.sub(dy.mul(angle::sin(x)))),
            Unary::Erf => each_pair!(|x, dy| dy.mul(math::erf_slope(x))),
            Unary::Pow(exponent) => each_pair!(|x, dy| dy.mul(power::slope_of_power(x, exponent))),
            Unary::Clamp { min, max } => {
                // Without a bound nothing is cut off, not even an infinity.
                let (has_min, has_max) = (min != f64::NEG_INFINITY, max != f64::INFINITY);
                let (min, max) = (V::splat(min as f32), V::splat(max as f32));
                each_pair!(|x, dy| {
                    let kept = V::select(x.differs(x), zero, dy);
                    let kept = if has_min { V::select(x.greater(min), kept, zero) } else { kept };
                    if has_max {
                        V::select(max.greater(x), kept, zero)
                    } else {
                        kept
                    }
                })
            }
            Unary::Not => each_pair!(|_x, dy| dy.mul(zero)),
        }
    }
}
