// SPDX-License-Identifier: MIT OR Apache-2.0
//! The graph: a network traced into primitive operations.
//!
//! Nodes are in topological order and every node knows the layer that recorded it. A node is the value
//! that its operation yields; where an operation yields several, it is the first, and nodes of
//! [`Op::Result`] are the others. Passes turn graphs into graphs; [`verify`](Graph::verify) checks the invariants
//! after each.

mod builder;
mod dump;
mod param;
pub mod reference;
mod trace;
mod verify;

use std::fmt;
use std::sync::Arc;

pub use crate::op::{InputId, MemoryFormat, NodeId, ParamId};
pub use builder::Builder;
pub use param::Param;
pub(crate) use trace::LayerPath;
pub use trace::{trace, Traced, Var};

use crate::op::{Op, TensorType};
use crate::{DType, Shape};

/// Index of a layer in its graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(u32);

/// A parameter as the network declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// Full name, as PyTorch's `state_dict` has it: `"fc1.weight"`.
    pub name: String,
    /// Shape, as PyTorch has it.
    pub shape: Shape,
    /// Element type: `f32`, or `i64` for counters.
    pub dtype: DType,
    /// What the parameter is used for; backends choose its memory layout by this.
    pub usage: ParamUsage,
    /// What changes it.
    pub role: ParamRole,
}

impl ParamSpec {
    /// The shape of the 32-bit words in which backends hold the parameter.
    pub(crate) fn words(&self) -> Shape {
        match self.dtype {
            DType::I64 => [2 * self.shape.elements()].into(),
            _ => self.shape.clone(),
        }
    }
}

/// What changes a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParamRole {
    /// Gradients and the optimiser.
    Trained,
    /// Train-mode passes, by [`Op::SetState`]: running statistics and counters, which PyTorch calls
    /// buffers. No gradient, no moments, no weight decay.
    State,
}

/// What a parameter is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamUsage {
    /// The matrix `[out, in]` of a linear layer.
    LinearWeight,
    /// Anything else.
    Plain,
}

/// Kind of the layer under which losses are recorded.
pub(crate) const LOSS: &str = "Loss";

/// A layer that recorded nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Path from the network's root: `"fc1"`; empty for the root.
    pub path: String,
    /// Type of the layer: `"Linear"`.
    pub kind: &'static str,
}

/// One operation in the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// The nodes whose values it takes; all come earlier in the graph.
    pub inputs: Vec<NodeId>,
    /// Type of its value.
    pub ty: TensorType,
    /// Types of the operation's further results, which [`Op::Result`] nodes stand for.
    pub further: Vec<TensorType>,
    /// Order of the value's elements in memory, as the layout pass decided.
    pub format: MemoryFormat,
    /// The layer that recorded it.
    pub layer: LayerId,
}

/// A network, or a training step of it, as primitive operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<NodeId>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) parameters: Arc<Vec<ParamSpec>>,
}

impl Graph {
    /// The nodes in topological order, with their indices.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> + DoubleEndedIterator {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index as u32), node))
    }

    /// The node at an index.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The values that a run returns, in order.
    pub fn outputs(&self) -> &[NodeId] {
        &self.outputs
    }

    /// The parameters of the network.
    pub fn parameters(&self) -> &[ParamSpec] {
        &self.parameters
    }

    /// The layer that recorded a node.
    pub fn layer(&self, id: NodeId) -> &Layer {
        &self.layers[self.node(id).layer.0 as usize]
    }

    /// For each node, the nodes that take its value, in order.
    pub fn users(&self) -> Vec<Vec<NodeId>> {
        let mut users = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes() {
            for input in &node.inputs {
                users[input.index()].push(id);
            }
        }
        users
    }

    /// For each node, the nodes of its further results, each with the result's number.
    pub fn results(&self) -> Vec<Vec<(usize, NodeId)>> {
        let mut results = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes() {
            if let Op::Result(index) = node.op {
                results[node.inputs[0].index()].push((index, id));
            }
        }
        results
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer{}", self.0)
    }
}

impl Node {
    /// The value in memory as a matrix: all other extents by the innermost one.
    pub fn matrix(&self) -> [usize; 2] {
        let shape = &self.ty.shape;
        let columns = match (self.format, shape.dims()) {
            (MemoryFormat::ChannelsLast, [_, channels, ..]) => *channels,
            _ => shape.last(),
        };
        [shape.elements().checked_div(columns).unwrap_or(0), columns]
    }
}
