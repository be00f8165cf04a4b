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
    /// The smaller; NaN where either is NaN. Equal numbers share the gradient.
    Minimum,
    /// The larger, likewise.
    Maximum,
    /// `a` to the power of `b`.
    Power,
    /// Its slope in `b`: `a^b log(a)`, 0 where `a` is 0 and `b` is not negative. Without a gradient.
    PowerSlope,
    /// 1 where `a < b`, else 0. Without a gradient, as are all comparisons.
    Less,
    /// 1 where `a <= b`, else 0.
    LessEqual,
    /// 1 where `a = b`, else 0.
    Equal,
    /// What share of its gradient the larger of both hands to `a`: 0 where `a < b`, a half where they
    /// are equal, else 1. Without a gradient.
    MaximumShare,
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
            Binary::Minimum => "minimum",
            Binary::Maximum => "maximum",
            Binary::Power => "power",
            Binary::PowerSlope => "power_slope",
            Binary::Less => "less",
            Binary::LessEqual => "less_equal",
            Binary::Equal => "equal",
            Binary::MaximumShare => "maximum_share",
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
            Binary::Minimum | Binary::Maximum if a.is_nan() || b.is_nan() => f64::NAN,
            Binary::Minimum => a.min(b),
            Binary::Maximum => a.max(b),
            Binary::Power => a.powf(b),
            Binary::PowerSlope if a == 0.0 && b >= 0.0 => 0.0,
            Binary::PowerSlope => a.powf(b) * a.ln(),
            Binary::Less => f64::from(u8::from(a < b)),
            Binary::LessEqual => f64::from(u8::from(a <= b)),
            Binary::Equal => f64::from(u8::from(a == b)),
            Binary::MaximumShare if a < b => 0.0,
            Binary::MaximumShare if a == b => 0.5,
            Binary::MaximumShare => 1.0,
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
            Binary::Maximum => (share(graph, [a, b], dy)?, share(graph, [b, a], dy)?),
            Binary::Minimum => (share(graph, [b, a], dy)?, share(graph, [a, b], dy)?),
            Binary::Power => {
                let below = graph.add(Op::Unary(Unary::Offset(-1.0)), &[b])?;
                let power = graph.add(Op::Binary(Binary::Power), &[a, below])?;
                let slope = graph.add(Op::Binary(Binary::Multiply), &[b, power])?;
                let product = graph.add(Op::Binary(Binary::Multiply), &[dy, slope])?;
                // The power 0 is constant, even at 0.
                let da = graph.add(Op::MaskNonZero(1.0), &[b, product])?;
                let slope = graph.add(Op::Binary(Binary::PowerSlope), &[a, b])?;
                (da, graph.add(Op::Binary(Binary::Multiply), &[dy, slope])?)
            }
            Binary::Less | Binary::LessEqual | Binary::Equal => return Ok(vec![None, None]),
            Binary::PowerSlope | Binary::MaximumShare => {
                return Err(Mismatch::new("an operation of the forward pass", self.name()))
            }
        };
        Ok(vec![Some(da), Some(db)])
    }
}

/// The part of `dy` that goes to `a`, which takes it all where it is the larger. What it does not
/// take is left out and not multiplied by 0.
fn share(graph: &mut dyn Record, [a, b]: [NodeId; 2], dy: NodeId) -> Result<NodeId, Mismatch> {
    let share = graph.add(Op::Binary(Binary::MaximumShare), &[a, b])?;
    let product = graph.add(Op::Binary(Binary::Multiply), &[share, dy])?;
    graph.add(Op::MaskNonZero(1.0), &[share, product])
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
