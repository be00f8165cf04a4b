// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building graphs: appending nodes with their shape rule checked at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Graph, InputId, Layer, LayerId, MemoryFormat, Node, NodeId, ParamId, ParamSpec};
use crate::op::{Mismatch, Op, Record, TensorType};
use crate::Shape;

/// A graph in the making.
#[derive(Clone, Debug)]
pub struct Builder {
    graph: Graph,
    layer: LayerId,
    /// The node of each parameter that has one.
    parameters: Vec<Option<NodeId>>,
    /// Layers by path, as far as they were asked for: the first `indexed` ones.
    layers: BTreeMap<String, Vec<LayerId>>,
    indexed: usize,
}

impl Builder {
    /// An empty graph over a network's parameters.
    pub fn new(parameters: Arc<Vec<ParamSpec>>) -> Self {
        let root = Layer { path: String::new(), kind: "Network" };
        Builder::extend(Graph { nodes: vec![], outputs: vec![], layers: vec![root], parameters })
    }

    /// Goes on with an existing graph.
    pub fn extend(graph: Graph) -> Self {
        let mut parameters = vec![None; graph.parameters.len()];
        graph.nodes().for_each(|(id, node)| note_parameter(&mut parameters, &node.op, id));
        Builder { graph, layer: LayerId(0), parameters, layers: BTreeMap::new(), indexed: 0 }
    }

    /// A graph with the layers and parameters of another and no nodes yet; for passes that rebuild.
    pub fn rebuild(graph: &Graph) -> Self {
        let (layers, parameters) = (graph.layers.clone(), graph.parameters.clone());
        Builder::extend(Graph { nodes: vec![], outputs: vec![], layers, parameters })
    }

    /// Appends an operation on existing nodes.
    ///
    /// # Errors
    /// The [`Mismatch`] of the operation's shape rule, or of a result with more elements than
    /// tensors have.
    pub fn add(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId, Mismatch> {
        let types: SmallVec<[&TensorType; 4]> =
            inputs.iter().map(|&id| &self.graph.node(id).ty).collect();
        let results = op.infer(&types)?;
        drop(types);
        if let Some(ty) = results.iter().find(|ty| !ty.shape.is_allowed()) {
            ty.shape.clone().allowed()?;
        }
        let mut results = results.into_iter();
        let Some(ty) = results.next() else {
            return Err(Mismatch::new("an operation with inputs", op.name()));
        };
        Ok(self.push(op, inputs, ty, results.collect()))
    }

    /// The node of a result of an operation that yields several, counted from 0: the node itself for
    /// the first, else one appended at its first use.
    ///
    /// # Errors
    /// A [`Mismatch`] if the operation has fewer results.
    pub fn result(&mut self, node: NodeId, index: usize) -> Result<NodeId, Mismatch> {
        let Some(further) = index.checked_sub(1) else { return Ok(node) };
        let producer = self.graph.node(node);
        let Some(ty) = producer.further.get(further).cloned() else {
            let (count, name) = (1 + producer.further.len(), producer.op.name());
            return Err(Mismatch::new(format!("one of {count} results of {name}"), index));
        };
        Ok(self.push(Op::Result(index), &[node], ty, vec![]))
    }

    /// Appends an input of a given type.
    pub fn input(&mut self, id: InputId, ty: TensorType) -> NodeId {
        self.push(Op::Input(id), &[], ty, vec![])
    }

    /// The node of a parameter's value: one per parameter, appended at its first use.
    pub fn parameter(&mut self, id: ParamId) -> NodeId {
        match self.parameters[id.index()] {
            Some(node) => node,
            None => {
                let spec = &self.graph.parameters[id.index()];
                let ty = TensorType { shape: spec.shape.clone(), dtype: spec.dtype };
                self.push(Op::Parameter(id), &[], ty, vec![])
            }
        }
    }

    /// Appends a node as it stands in another graph, with inputs of this one.
    ///
    /// # Errors
    /// The [`Mismatch`] of the operation's shape rule for the new inputs.
    pub fn copy(&mut self, node: &Node, inputs: &[NodeId]) -> Result<NodeId, Mismatch> {
        self.layer = node.layer;
        match node.op {
            Op::Input(_) | Op::Parameter(_) => {
                Ok(self.push(node.op.clone(), &[], node.ty.clone(), vec![]))
            }
            Op::Result(index) => self.result(inputs[0], index),
            _ => self.add(node.op.clone(), inputs),
        }
    }

    /// Inputs of a node.
    pub fn inputs(&self, id: NodeId) -> &[NodeId] {
        &self.graph.node(id).inputs
    }

    /// Shape of a node's value.
    pub fn shape(&self, id: NodeId) -> &Shape {
        &self.graph.node(id).ty.shape
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Sets the order of a value's elements in memory.
    pub(crate) fn set_format(&mut self, id: NodeId, format: MemoryFormat) {
        self.graph.nodes[id.index()].format = format;
    }

    /// Sets the layer that the nodes appended from now on belong to.
    pub(crate) fn set_layer(&mut self, layer: LayerId) {
        self.layer = layer;
    }

    /// The layer with this path and kind, made known at its first use.
    pub(crate) fn layer(&mut self, path: &str, kind: &'static str) -> LayerId {
        self.index_layers();
        let layers = &mut self.graph.layers;
        let of_path = self.layers.get(path).map_or(&[][..], Vec::as_slice);
        let known = of_path.iter().find(|id| layers[id.0 as usize].kind == kind);
        if let Some(id) = known {
            return *id;
        }
        layers.push(Layer { path: path.into(), kind });
        LayerId(layers.len() as u32 - 1)
    }

    /// Ends building; `outputs` are the values that a run returns.
    pub fn finish(mut self, outputs: Vec<NodeId>) -> Graph {
        self.graph.outputs = outputs;
        self.graph
    }

    fn index_layers(&mut self) {
        for (index, layer) in self.graph.layers.iter().enumerate().skip(self.indexed) {
            self.layers.entry(layer.path.clone()).or_default().push(LayerId(index as u32));
        }
        self.indexed = self.graph.layers.len();
    }

    fn push(
        &mut self,
        op: Op,
        inputs: &[NodeId],
        ty: TensorType,
        further: Vec<TensorType>,
    ) -> NodeId {
        let id = NodeId::at(self.graph.nodes.len());
        note_parameter(&mut self.parameters, &op, id);
        let format = MemoryFormat::Contiguous;
        let node = Node { op, inputs: inputs.to_vec(), ty, further, format, layer: self.layer };
        self.graph.nodes.push(node);
        id
    }
}

impl Record for Builder {
    fn add(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId, Mismatch> {
        Builder::add(self, op, inputs)
    }

    fn result(&mut self, node: NodeId, index: usize) -> Result<NodeId, Mismatch> {
        Builder::result(self, node, index)
    }

    fn inputs(&self, id: NodeId) -> &[NodeId] {
        Builder::inputs(self, id)
    }

    fn shape(&self, id: NodeId) -> &Shape {
        Builder::shape(self, id)
    }
}

/// Remembers the first node of each parameter; that all parameters exist is for the verifier to say.
fn note_parameter(parameters: &mut [Option<NodeId>], op: &Op, node: NodeId) {
    if let Op::Parameter(parameter) = op {
        if let Some(known) = parameters.get_mut(parameter.index()) {
            known.get_or_insert(node);
        }
    }
}
