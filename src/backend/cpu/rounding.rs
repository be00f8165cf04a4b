// SPDX-License-Identifier: MIT OR Apache-2.0
//! What precisions other than `f32` round. The CPU computes in `f32` whatever the precision, and
//! rounds where a GPU stores 16 bits or multiplies fewer.

use super::memory::Arenas;
use super::operands::Read;
use super::plain::span;
use crate::backend::Run;
use crate::op::Op;
use crate::plan::{Place, Plan, Step};
use crate::{DType, Precision, Result};

/// To what a step's matrix product, or convolution, rounds its factors.
pub(super) fn of_factors(plan: &Plan, step: &Step) -> Precision {
    let product = step.nodes.iter().find_map(|&node| match plan.graph.node(node).op {
        Op::MatMul(product) | Op::BatchMatMul(product) => Some(product.factors),
        Op::Conv(conv) | Op::ConvInputGrad(conv, _) | Op::ConvWeightGrad(conv, _) => {
            Some(conv.factors)
        }
        _ => None,
    });
    product.unwrap_or(Precision::F32)
}

/// The two factors of a step's matrix product, rounded; none if they are taken as they are.
pub(super) fn factors(precision: Precision, reads: &[Read<'_>]) -> Result<Vec<Vec<f32>>> {
    if precision == Precision::F32 {
        return Ok(Vec::new());
    }
    let round = |read: &Read<'_>| -> Result<Vec<f32>> {
        Ok(read.values()?.iter().map(|&value| precision.round(value)).collect())
    };
    reads.iter().take(2).map(round).collect()
}

/// Rounds what a step wrote.
pub(super) fn outputs(arenas: &mut Arenas, run: &mut Run<'_>, index: usize) -> Result<()> {
    for &write in &run.plan.steps[index].writes {
        let buffer = run.plan.buffer(write);
        if !matches!(buffer.rounded, DType::Bf16 | DType::F16) {
            continue;
        }
        let values = match buffer.place {
            Place::Arena(start) => arenas.slice_mut(span(run.memory, start, &buffer.ty.shape))?,
            Place::Output(slot) => run.outputs[slot].as_mut_slice(),
            // Inputs are never written, and state is never rounded.
            _ => continue,
        };
        values.iter_mut().for_each(|value| *value = buffer.rounded.round(*value));
    }
    Ok(())
}
