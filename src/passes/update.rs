// SPDX-License-Identifier: MIT OR Apache-2.0
//! The update pass: clipping, the optimiser and moving averages, at the end of a training step.

use super::{broken, Averages, Goal};
use crate::graph::{Builder, Graph, NodeId, ParamId};
use crate::op::Op;
use crate::{DType, Result};

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
        let Some(own) = step.groups.update(parameter, update.rule) else { continue };
        builder.set_layer(node.layer);
        let inputs: Vec<NodeId> = std::iter::once(gradient).chain(coefficient).collect();
        outputs.push(builder.add(Op::Update(parameter, own), &inputs).map_err(broken("update"))?);
    }
    append_averages(&mut builder, update.averages, &mut outputs)?;
    Ok(builder.finish(outputs))
}

/// Moves the average of every parameter towards what the step leaves of it: a parameter that nothing
/// updates may have been another when its average began.
fn append_averages(
    builder: &mut Builder,
    averages: Averages,
    outputs: &mut Vec<NodeId>,
) -> Result<()> {
    let roles = averages.roles();
    if roles.is_empty() {
        return Ok(());
    }
    let specs = builder.graph().parameters.clone();
    let mut latest: Vec<Option<NodeId>> = vec![None; specs.len()];
    for (id, node) in builder.graph().nodes() {
        if let Op::Update(parameter, _) | Op::SetState(parameter, _) = node.op {
            latest[parameter.index()] = Some(id);
        }
    }
    for (index, spec) in specs.iter().enumerate() {
        if !roles.contains(&spec.role) || spec.dtype != DType::F32 {
            continue;
        }
        let parameter = ParamId::at(index);
        let root = builder.layer("", "Network");
        builder.set_layer(root);
        let value = latest[index].unwrap_or_else(|| builder.parameter(parameter));
        builder.set_layer(builder.graph().node(value).layer);
        let average = builder.add(Op::Average(parameter), &[value]).map_err(broken("update"))?;
        outputs.push(average);
    }
    Ok(())
}
