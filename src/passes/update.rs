// SPDX-License-Identifier: MIT OR Apache-2.0
//! The update pass: clipping and the optimiser, at the end of a training step.

use super::{broken, Goal};
use crate::graph::{Builder, Graph, NodeId};
use crate::op::Op;
use crate::Result;

/// Appends the update of every parameter that has a gradient; the gradients cease to be outputs.
pub(super) fn append(graph: Graph, goal: &Goal, results: usize) -> Result<Graph> {
    let Goal::Step(step) = goal else { return Ok(graph) };
    let Some(update) = &step.update else { return Ok(graph) };
    let mut outputs = graph.outputs[..results].to_vec();
    let stored = graph.outputs[results..].to_vec();
    let mut builder = Builder::extend(graph);
    let coefficient = match update.max_norm.filter(|_| !stored.is_empty()) {
        None => None,
        Some(max_norm) => {
            let norm = builder.add(Op::GlobalNorm, &stored).map_err(broken("update"))?;
            outputs.push(norm);
            let clip = Op::ClipCoefficient(max_norm);
            Some(builder.add(clip, &[norm]).map_err(broken("update"))?)
        }
    };
    for gradient in stored {
        let node = builder.graph().node(gradient);
        let Op::Gradient(parameter, _) = node.op else { continue };
        builder.set_layer(node.layer);
        let inputs: Vec<NodeId> = std::iter::once(gradient).chain(coefficient).collect();
        let update = Op::Update(parameter, update.rule);
        outputs.push(builder.add(update, &inputs).map_err(broken("update"))?);
    }
    Ok(builder.finish(outputs))
}
