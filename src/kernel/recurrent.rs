// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers, whose steps are a kernel's own affair.

use super::{Cluster, Finder, Fusion, Kernel};
use crate::graph::{Graph, Node, NodeId};
use crate::op::{Dropout, Drops, Op, Operand, Recurrent};

/// A recurrent layer and dropout of what it yields, whose values follow those of the layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentDropout {
    /// The layer.
    pub recurrent: Recurrent,
    /// Dropout of the hidden states after each step.
    pub output: Option<Dropout>,
    /// Dropout of the hidden states after the last step.
    pub hidden: Option<Dropout>,
}

impl RecurrentDropout {
    /// The layer without dropout.
    pub(crate) fn none(recurrent: Recurrent) -> Self {
        RecurrentDropout { recurrent, output: None, hidden: None }
    }
}

/// `recurrent -> dropout`, of its output, of the last hidden state or of both.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let Op::Recurrent(recurrent) = finder.graph.node(root).op else { return None };
    if finder.facts.fusion != Fusion::AcrossLayers {
        return None;
    }
    let results = finder.results(root);
    let hidden = results.iter().find(|(number, _)| *number == 1);
    let output = dropout_of(finder, root);
    let hidden = hidden.and_then(|(_, hidden)| dropout_of(finder, *hidden));
    if output.is_none() && hidden.is_none() {
        return None;
    }
    let mut outputs = vec![root];
    outputs.extend(results.iter().map(|(_, result)| *result));
    outputs.extend([output, hidden].into_iter().flatten().map(|(id, _)| id));
    let mut nodes = outputs.clone();
    nodes.sort_unstable();
    let [output, hidden] = [output, hidden].map(|dropout| dropout.map(|(_, dropout)| dropout));
    let kernel = Kernel::RecurrentDropout(RecurrentDropout { recurrent, output, hidden });
    Some(Cluster { kernel, nodes, inputs: finder.graph.node(root).inputs.clone(), outputs })
}

/// Dropout of a value, as far as it is of single elements.
fn dropout_of(finder: &Finder<'_>, value: NodeId) -> Option<(NodeId, Dropout)> {
    let mut dropouts = finder.users(value).iter().filter(|user| finder.is_free(**user));
    dropouts.find_map(|&user| Some((user, element_dropout(finder, user)?)))
}

/// Dropout of single elements at a rate that kernels know beforehand.
pub(super) fn element_dropout(finder: &Finder<'_>, id: NodeId) -> Option<Dropout> {
    match finder.graph.node(id).op {
        Op::Dropout(dropout)
            if dropout.drops == Drops::Elements && dropout.rate.constant_scale().is_some() =>
        {
            Some(dropout)
        }
        _ => None,
    }
}

/// `dropout -> recurrent_grad`, of either gradient that comes down.
pub(super) fn find_gradient(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let node = finder.graph.node(root);
    let Op::RecurrentGrad(recurrent, upstream) = node.op else { return None };
    if finder.facts.fusion != Fusion::AcrossLayers {
        return None;
    }
    let mut of = RecurrentDropout::none(recurrent);
    let (mut inputs, mut nodes) = (node.inputs.clone(), vec![root]);
    for (operand, input) in recurrent.gradient_operands(upstream).iter().zip(&mut inputs) {
        let place = match operand {
            Operand::OutputGradient => &mut of.output,
            Operand::HiddenGradient => &mut of.hidden,
            _ => continue,
        };
        if finder.is_free(*input) && finder.only_user(*input) == Some(root) {
            if let Some(dropout) = element_dropout(finder, *input) {
                *place = Some(dropout);
                nodes.push(*input);
                *input = finder.graph.node(*input).inputs[0];
            }
        }
    }
    if nodes.len() == 1 {
        return None;
    }
    let mut outputs = vec![root];
    outputs.extend(finder.results(root).iter().map(|(_, result)| *result));
    nodes.extend(&outputs[1..]);
    nodes.sort_unstable();
    Some(Cluster { kernel: Kernel::RecurrentGradientDropout(of, upstream), nodes, inputs, outputs })
}

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
