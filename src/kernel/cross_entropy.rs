// SPDX-License-Identifier: MIT OR Apache-2.0
//! Softmax, cross-entropy and their gradient in one kernel: the scores are read once and the
//! probabilities never stored.

use super::{Cluster, Finder};
use super::{Kernel, LossGradient};
use crate::graph::NodeId;
use crate::op::{Op, Reduction, Softmax};
use crate::scalars::Scalar;

/// `log_softmax -> nll [-> nll_grad(share) -> log_softmax_grad]`.
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
                && graph.node(likelihood.inputs[0]).op == Op::Scalar(Scalar::Share)
                && finder.only_user(dy) == Some(gradient);
            fits.then(|| Cluster {
                kernel: Kernel::CrossEntropy { nll, gradient: LossGradient::Computed },
                nodes: vec![root, loss, dy, gradient],
                inputs,
                outputs: vec![loss, gradient],
            })
        }
        _ => None,
    }
}
