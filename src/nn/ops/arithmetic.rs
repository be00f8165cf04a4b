// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operators: values with values and with numbers.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::graph::Var;
use crate::op::{Binary, Op, Unary};

/// A number that stands beside a [`Var`].
///
/// Behind an operator any will do: `x + 1.0`, `x * rate` for an `f32` or `f64`. Before it Rust wants
/// to know the type, so it is `f64`: `2.0 * &x`, `f64::from(rate) * &x`.
pub trait Number: Copy {
    /// The number.
    fn to_f64(self) -> f64;
}

impl Number for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Number for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

/// What can be compared with a [`Var`] or chosen instead of it: another, or a number.
pub trait Operand {
    /// The value, in the trace that `beside` belongs to.
    fn beside(&self, beside: &Var) -> Var;
}

impl Operand for Var {
    fn beside(&self, _: &Var) -> Var {
        self.clone()
    }
}

impl Operand for &Var {
    fn beside(&self, _: &Var) -> Var {
        (*self).clone()
    }
}

impl<N: Number> Operand for N {
    fn beside(&self, beside: &Var) -> Var {
        beside.leaf(Op::Constant(self.to_f64()))
    }
}

impl Var {
    fn offset(&self, number: f64) -> Var {
        self.apply(Op::Unary(Unary::Offset(number)), &[])
    }

    fn times(&self, factor: f64) -> Var {
        self.apply(Op::Unary(Unary::Scale(factor)), &[])
    }
}

/// An operator between values, each taken by value or by reference, and between values and numbers.
macro_rules! operator {
    ($Operator:ident, $method:ident, $function:expr, $behind:expr, $before:expr) => {
        operator!(@values $Operator, $method, $function, Var, Var);
        operator!(@values $Operator, $method, $function, Var, &Var);
        operator!(@values $Operator, $method, $function, &Var, Var);
        operator!(@values $Operator, $method, $function, &Var, &Var);
        operator!(@numbers $Operator, $method, $behind, $before, Var);
        operator!(@numbers $Operator, $method, $behind, $before, &Var);
    };
    (@values $Operator:ident, $method:ident, $function:expr, $Left:ty, $Right:ty) => {
        impl $Operator<$Right> for $Left {
            type Output = Var;

            fn $method(self, other: $Right) -> Var {
                self.binary($function, &other)
            }
        }
    };
    (@numbers $Operator:ident, $method:ident, $behind:expr, $before:expr, $Value:ty) => {
        impl<N: Number> $Operator<N> for $Value {
            type Output = Var;

            fn $method(self, number: N) -> Var {
                let function: fn(&Var, f64) -> Var = $behind;
                function(&self, number.to_f64())
            }
        }

        impl $Operator<$Value> for f64 {
            type Output = Var;

            fn $method(self, value: $Value) -> Var {
                let function: fn(f64, &Var) -> Var = $before;
                function(self, &value)
            }
        }
    };
}

operator!(Add, add, Binary::Add, |x, c| x.offset(c), |c, x| x.offset(c));
operator!(Sub, sub, Binary::Subtract, |x, c| x.offset(-c), |c, x| x.times(-1.0).offset(c));
operator!(Mul, mul, Binary::Multiply, |x, c| x.times(c), |c, x| x.times(c));
operator!(Div, div, Binary::Divide, |x, c| x.times(1.0 / c), |c, x| x.reciprocal().times(c));

impl Neg for &Var {
    type Output = Var;

    fn neg(self) -> Var {
        self.times(-1.0)
    }
}

impl Neg for Var {
    type Output = Var;

    fn neg(self) -> Var {
        self.times(-1.0)
    }
}
