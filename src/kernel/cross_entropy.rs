// SPDX-License-Identifier: MIT OR Apache-2.0
//! Softmax, cross-entropy and their gradient in one kernel: the scores are read once and the
//! probabilities never stored.

use super::{Cluster, Finder};
use super::{Kernel, LossGradient};
use crate::graph::NodeId;
use crate::op::{Binary, Op, Reduction, Softmax};
use crate::scalars::Scalar;

/// `log_softmax -> nll [-> nll_grad(share[ * loss scale]) -> log_softmax_grad]`.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let log_softmax = graph.node(root);
    if log_softmax.op != Op::Softmax(Softmax::Log) {
        return None;
    }
    let users = finder.users(root);
    let loss = *users.iter().find(|user| matches!(graph.node(**user).op, Op::Nll(_)))?;
    let Op::Nll(nll) = graph.node(loss).op else { return None };
    if !finder.is_free(loss) || nll.reduction == Reduction::None {
        return None;
    }
    let mut inputs = log_softmax.inputs.clone();
    inputs.extend(&graph.node(loss).inputs[1..]);
    let forward = Cluster {
        kernel: Kernel::CrossEntropy { nll, gradient: LossGradient::Absent },
        nodes: vec![root, loss],
        inputs: inputs.clone(),
        outputs: vec![loss],
    };
    match *users {
        [_] => Some(forward),
        [_, _] => {
            let gradient = *users.iter().find(|user| **user != loss)?;
            let [y, dy] = *graph.node(gradient).inputs.as_slice() else { return None };
            let likelihood = graph.node(dy);
            let fits = graph.node(gradient).op == Op::SoftmaxGrad(Softmax::Log)
                && y == root
                && matches!(likelihood.op, Op::NllGrad(other, _) if other == nll)
                && likelihood.inputs[1..] == graph.node(loss).inputs[1..]
                && finder.only_user(dy) == Some(gradient);
            let seed = likelihood.inputs.first().copied().filter(|_| fits)?;
            let (of_loss, nodes) = match graph.node(seed).op {
                Op::Scalar(Scalar::Share) => {
                    (LossGradient::Computed, vec![root, loss, dy, gradient])
                }
                _ if is_scaled_share(finder, seed) && finder.only_user(seed) == Some(dy) => {
                    (LossGradient::Scaled, vec![root, loss, seed, dy, gradient])
                }
                _ => return None,
            };
            Some(Cluster {
                kernel: Kernel::CrossEntropy { nll, gradient: of_loss },
                nodes,
                inputs,
                outputs: vec![loss, gradient],
            })
        }
        _ => None,
    }
}

/// Whether a node is where the gradient of a scaled loss begins.
fn is_scaled_share(finder: &Finder<'_>, id: NodeId) -> bool {
    let node = finder.graph.node(id);
    let factors: Vec<&Op> = node.inputs.iter().map(|&id| &finder.graph.node(id).op).collect();
    node.op == Op::Binary(Binary::Multiply)
        && factors == [&Op::Scalar(Scalar::Share), &Op::Scalar(Scalar::LossScale)]
        && finder.is_free(id)
}
