// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of one element.

use super::super::base::{load, store, Kernel, Vector};
use super::super::{angle, logarithm, math, power};
use super::link::{each, Apply};
use crate::op::Unary;

/// `to = function(from)`, or a copy. Valid as [`Apply`] says.
pub(super) struct OfOne {
    pub(super) function: Option<Unary>,
    pub(super) link: Apply,
}

impl Kernel for OfOne {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        macro_rules! each_x {
            (|$x:ident| $result:expr) => {
                each!(V, self.link, |$x| $result)
            };
        }
        let Some(function) = self.function else { return each_x!(|x| x) };
        match function {
            Unary::Relu => each_x!(|x| zero.max(x)),
            Unary::LeakyRelu(slope) => each_x!(|x| math::leaky_relu(x, slope as f32)),
            Unary::Gelu => each_x!(|x| math::gelu(x)),
            Unary::GeluTanh => each_x!(|x| math::gelu_tanh(x)),
            Unary::Silu => each_x!(|x| math::silu(x)),
            Unary::Tanh => each_x!(|x| math::tanh(x)),
            Unary::Sigmoid => each_x!(|x| math::sigmoid(x)),
            Unary::Softplus => each_x!(|x| logarithm::softplus(x)),
            Unary::Exp => each_x!(|x| math::exp(x)),
            Unary::Log => each_x!(|x| logarithm::log(x)),
            Unary::Square => each_x!(|x| x.mul(x)),
            Unary::Scale(factor) => each_x!(|x| x.mul(V::splat(factor as f32))),
            Unary::Offset(number) => each_x!(|x| x.add(V::splat(number as f32))),
            Unary::Abs => each_x!(|x| x.abs()),
            Unary::Sqrt => each_x!(|x| x.sqrt()),
            Unary::Rsqrt => each_x!(|x| one.div(x.sqrt())),
            Unary::Reciprocal => each_x!(|x| one.div(x)),
            Unary::Sin => each_x!(|x| angle::sin(x)),
            Unary::Cos => each_x!(|x| angle::cos(x)),
            Unary::Erf => each_x!(|x| math::erf(x)),
            Unary::Pow(exponent) => each_x!(|x| power::power_of(x, exponent)),
            Unary::Clamp { min, max } => {
                // NaN passes as the second operand.
                let (min, max) = (V::splat(min as f32), V::splat(max as f32));
                each_x!(|x| max.min(min.max(x)))
            }
            Unary::Not => each_x!(|x| V::select(x.differs(zero), zero, one)),
        }
    }
}
