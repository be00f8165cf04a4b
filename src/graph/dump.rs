// SPDX-License-Identifier: MIT OR Apache-2.0
//! Graphs for human eyes: one line per node, or a drawing for Graphviz.

use std::fmt::{self, Write};

use super::{Graph, MemoryFormat, NodeId};
use crate::op::Op;

impl fmt::Display for Graph {
    /// One line per node: `%4 = matmul(%0, %2) : f32[64, 512]  # fc1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, node) in self.nodes() {
            let inputs: Vec<String> = node.inputs.iter().map(|i| format!("{i:?}")).collect();
            let label = self.label(id);
            write!(f, "{id:?} = {label}({}) : {}", inputs.join(", "), node.ty)?;
            node.further.iter().try_for_each(|ty| write!(f, ", {ty}"))?;
            if node.format == MemoryFormat::ChannelsLast {
                write!(f, " channels_last")?;
            }
            match self.layer(id).path.as_str() {
                "" => writeln!(f)?,
                path => writeln!(f, "  # {path}")?,
            }
        }
        writeln!(f, "return {:?}", self.outputs)
    }
}

impl Graph {
    /// The graph in Graphviz's DOT language; layers become clusters.
    pub fn to_dot(&self) -> String {
        let mut dot = String::from("digraph kiln {\n  node [shape=box, fontname=monospace];\n");
        for (index, layer) in self.layers.iter().enumerate() {
            let members: Vec<NodeId> = self
                .nodes()
                .filter(|(_, node)| node.layer.0 as usize == index)
                .map(|(id, _)| id)
                .collect();
            if members.is_empty() {
                continue;
            }
            let title = if layer.path.is_empty() { layer.kind } else { &layer.path };
            let _ = writeln!(dot, "  subgraph cluster_{index} {{ label=\"{title}\";");
            for id in members {
                let (label, ty) = (self.label(id), &self.node(id).ty);
                let _ = writeln!(dot, "    n{} [label=\"{label}\\n{ty}\"];", id.index());
            }
            dot.push_str("  }\n");
        }
        for (id, node) in self.nodes() {
            for input in &node.inputs {
                let _ = writeln!(dot, "  n{} -> n{};", input.index(), id.index());
            }
        }
        dot.push_str("}\n");
        dot
    }

    /// The operation with what a reader needs to know of it.
    fn label(&self, id: NodeId) -> String {
        let op = &self.node(id).op;
        match op {
            Op::Parameter(parameter)
            | Op::Gradient(parameter, _)
            | Op::Update(parameter, _)
            | Op::Average(parameter)
            | Op::SetState(parameter, _) => {
                format!("{}[{}]", op.name(), self.parameters[parameter.index()].name)
            }
            Op::Input(input) => format!("input[{}]", input.index()),
            Op::Constant(value) => format!("constant[{value}]"),
            Op::Dropout(dropout) => dropout.to_string(),
            Op::Result(index) => format!("result[{index}]"),
            Op::MaskNonZero(scale) => format!("mask_nonzero[{scale}]"),
            Op::MatMul(product) => format!("matmul[{:?}, {:?}]", product.left, product.right),
            _ => op.name().to_string(),
        }
    }
}
