// SPDX-License-Identifier: MIT OR Apache-2.0
//! The choice between two values, element by element.

use super::{update::describe, Array, Mismatch, Op, TensorType, Unary};
use super::{NodeId, Record};
use crate::DType;

pub(super) fn infer(inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match inputs {
        [condition, a, b] if condition == a && a == b && a.dtype == DType::F32 => Ok((*a).clone()),
        _ => Err(Mismatch::new("three floating-point tensors of one shape", describe(inputs))),
    }
}

/// Each value gets the gradient where it was chosen. Elsewhere it gets 0, not a product with 0: what
/// was not chosen may be infinite.
pub(super) fn gradient(
    graph: &mut dyn Record,
    condition: NodeId,
    dy: NodeId,
) -> Result<Vec<Option<NodeId>>, Mismatch> {
    let da = graph.add(Op::MaskNonZero(1.0), &[condition, dy])?;
    let otherwise = graph.add(Op::Unary(Unary::Not), &[condition])?;
    let db = graph.add(Op::MaskNonZero(1.0), &[otherwise, dy])?;
    Ok(vec![None, Some(da), Some(db)])
}

pub(super) fn eval(condition: &Array, a: &Array, b: &Array) -> Array {
    let chosen = condition.data.iter().zip(a.data.iter().zip(&b.data));
    let data = chosen.map(|(&condition, (&a, &b))| if condition != 0.0 { a } else { b }).collect();
    Array::new(a.shape.clone(), data)
}
