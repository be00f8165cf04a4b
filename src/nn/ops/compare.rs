// SPDX-License-Identifier: MIT OR Apache-2.0
//! Comparisons, and choices by them. A comparison is 1 where it holds and 0 elsewhere, NaN included,
//! and has no gradient.

use super::Operand;
use crate::graph::Var;
use crate::op::{Binary, Op, Unary};

impl Var {
    /// The smaller of both, element by element; NaN where either is NaN. Equal ones share the
    /// gradient.
    pub fn minimum(&self, other: impl Operand) -> Var {
        self.binary(Binary::Minimum, &other.beside(self))
    }

    /// The larger of both, element by element; NaN where either is NaN. Equal ones share the
    /// gradient.
    pub fn maximum(&self, other: impl Operand) -> Var {
        self.binary(Binary::Maximum, &other.beside(self))
    }

    /// 1 where `self < other`, else 0.
    pub fn lt(&self, other: impl Operand) -> Var {
        self.binary(Binary::Less, &other.beside(self))
    }

    /// 1 where `self <= other`, else 0.
    pub fn le(&self, other: impl Operand) -> Var {
        self.binary(Binary::LessEqual, &other.beside(self))
    }

    /// 1 where `self > other`, else 0.
    pub fn gt(&self, other: impl Operand) -> Var {
        other.beside(self).binary(Binary::Less, self)
    }

    /// 1 where `self >= other`, else 0.
    pub fn ge(&self, other: impl Operand) -> Var {
        other.beside(self).binary(Binary::LessEqual, self)
    }

    /// 1 where both are equal, else 0.
    pub fn eq(&self, other: impl Operand) -> Var {
        self.binary(Binary::Equal, &other.beside(self))
    }

    /// 1 where they are not equal, as NaN is to all numbers and itself, else 0.
    pub fn ne(&self, other: impl Operand) -> Var {
        self.eq(other).unary(Unary::Not)
    }

    /// `a` where this is not 0, else `b`: PyTorch's `where(self, a, b)`. All three broadcast to one
    /// another. No gradient reaches what was not chosen, so neither does a NaN from there.
    ///
    /// ```
    /// # use kiln::{nn::{Module, Scope}, Device, Net, Seed, Tensor, Var};
    /// /// The Huber loss of each element, with a threshold of 1.
    /// struct Huber;
    /// impl Module for Huber {
    ///     fn forward(&self, x: &Var) -> Var {
    ///         let distance = x.abs();
    ///         distance.lt(1.0).where_(0.5 * x.square(), &distance - 0.5)
    ///     }
    /// }
    /// let mut net = Net::new(Device::cpu(), Seed(1), |_: &Scope| Huber)?;
    /// let y = net.eval().forward(&Tensor::new([3], vec![-3.0, 0.0, 0.5])?)?;
    /// assert_eq!(y.values()?, [2.5, 0.0, 0.125]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn where_(&self, a: impl Operand, b: impl Operand) -> Var {
        match self.stretched("where", [self, &a.beside(self), &b.beside(self)]) {
            Ok([condition, a, b]) => condition.apply(Op::Where, &[&a, &b]),
            Err(unknown) => unknown,
        }
    }
}
