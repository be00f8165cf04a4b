// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs of operations on each element: one pass over memory, whatever their number.
//!
//! A chain works on one value after the other: each of its links takes the value of the link before,
//! values that were kept, and elements of the chain's operands. Tensors that are broadcast are read
//! where they lie, by a [`View`].

mod assemble;
mod find;
mod operand;
mod view;

pub(crate) use find::chains;
pub(super) use view::order;
pub use view::{Axis, View};

use crate::op::{Binary, Op, Unary};

/// Most operands of a chain.
pub const MOST_OPERANDS: usize = 8;
/// Most links of a chain.
pub const MOST_LINKS: usize = 24;
/// Most values that a chain keeps at a time.
pub const MOST_KEPT: usize = 4;
/// Most results of a chain.
pub const MOST_RESULTS: usize = 8;
/// Most axes of an operand's view.
pub const MOST_AXES: usize = 8;

/// A run of operations on each element.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Number of elements of each result.
    pub elements: usize,
    /// How each operand, the kernel's inputs in order, is read along the elements.
    pub operands: Vec<View>,
    /// What is computed of each element, in order.
    pub links: Vec<Link>,
}

/// One operation of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The operation.
    pub function: Function,
    /// What it takes.
    pub arguments: Vec<Source>,
    /// Where its value is kept for later links than the next.
    pub keep: Option<usize>,
    /// Which of the kernel's outputs its value is.
    pub store: Option<usize>,
}

/// An operation on elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// `x -> x`
    Copy,
    /// [`Op::Unary`].
    Unary(Unary),
    /// [`Op::UnaryGrad`].
    UnaryGrad(Unary),
    /// [`Op::Binary`].
    Binary(Binary),
    /// [`Op::MaskNonZero`].
    MaskNonZero(f64),
    /// [`Op::Where`].
    Where,
}

/// What a link takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The value of the link before.
    Last,
    /// A value that was kept.
    Kept(usize),
    /// An element of an operand.
    Operand(usize),
}

impl Function {
    /// The function of an operation, if it is one on elements.
    pub(crate) fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Unary(function) => Some(Function::Unary(*function)),
            Op::UnaryGrad(function) => Some(Function::UnaryGrad(*function)),
            Op::Binary(function) => Some(Function::Binary(*function)),
            Op::MaskNonZero(scale) => Some(Function::MaskNonZero(*scale)),
            Op::Where => Some(Function::Where),
            _ => None,
        }
    }
}
