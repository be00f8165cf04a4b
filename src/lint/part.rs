// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a node is to a network, as people speak of networks.

use crate::graph::{Graph, Node, NodeId};
use crate::op::{Binary, Normalize, Op, Over, Softmax, Unary};

/// What a node does with what flows through the network. Each but [`Join`](Part::Join) has one
/// [main](main) input that it does it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What a run is given.
    Given,
    /// Parameters, constants and what is made of them alone.
    Weight,
    /// A matrix product with a weight.
    Dense,
    /// A convolution with a weight.
    Conv,
    /// Rows of a table for tokens.
    Embedding,
    /// A recurrent layer.
    Recurrent,
    /// An activation function.
    Activation(Activation),
    /// Dropout of what flows.
    Dropout,
    /// Normalisation over a batch.
    BatchNorm,
    /// Normalisation within a sample.
    LayerNorm,
    /// The largest under windows.
    MaxPool,
    /// Means under windows.
    AvgPool,
    /// Sums and extremes along extents.
    Reduction,
    /// The same elements elsewhere, or some of them.
    View,
    /// A function of each element that weights and constants shift or stretch.
    Affine,
    /// Several values that flow come together.
    Join,
    /// Everything else.
    Other,
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    Relu,
    LeakyRelu,
    Smooth,
    Tanh,
    Sigmoid,
    Softplus,
    Softmax,
    LogSoftmax,
}

impl Part {
    /// Whether it has weights that say what its output means.
    pub(super) fn is_learned(self) -> bool {
        matches!(self, Part::Dense | Part::Conv | Part::Embedding | Part::Recurrent)
    }

    /// Whether it moves, shifts and stretches elements and does nothing else.
    pub(super) fn is_plain(self) -> bool {
        matches!(self, Part::View | Part::Affine)
    }
}

impl Activation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::LeakyRelu => "leaky relu",
            Activation::Smooth => "gelu or silu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Softplus => "softplus",
            Activation::Softmax => "softmax",
            Activation::LogSoftmax => "log_softmax",
        }
    }
}

/// The parts of a graph's nodes.
pub(super) fn parts(graph: &Graph) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::with_capacity(graph.nodes().len());
    for (_, node) in graph.nodes() {
        let part = part(node, &parts);
        parts.push(part);
    }
    parts
}

fn part(node: &Node, parts: &[Part]) -> Part {
    let is_weight = |id: &NodeId| parts[id.index()] == Part::Weight;
    let weights = node.inputs.iter().filter(|id| is_weight(id)).count();
    let flowing = node.inputs.len() - weights;
    match &node.op {
        Op::Input(_) => return Part::Given,
        Op::Parameter(_) | Op::Constant(_) | Op::Scalar(_) => return Part::Weight,
        Op::SetState(..) => return Part::Other,
        _ if flowing == 0 => return Part::Weight,
        _ => {}
    }
    match &node.op {
        Op::MatMul(_) | Op::BatchMatMul(_) => if_one(flowing, Part::Dense),
        // Its weight may be a transposed convolution's.
        Op::Conv(_) | Op::ConvInputGrad(..) => if_one(flowing, Part::Conv),
        Op::Take { .. } if is_weight(&node.inputs[0]) => Part::Embedding,
        Op::Take { .. } | Op::Gather(_) => Part::View,
        Op::Recurrent(_) => Part::Recurrent,
        Op::Unary(function) => unary(*function),
        Op::Softmax(Softmax::Plain) => Part::Activation(Activation::Softmax),
        Op::Softmax(Softmax::Log) => Part::Activation(Activation::LogSoftmax),
        Op::Dropout(_) => Part::Dropout,
        Op::Normalize(Normalize { over: Over::Channels, .. }) => Part::BatchNorm,
        Op::Normalize(_) => Part::LayerNorm,
        Op::MaxPool(_) => Part::MaxPool,
        // Resampling takes means of neighbours, too.
        Op::AvgPool(_) | Op::Blend(_) => Part::AvgPool,
        Op::SumTo(_) | Op::Extreme(_) => Part::Reduction,
        Op::Binary(function) => binary(*function, flowing),
        // Choosing between a value and a constant, by a mask.
        Op::Where if node.inputs[1..].iter().filter(|id| !is_weight(id)).count() == 1 => {
            Part::Affine
        }
        Op::Where => Part::Join,
        Op::Concat { .. } => match flowing {
            1 => Part::View,
            _ => Part::Join,
        },
        Op::Reshape(_)
        | Op::Broadcast(_)
        | Op::Transpose
        | Op::Permute(_)
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::ToFormat(_)
        // What holds in train mode comes first.
        | Op::ByMode(_)
        | Op::Result(_) => Part::View,
        _ => Part::Other,
    }
}

fn if_one(flowing: usize, part: Part) -> Part {
    match flowing {
        1 => part,
        _ => Part::Join,
    }
}

fn unary(function: Unary) -> Part {
    Part::Activation(match function {
        Unary::Relu => Activation::Relu,
        // ReLU6 and the like.
        Unary::Clamp { min: 0.0, .. } => Activation::Relu,
        Unary::LeakyRelu(_) => Activation::LeakyRelu,
        Unary::Gelu | Unary::GeluTanh | Unary::Silu => Activation::Smooth,
        Unary::Tanh => Activation::Tanh,
        Unary::Sigmoid => Activation::Sigmoid,
        Unary::Softplus => Activation::Softplus,
        Unary::Scale(_) | Unary::Offset(_) => return Part::Affine,
        _ => return Part::Other,
    })
}

fn binary(function: Binary, flowing: usize) -> Part {
    match (function, flowing) {
        (Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide, 1) => Part::Affine,
        (_, 1) => Part::Other,
        _ => Part::Join,
    }
}

/// The input that a node does its part with: the first that flows, in embeddings the tokens.
pub(super) fn main(node: &Node, parts: &[Part]) -> Option<NodeId> {
    let flows = |id: &NodeId| parts[id.index()] != Part::Weight;
    let inputs = match node.op {
        // The condition is a mask.
        Op::Where => &node.inputs[1..],
        _ => &node.inputs[..],
    };
    inputs.iter().copied().find(flows)
}
