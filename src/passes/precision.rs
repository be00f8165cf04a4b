// SPDX-License-Identifier: MIT OR Apache-2.0
//! The precision pass: which products round their factors, and which values are rounded when they
//! are stored.
//!
//! Values inside a kernel are never rounded, so storage is decided for buffers and not for nodes.

use crate::graph::{Graph, NodeId, LOSS};
use crate::op::Op;
use crate::{DType, Precision};

/// Tells every product how it takes its factors.
pub(super) fn assign(mut graph: Graph, precision: Precision) -> Graph {
    for node in &mut graph.nodes {
        match &mut node.op {
            Op::MatMul(product) | Op::BatchMatMul(product) => product.factors = precision,
            Op::Conv(conv) | Op::ConvInputGrad(conv, _) | Op::ConvWeightGrad(conv, _) => {
                conv.factors = precision;
            }
            Op::Recurrent(recurrent) | Op::RecurrentGrad(recurrent, _) => {
                recurrent.factors = precision;
            }
            _ => {}
        }
    }
    graph
}

/// The type that a value is rounded to when a step stores it.
pub(super) fn stored(
    graph: &Graph,
    users: &[Vec<NodeId>],
    id: NodeId,
    precision: Precision,
) -> DType {
    let node = graph.node(id);
    let is_loss = |id: NodeId| graph.layer(id).kind == LOSS;
    let full = match node.op {
        // Statistics, sums, losses, and what a user or the optimiser holds in f32; extremes, whose
        // gradient goes to the elements that equal them.
        Op::SumTo(_)
        | Op::TakeGrad { .. }
        | Op::GatherGrad(..)
        | Op::Statistics(_)
        | Op::Extreme(_)
        | Op::Result(_)
        | Op::Nll(_)
        | Op::GlobalNorm
        | Op::ClipCoefficient(_)
        | Op::Unscale(_) => true,
        Op::Input(_) | Op::Parameter(_) | Op::Constant(_) | Op::Scalar(_) => true,
        Op::Gradient(..) | Op::Update(..) | Op::Average(_) | Op::SetState(..) => true,
        // All of a loss but its last gradient, the one that layers take.
        _ if is_loss(id) => {
            let users = &users[id.index()];
            users.is_empty() || users.iter().any(|&user| is_loss(user))
        }
        _ => node.ty.shape.rank() == 0,
    };
    match node.ty.dtype {
        DType::F32 if !full => precision.storage(),
        dtype => dtype,
    }
}
