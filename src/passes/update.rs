// SPDX-License-Identifier: MIT OR Apache-2.0
//! The update pass: clipping, loss scales, the optimiser and moving averages, at the end of a training step.

use super::{broken, Averages, Goal, StepGoal};
use crate::graph::{Builder, Graph, NodeId, ParamId};
use crate::loss_scale::LossScale;
use crate::op::{Op, Unscale};
use crate::scalars::Scalar;
use crate::{DType, Result};

/// Appends the update of every parameter that has a gradient; the gradients cease to be outputs.
pub(super) fn append(graph: Graph, goal: &Goal, results: usize) -> Result<Graph> {
    let Goal::Step(step) = goal else { return Ok(graph) };
    let Some(update) = &step.update else { return Ok(graph) };
    let mut outputs = graph.outputs[..results].to_vec();
    let stored = graph.outputs[results..].to_vec();
    let mut builder = Builder::extend(graph);
    let guards = guards(&mut builder, step, update.max_norm, &stored, &mut outputs)?;
    for gradient in stored {
        let node = builder.graph().node(gradient);
        let Op::Gradient(parameter, _) = node.op else { continue };
        let Some(own) = step.groups.update(parameter, update.rule) else { continue };
        builder.set_layer(node.layer);
        let inputs: Vec<NodeId> = std::iter::once(gradient).chain(guards.iter().copied()).collect();
        outputs.push(builder.add(Op::Update(parameter, own), &inputs).map_err(broken("update"))?);
    }
    append_averages(&mut builder, (update.averages, guards.get(1).copied()), &mut outputs)?;
    Ok(builder.finish(outputs))
}

/// What an update takes beside its gradient: what gradients are multiplied by, if they are, and
/// whether it is skipped, if it may be. What of it a run returns joins the outputs.
fn guards(
    builder: &mut Builder,
    step: &StepGoal,
    max_norm: Option<f64>,
    stored: &[NodeId],
    outputs: &mut Vec<NodeId>,
) -> Result<Vec<NodeId>> {
    let mut add = |op: Op, inputs: &[NodeId]| builder.add(op, inputs).map_err(broken("update"));
    match (step.scale, max_norm) {
        _ if stored.is_empty() => Ok(vec![]),
        (LossScale::Off, None) => Ok(vec![]),
        (LossScale::Off, Some(max_norm)) => {
            let norm = add(Op::GlobalNorm, stored)?;
            outputs.push(norm);
            Ok(vec![add(Op::ClipCoefficient(max_norm), &[norm])?])
        }
        (scale, max_norm) => {
            let mut inputs = vec![add(Op::Scalar(Scalar::LossScale), &[])?];
            inputs.extend(stored);
            let coefficient = add(Op::Unscale(Unscale { max_norm, scale }), &inputs)?;
            let mut result = |place| builder.result(coefficient, place).map_err(broken("update"));
            // A kernel writes its results in the order in which they come to the graph.
            let overflow = result(Unscale::OVERFLOW)?;
            if max_norm.is_some() {
                outputs.push(result(Unscale::NORM)?);
            }
            outputs.push(overflow);
            Ok(vec![coefficient, overflow])
        }
    }
}

/// Moves the average of every parameter towards what the step leaves of it: a parameter that nothing
/// updates may have been another when its average began.
fn append_averages(
    builder: &mut Builder,
    (averages, overflow): (Averages, Option<NodeId>),
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
        let inputs: Vec<NodeId> = std::iter::once(value).chain(overflow).collect();
        let average = builder.add(Op::Average(parameter), &inputs).map_err(broken("update"))?;
        outputs.push(average);
    }
    Ok(())
}
