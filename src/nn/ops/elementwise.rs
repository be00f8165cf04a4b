// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of each element.

use super::Operand;
use crate::graph::Var;
use crate::op::{Binary, Mismatch, Op, Softmax, Unary};

impl Var {
    /// `max(x, 0)`; NaN stays NaN.
    pub fn relu(&self) -> Var {
        self.unary(Unary::Relu)
    }

    /// `x` if positive, else `slope * x`.
    pub fn leaky_relu(&self, slope: f32) -> Var {
        self.unary(Unary::LeakyRelu(f64::from(slope)))
    }

    /// `x * Phi(x)` by the error function.
    pub fn gelu(&self) -> Var {
        self.unary(Unary::Gelu)
    }

    /// `x * Phi(x)` by the hyperbolic tangent.
    pub fn gelu_tanh(&self) -> Var {
        self.unary(Unary::GeluTanh)
    }

    /// `x * sigmoid(x)`.
    pub fn silu(&self) -> Var {
        self.unary(Unary::Silu)
    }

    /// Hyperbolic tangent.
    pub fn tanh(&self) -> Var {
        self.unary(Unary::Tanh)
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(&self) -> Var {
        self.unary(Unary::Sigmoid)
    }

    /// `log(1 + exp(x))`.
    pub fn softplus(&self) -> Var {
        self.unary(Unary::Softplus)
    }

    /// Natural exponential.
    pub fn exp(&self) -> Var {
        self.unary(Unary::Exp)
    }

    /// Natural logarithm.
    pub fn log(&self) -> Var {
        self.unary(Unary::Log)
    }

    /// `x * x`.
    pub fn square(&self) -> Var {
        self.unary(Unary::Square)
    }

    /// `factor * x`.
    pub fn scale(&self, factor: f32) -> Var {
        self.unary(Unary::Scale(f64::from(factor)))
    }

    /// `|x|`; the gradient at 0 is 0.
    pub fn abs(&self) -> Var {
        self.unary(Unary::Abs)
    }

    /// Square root.
    pub fn sqrt(&self) -> Var {
        self.unary(Unary::Sqrt)
    }

    /// `1 / sqrt(x)`.
    pub fn rsqrt(&self) -> Var {
        self.unary(Unary::Rsqrt)
    }

    /// `1 / x`.
    pub fn reciprocal(&self) -> Var {
        self.unary(Unary::Reciprocal)
    }

    /// Sine of an angle in radians.
    pub fn sin(&self) -> Var {
        self.unary(Unary::Sin)
    }

    /// Cosine of an angle in radians.
    pub fn cos(&self) -> Var {
        self.unary(Unary::Cos)
    }

    /// The error function.
    pub fn erf(&self) -> Var {
        self.unary(Unary::Erf)
    }

    /// `x` to the power of a number. The powers 2, 1/2, -1/2 and -1 are computed by
    /// [`square`](Var::square), [`sqrt`](Var::sqrt), [`rsqrt`](Var::rsqrt) and
    /// [`reciprocal`](Var::reciprocal).
    pub fn powf(&self, exponent: impl Into<f64>) -> Var {
        self.unary(match exponent.into() {
            2.0 => Unary::Square,
            1.0 => return self.clone(),
            0.5 => Unary::Sqrt,
            -0.5 => Unary::Rsqrt,
            -1.0 => Unary::Reciprocal,
            exponent => Unary::Pow(exponent),
        })
    }

    /// `x` to the power of `other`, element by element.
    pub fn pow(&self, other: impl Operand) -> Var {
        self.binary(Binary::Power, &other.beside(self))
    }

    /// `x`, but no less than `min` and no more than `max`; NaN stays NaN. The gradient passes where
    /// `min < x < max`.
    pub fn clamp(&self, min: impl Into<f64>, max: impl Into<f64>) -> Var {
        let (min, max) = (min.into(), max.into());
        match min.is_nan() || max.is_nan() {
            true => self.mistake("clamp", Mismatch::new("numbers as bounds", "NaN")),
            false => self.unary(Unary::Clamp { min, max }),
        }
    }

    /// `x`, but no less than `min`.
    pub fn clamp_min(&self, min: impl Into<f64>) -> Var {
        self.clamp(min, f64::INFINITY)
    }

    /// `x`, but no more than `max`.
    pub fn clamp_max(&self, max: impl Into<f64>) -> Var {
        self.clamp(f64::NEG_INFINITY, max)
    }

    /// Softmax over the innermost extent.
    pub fn softmax(&self) -> Var {
        self.apply(Op::Softmax(Softmax::Plain), &[])
    }

    /// Logarithm of the softmax over the innermost extent.
    pub fn log_softmax(&self) -> Var {
        self.apply(Op::Softmax(Softmax::Log), &[])
    }
}
