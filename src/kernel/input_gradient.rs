// SPDX-License-Identifier: MIT OR Apache-2.0
//! A linear layer's gradient with respect to its input, masked by the zeros of the layer below.

use super::linear::is_weight;
use super::Kernel;
use super::{Cluster, Finder};
use crate::graph::NodeId;
use crate::op::{MatMul, Op};

/// `matmul(dy, weight) [-> mask_nonzero(y, .)]`, reshapes between them allowed.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let product = graph.node(root);
    let is_ours = matches!(product.op, Op::MatMul(p) if p.is_like(MatMul::INPUT_GRADIENT));
    if !is_ours || !is_weight(finder, product.inputs[1]) {
        return None;
    }
    let mut nodes = vec![root];
    let mut inputs = product.inputs.clone();
    let mut passed = Vec::new();
    if let Some(user) = finder.only_user_past_views(root, &mut passed) {
        let mask = graph.node(user);
        let gradient = passed.last().copied().unwrap_or(root);
        if let (Op::MaskNonZero(scale), [y, dy]) = (&mask.op, mask.inputs.as_slice()) {
            if *dy == gradient && *y != gradient {
                inputs.push(*y);
                nodes.extend(passed);
                nodes.push(user);
                let kernel = Kernel::InputGradient { mask: Some(*scale) };
                return Some(Cluster { kernel, nodes, inputs, outputs: vec![user] });
            }
        }
    }
    let kernel = Kernel::InputGradient { mask: None };
    Some(Cluster { kernel, nodes, inputs, outputs: vec![root] })
}
