// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of pairs of elements.

use super::{Mismatch, Op, TensorType, Unary};
use crate::graph::{Builder, NodeId};
use crate::DType;

/// A function applied to corresponding elements of two tensors of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Subtract,
    /// `a * b`
    Multiply,
    /// `a / b`
    Divide,
}

impl Binary {
    /// Name of the function.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Subtract => "subtract",
            Binary::Multiply => "multiply",
            Binary::Divide => "divide",
        }
    }

    /// The function.
    pub fn value(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            Binary::Divide => a / b,
        }
    }

    pub(super) fn gradient(
        self,
        graph: &mut Builder,
        inputs: &[NodeId],
        dy: NodeId,
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let (a, b) = (inputs[0], inputs[1]);
        let (da, db) = match self {
            Binary::Add => (dy, dy),
            Binary::Subtract => (dy, graph.add(Op::Unary(Unary::Scale(-1.0)), &[dy])?),
            Binary::Multiply => (
                graph.add(Op::Binary(Binary::Multiply), &[dy, b])?,
                graph.add(Op::Binary(Binary::Multiply), &[dy, a])?,
            ),
            Binary::Divide => {
                let da = graph.add(Op::Binary(Binary::Divide), &[dy, b])?;
                let ratio = graph.add(Op::Binary(Binary::Divide), &[a, b])?;
                let product = graph.add(Op::Binary(Binary::Multiply), &[da, ratio])?;
                (da, graph.add(Op::Unary(Unary::Scale(-1.0)), &[product])?)
            }
        };
        Ok(vec![Some(da), Some(db)])
    }
}

pub(super) fn infer(inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match inputs {
        [a, b] if a == b && a.dtype == DType::F32 => Ok((*a).clone()),
        _ => Err(Mismatch::new(
            "two floating-point tensors of one shape",
            super::update::describe(inputs),
        )),
    }
}
