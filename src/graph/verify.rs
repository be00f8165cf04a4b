// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verifier: what every pass may rely on and must leave true.

use smallvec::SmallVec;

use super::{Graph, MemoryFormat, Node, NodeId, ParamId, ParamRole};
use crate::op::{Formats, Op, TensorType};
use crate::{Error, Result};

impl Graph {
    /// Checks that nodes are in topological order, that every type is what the operation's shape
    /// rule says, and that parameters, layers and outputs exist.
    ///
    /// # Errors
    /// [`Error::Internal`] that names the pass, the node and the broken invariant.
    pub fn verify(&self, pass: &'static str) -> Result<()> {
        for (id, node) in self.nodes() {
            self.verify_node(id).map_err(|message| Error::Internal {
                pass,
                message: format!("node {id:?} ({}): {message}", node.op.name()),
            })?;
        }
        match self.outputs.iter().find(|id| id.index() >= self.nodes.len()) {
            None => Ok(()),
            Some(id) => {
                Err(Error::Internal { pass, message: format!("output {id:?} does not exist") })
            }
        }
    }

    fn verify_node(&self, id: NodeId) -> Result<(), String> {
        let node = self.node(id);
        if let Some(late) = node.inputs.iter().find(|&&input| input >= id) {
            return Err(format!("input {late:?} does not come before it"));
        }
        if node.layer.0 as usize >= self.layers.len() {
            return Err(format!("{:?} does not exist", node.layer));
        }
        let types: SmallVec<[&TensorType; 4]> =
            node.inputs.iter().map(|&i| &self.node(i).ty).collect();
        let inferred =
            node.op.infer(&types).map_err(|m| format!("expected {}, got {}", m.expected, m.got))?;
        if let Some((ty, further)) = inferred.split_first() {
            if *ty != node.ty || further != node.further {
                let list = |types: &[TensorType]| {
                    types.iter().map(TensorType::to_string).collect::<Vec<_>>().join(", ")
                };
                let own: Vec<TensorType> =
                    std::iter::once(&node.ty).chain(&node.further).cloned().collect();
                return Err(format!("types {}, rule says {}", list(&own), list(&inferred)));
            }
        }
        if let Some(input) = self.misplaced_input(node) {
            return Err(format!("input {input:?} is {:?}", self.node(input).format));
        }
        match node.op {
            Op::Result(index) => {
                let producer = node.inputs.first().map(|&id| self.node(id));
                let further = producer.zip(index.checked_sub(1));
                match further.and_then(|(producer, index)| producer.further.get(index)) {
                    Some(ty) if *ty == node.ty => Ok(()),
                    _ => Err(format!("its operation has no result {index} of type {}", node.ty)),
                }
            }
            Op::Parameter(parameter) | Op::Average(parameter) => {
                self.verify_parameter(node, parameter, None)
            }
            Op::Gradient(parameter, _) | Op::Update(parameter, _) => {
                self.verify_parameter(node, parameter, Some(ParamRole::Trained))
            }
            Op::SetState(parameter, _) => {
                self.verify_parameter(node, parameter, Some(ParamRole::State))
            }
            _ => Ok(()),
        }
    }

    /// An operand of an element-wise operation, or of one that takes row-major alone, in another
    /// format.
    fn misplaced_input(&self, node: &Node) -> Option<NodeId> {
        let types: SmallVec<[&TensorType; 4]> =
            node.inputs.iter().map(|&i| &self.node(i).ty).collect();
        let format = match node.op.formats(&types) {
            Formats::Contiguous => MemoryFormat::Contiguous,
            Formats::Elementwise => node.format,
            Formats::Images(_) | Formats::FromImages(_) | Formats::AsProducer => return None,
        };
        let is_misplaced = |id: &NodeId| {
            let input = self.node(*id);
            input.format != format && !MemoryFormat::coincides(&input.ty.shape)
        };
        node.inputs.iter().copied().find(is_misplaced)
    }

    fn verify_parameter(
        &self,
        node: &Node,
        parameter: ParamId,
        role: Option<ParamRole>,
    ) -> Result<(), String> {
        let Some(spec) = self.parameters.get(parameter.index()) else {
            return Err(format!("{parameter:?} does not exist"));
        };
        if (&spec.shape, spec.dtype) != (&node.ty.shape, node.ty.dtype) {
            return Err(format!("{} is {}{}", spec.name, spec.dtype, spec.shape));
        }
        match role {
            Some(role) if role != spec.role => Err(format!("{} is {:?}", spec.name, spec.role)),
            _ => Ok(()),
        }
    }
}
