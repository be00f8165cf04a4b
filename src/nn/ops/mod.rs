// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done with a [`Var`]: the functions that networks are written with.
//!
//! None fails on the spot. A mistake is noted with the layer's path and comes back, with all others,
//! when the network is traced.

mod arithmetic;
mod axes;
mod compare;
mod elementwise;
mod index;
mod pieces;
mod product;
mod reduce;
mod shape;

pub use arithmetic::{Number, Operand};
pub use axes::{Axis, Keep};
pub use reduce::Correction;

use crate::graph::Var;
use crate::op::{Binary, Mismatch, Op, Unary};
use crate::Shape;

impl Var {
    /// A tensor of one number throughout, in the trace that `self` belongs to.
    ///
    /// ```
    /// # use kiln::{nn::{Module, Scope}, Device, Net, Seed, Tensor, Var};
    /// struct Ramp;
    /// impl Module for Ramp {
    ///     fn forward(&self, x: &Var) -> Var {
    ///         Var::concat(&[x, &x.full([2, 1], 7.0)], 1)
    ///     }
    /// }
    /// let mut net = Net::new(Device::cpu(), Seed(1), |_: &Scope| Ramp)?;
    /// let y = net.eval().forward(&Tensor::zeros([2, 1]))?;
    /// assert_eq!(y.values()?, [0.0, 7.0, 0.0, 7.0]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn full(&self, shape: impl Into<Shape>, value: impl Into<f64>) -> Var {
        let number = self.leaf(Op::Constant(value.into()));
        number.expand(shape)
    }

    fn unary(&self, function: Unary) -> Var {
        self.apply(Op::Unary(function), &[])
    }

    /// An element-wise function of two values, broadcast to a common shape.
    fn binary(&self, function: Binary, other: &Var) -> Var {
        match self.stretched(function.name(), [self, other]) {
            Ok([a, b]) => a.apply(Op::Binary(function), &[&b]),
            Err(unknown) => unknown,
        }
    }

    /// Values broadcast to a common shape, or what a mistake yields.
    fn stretched<const N: usize>(&self, op: &str, values: [&Var; N]) -> Result<[Var; N], Var> {
        let mut common = Shape::scalar();
        for value in values {
            let Some(shape) = value.shape() else { return Err(value.clone()) };
            match common.broadcast_with(&shape) {
                Some(larger) => common = larger,
                None => {
                    let shapes = values.map(|value| value.shape().unwrap_or_default().to_string());
                    let expected = "shapes that broadcast to one another";
                    return Err(self.mistake(op, Mismatch::new(expected, shapes.join(" and "))));
                }
            }
        }
        Ok(values.map(|value| match value.shape().as_ref() == Some(&common) {
            true => value.clone(),
            false => value.apply(Op::Broadcast(common.clone()), &[]),
        }))
    }
}
