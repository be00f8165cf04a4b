// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of pairs of elements.

use super::{unary::sigmoid, Mismatch, Op, TensorType, Unary};
use super::{NodeId, Record};
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
    /// Binary cross-entropy of a logit `a` and a target `b`: `log(1 + exp(a)) - a b`, with all
    /// digits however sure and right the logit is.
    LogisticLoss,
    /// Its slope `sigmoid(a) - b`, likewise.
    LogisticSlope,
}

impl Binary {
    /// Name of the function.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Subtract => "subtract",
            Binary::Multiply => "multiply",
            Binary::Divide => "divide",
            Binary::LogisticLoss => "logistic_loss",
            Binary::LogisticSlope => "logistic_slope",
        }
    }

    /// The function.
    pub fn value(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            Binary::Divide => a / b,
            // The part that is 0 for a sure and right logit comes alone, so that it swallows nothing.
            Binary::LogisticLoss => {
                let wrong = if a > 0.0 { 1.0 - b } else { b };
                wrong * a.abs() + (-a.abs()).exp().ln_1p()
            }
            Binary::LogisticSlope if a > 0.0 => (1.0 - b) - sigmoid(-a),
            Binary::LogisticSlope => sigmoid(a) - b,
        }
    }

    pub(super) fn gradient(
        self,
        graph: &mut dyn Record,
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
            Binary::LogisticLoss => {
                let slope = graph.add(Op::Binary(Binary::LogisticSlope), &[a, b])?;
                let da = graph.add(Op::Binary(Binary::Multiply), &[dy, slope])?;
                let product = graph.add(Op::Binary(Binary::Multiply), &[dy, a])?;
                (da, graph.add(Op::Unary(Unary::Scale(-1.0)), &[product])?)
            }
            Binary::LogisticSlope => {
                let sigmoid = graph.add(Op::Unary(Unary::Sigmoid), &[a])?;
                let da = graph.add(Op::UnaryGrad(Unary::Sigmoid), &[sigmoid, dy])?;
                (da, graph.add(Op::Unary(Unary::Scale(-1.0)), &[dy])?)
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
