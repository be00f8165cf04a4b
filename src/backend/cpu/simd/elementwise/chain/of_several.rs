// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of two and three elements.

use super::super::base::{load, store, Kernel, Vector};
use super::super::logarithm::log_1p;
use super::super::math::{exp, sigmoid};
use super::super::power;
use super::link::{each, Apply};
use crate::kernel::chain::Function;
use crate::op::Binary;

/// A link of two or three arguments; none of those of one does anything. Valid as [`Apply`] says.
pub(super) struct OfSeveral(pub(super) Apply);

impl Kernel for OfSeveral {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        macro_rules! each_pair {
            (|$a:ident, $b:ident| $result:expr) => {
                each!(V, self.0, |$a, $b| $result)
            };
        }
        let function = match self.0.function {
            Function::MaskNonZero(scale) => {
                let scale = V::splat(scale as f32);
                return each_pair!(|y, dy| V::select(y.differs(zero), dy.mul(scale), zero));
            }
            Function::Where => {
                return each!(V, self.0, |condition, a, b| V::select(
                    condition.differs(zero),
                    a,
                    b
                ));
            }
            Function::Binary(function) => function,
            Function::Copy | Function::Unary(_) | Function::UnaryGrad(_) => return,
        };
        match function {
            Binary::Add => each_pair!(|a, b| a.add(b)),
            Binary::Subtract => each_pair!(|a, b| a.sub(b)),
            Binary::Multiply => each_pair!(|a, b| a.mul(b)),
            Binary::Divide => each_pair!(|a, b| a.div(b)),
            Binary::LogisticLoss => each_pair!(|a, b| {
                let wrong = V::select(a.greater(zero), one.sub(b), b);
                wrong.mul_add(a.abs(), log_1p(exp(zero.sub(a.abs()))))
            }),
            Binary::LogisticSlope => each_pair!(|a, b| {
                let from_above = one.sub(b).sub(sigmoid(zero.sub(a)));
                V::select(a.greater(zero), from_above, sigmoid(a).sub(b))
            }),
            // NaN passes as the second operand, and is looked for in the first.
            Binary::Minimum => each_pair!(|a, b| V::select(a.differs(a), a, a.min(b))),
            Binary::Maximum => each_pair!(|a, b| V::select(a.differs(a), a, a.max(b))),
            Binary::Power => each_pair!(|a, b| power::power(a, b)),
            Binary::PowerSlope => each_pair!(|a, b| power::power_slope(a, b)),
            Binary::Less => each_pair!(|a, b| V::select(b.greater(a), one, zero)),
            Binary::LessEqual => each_pair!(|a, b| {
                V::select(b.greater(a), one, V::select(a.differs(b), zero, one))
            }),
            Binary::Equal => each_pair!(|a, b| V::select(a.differs(b), zero, one)),
            Binary::MaximumShare => each_pair!(|a, b| {
                let unless_less = V::select(a.differs(b), one, V::splat(0.5));
                V::select(b.greater(a), zero, unless_less)
            }),
        }
    }
}
