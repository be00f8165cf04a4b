// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers, whose steps are a kernel's own affair.

use crate::graph::{Graph, Node};
use crate::op::{Op, Operand};

/// Floating-point operations of the products of all steps; none for other operations.
pub(super) fn flops(graph: &Graph, node: &Node) -> usize {
    let operands = match &node.op {
        Op::Recurrent(recurrent) => recurrent.operands(),
        Op::RecurrentGrad(recurrent, upstream) => recurrent.gradient_operands(*upstream),
        _ => return 0,
    };
    let weights = operands.iter().zip(&node.inputs).filter_map(|(operand, &id)| match operand {
        Operand::Weight | Operand::Projection => Some(graph.node(id).ty.shape.elements()),
        _ => None,
    });
    // A count that is shown, so the largest number stands for what no number holds.
    let all = weights.fold(0, usize::saturating_add);
    all.saturating_mul(2).saturating_mul(node.ty.shape.rows())
}
