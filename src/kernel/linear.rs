// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linear layer, activation and dropout in one kernel: the tail is applied while the sums are in
//! registers.

use super::{Cluster, Finder, Kernel, LinearTail};
use crate::graph::{NodeId, ParamUsage};
use crate::op::{Binary, Drops, MatMul, Op, Unary};
use crate::Shape;

/// Whether a layer adds a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bias {
    /// It does.
    #[default]
    Added,
    /// It does not.
    Absent,
}

/// `matmul(x, weight^T) [+ broadcast(bias)] [-> activation] [-> dropout]`, reshapes between them
/// allowed; the activation only where nothing else needs its input, dropout only where the rows
/// of the product tell its samples apart.
pub(super) fn find(finder: &Finder<'_>, root: NodeId) -> Option<Cluster> {
    let graph = finder.graph;
    let product = graph.node(root);
    let is_ours = matches!(product.op, Op::MatMul(p) if p.is_like(MatMul::LINEAR));
    if !is_ours || !is_weight(finder, product.inputs[1]) {
        return None;
    }
    let mut tail = LinearTail { bias: Bias::Absent, activation: None, dropout: None };
    let mut cluster = Cluster {
        kernel: Kernel::Plain,
        nodes: vec![root],
        inputs: product.inputs.clone(),
        outputs: vec![root],
    };
    if let Some((sum, stretched, bias)) = added_bias(finder, root) {
        tail.bias = Bias::Added;
        cluster.inputs.push(bias);
        extend(&mut cluster, vec![stretched], sum);
    }
    let mut passed = Vec::new();
    if let Some(user) = finder.only_user_past_views(cluster.outputs[0], &mut passed) {
        if let Op::Unary(function) = graph.node(user).op {
            if in_tail(function) {
                tail.activation = Some(function);
                extend(&mut cluster, passed, user);
            }
        }
    }
    let mut passed = Vec::new();
    if let Some(user) = finder.only_user_past_views(cluster.outputs[0], &mut passed) {
        match graph.node(user).op {
            Op::Dropout(dropout)
                if dropout.drops == Drops::Elements
                    && samples_are_rows(&graph.node(user).ty.shape, product.ty.shape.last()) =>
            {
                tail.dropout = Some(dropout);
                extend(&mut cluster, passed, user);
            }
            _ => {}
        }
    }
    cluster.kernel = Kernel::Linear { tail };
    Some(cluster)
}

/// Whether a node is a parameter in a backend's layout for linear layers.
pub(super) fn is_weight(finder: &Finder<'_>, id: NodeId) -> bool {
    match finder.graph.node(id).op {
        Op::Parameter(parameter) => {
            finder.graph.parameters()[parameter.index()].usage == ParamUsage::LinearWeight
        }
        _ => false,
    }
}

/// The addition of a bias parameter to a product: the sum, the stretched bias, the parameter.
fn added_bias(finder: &Finder<'_>, product: NodeId) -> Option<(NodeId, NodeId, NodeId)> {
    let graph = finder.graph;
    let sum = finder.only_user(product)?;
    let (Op::Binary(Binary::Add), [left, stretched]) =
        (&graph.node(sum).op, graph.node(sum).inputs.as_slice())
    else {
        return None;
    };
    let broadcast = graph.node(*stretched);
    let bias = *broadcast.inputs.first()?;
    let matches = *left == product
        && matches!(broadcast.op, Op::Broadcast(_))
        && matches!(graph.node(bias).op, Op::Parameter(_))
        && graph.node(bias).ty.shape.dims() == [graph.node(product).ty.shape.last()]
        && finder.only_user(*stretched) == Some(sum)
        && finder.is_free(*stretched);
    matches.then_some((sum, *stretched, bias))
}

/// Functions that kernels apply to sums in registers.
pub(super) fn in_tail(function: Unary) -> bool {
    matches!(
        function,
        Unary::Relu
            | Unary::LeakyRelu(_)
            | Unary::Gelu
            | Unary::GeluTanh
            | Unary::Silu
            | Unary::Tanh
            | Unary::Sigmoid
    )
}

/// Whether each sample of a dropout's tensor is whole rows of the product, its elements in the order
/// of memory. A reshape on the way may make it otherwise: rows of 8 that become samples of 4.
fn samples_are_rows(dropped: &Shape, columns: usize) -> bool {
    dropped.rank() < 4 && dropped.sample_elements().is_multiple_of(columns.max(1))
}

/// Grows a cluster to a new output by way of further nodes.
fn extend(cluster: &mut Cluster, passed: Vec<NodeId>, output: NodeId) {
    cluster.nodes.extend(passed);
    cluster.nodes.push(output);
    cluster.nodes.sort_unstable();
    cluster.outputs = vec![output];
}
