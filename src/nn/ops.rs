// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done with a [`Var`]: the functions that networks are written with.

use std::ops::{Add, Mul, Sub};

use crate::graph::Var;
use crate::op::{Binary, MatMul, Mismatch, Op, Softmax, Unary};
use crate::Shape;

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

    /// Softmax over the innermost extent.
    pub fn softmax(&self) -> Var {
        self.apply(Op::Softmax(Softmax::Plain), &[])
    }

    /// Logarithm of the softmax over the innermost extent.
    pub fn log_softmax(&self) -> Var {
        self.apply(Op::Softmax(Softmax::Log), &[])
    }

    /// The same elements under another shape.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Var {
        let shape = shape.into();
        if self.shape().as_ref() == Some(&shape) {
            return self.clone();
        }
        self.apply(Op::Reshape(shape), &[])
    }

    /// Merges all extents from `start` on into one.
    pub fn flatten(&self, start: usize) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        if start >= shape.rank() {
            let expected = format!("a tensor of rank {} or more", start + 1);
            return self.mistake("flatten", Mismatch::new(expected, &shape));
        }
        let mut dims = shape.dims()[..start].to_vec();
        dims.push(Shape::from(&shape.dims()[start..]).elements());
        self.reshape(Shape::from(dims))
    }

    /// Exchanges the two extents of a matrix.
    pub fn transpose(&self) -> Var {
        self.apply(Op::Transpose, &[])
    }

    /// Product of two matrices.
    pub fn matmul(&self, other: &Var) -> Var {
        self.apply(Op::MatMul(MatMul::INPUT_GRADIENT), &[other])
    }

    /// Product of a matrix and the transpose of another.
    pub fn matmul_transposed(&self, other: &Var) -> Var {
        self.apply(Op::MatMul(MatMul::LINEAR), &[other])
    }

    /// Sum of all elements.
    pub fn sum(&self) -> Var {
        self.apply(Op::SumTo(Shape::scalar()), &[])
    }

    /// Mean of all elements.
    pub fn mean(&self) -> Var {
        let elements = self.shape().map_or(1, |shape| shape.elements());
        self.sum().unary(Unary::Scale(1.0 / elements as f64))
    }

    fn unary(&self, function: Unary) -> Var {
        self.apply(Op::Unary(function), &[])
    }

    /// An element-wise function of two values, broadcast to a common shape.
    fn binary(&self, function: Binary, other: &Var) -> Var {
        let (Some(a), Some(b)) = (self.shape(), other.shape()) else {
            return if self.shape().is_none() { self.clone() } else { other.clone() };
        };
        let Some(shape) = a.broadcast_with(&b) else {
            let expected = "shapes that broadcast to one another";
            return self.mistake(function.name(), Mismatch::new(expected, format!("{a} and {b}")));
        };
        let stretch = |var: &Var, from: &Shape| match *from == shape {
            true => var.clone(),
            false => var.apply(Op::Broadcast(shape.clone()), &[]),
        };
        stretch(self, &a).apply(Op::Binary(function), &[&stretch(other, &b)])
    }
}

impl Add for &Var {
    type Output = Var;

    fn add(self, other: &Var) -> Var {
        self.binary(Binary::Add, other)
    }
}

impl Sub for &Var {
    type Output = Var;

    fn sub(self, other: &Var) -> Var {
        self.binary(Binary::Subtract, other)
    }
}

impl Mul for &Var {
    type Output = Var;

    fn mul(self, other: &Var) -> Var {
        self.binary(Binary::Multiply, other)
    }
}

impl std::ops::Div for &Var {
    type Output = Var;

    fn div(self, other: &Var) -> Var {
        self.binary(Binary::Divide, other)
    }
}
