// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient pass: reverse-mode differentiation, as further graph.

use super::{broken, Goal, Seed, Span};
use crate::graph::{Builder, Graph, NodeId, ParamId, ParamRole};
use crate::loss_scale::LossScale;
use crate::op::{Binary, Groups, InputId, Op, Store};
use crate::scalars::Scalar;
use crate::{DType, Error, Result};

/// Appends the backward pass that the goal asks for, and says of which inputs the graph returns the
/// gradients behind its results. Parameters' gradients end in [`Op::Gradient`] nodes, which become
/// outputs behind those.
pub(super) fn append(graph: Graph, goal: &Goal, span: Span) -> Result<(Graph, Vec<InputId>)> {
    let (seed, store, wanted, scale) = match goal {
        Goal::Forward | Goal::Layers => return Ok((graph, vec![])),
        Goal::Gradients(seed) => {
            (*seed, Store::Overwrite, Wanted::InputsAndParameters, LossScale::Off)
        }
        Goal::Step(step) => (Seed::One, step.store, Wanted::Trained(&step.groups), step.scale),
    };
    let mut outputs = graph.outputs.clone();
    let mut builder = Builder::extend(graph);
    let starts = match seed {
        Seed::Input => given(builder.graph(), &outputs[..span.seeds.min(outputs.len())])?,
        Seed::One => {
            let loss = outputs.first().copied().ok_or_else(|| missing("a loss"))?;
            check_scalar(builder.graph(), loss)?;
            let mut one =
                builder.add(Op::Scalar(Scalar::Share), &[]).map_err(broken("gradient"))?;
            if scale != LossScale::Off {
                let scale = Op::Scalar(Scalar::LossScale);
                let scale = builder.add(scale, &[]).map_err(broken("gradient"))?;
                let product = Op::Binary(Binary::Multiply);
                one = builder.add(product, &[one, scale]).map_err(broken("gradient"))?;
            }
            vec![(loss, one)]
        }
    };
    let gradients = backpropagate(&mut builder, &starts, wanted)?;
    let mut inputs = Vec::new();
    if matches!(goal, Goal::Gradients(_)) {
        for (node, input) in all_inputs(builder.graph()).into_iter().take(span.inputs) {
            if let Some(gradient) = gradients[node.index()] {
                outputs.push(gradient);
                inputs.push(input);
            }
        }
    }
    for (node, parameter) in parameters(builder.graph(), wanted) {
        if let Some(gradient) = gradients[node.index()] {
            let store = Op::Gradient(parameter, store);
            builder.set_layer(builder.graph().node(node).layer);
            outputs.push(builder.add(store, &[gradient]).map_err(broken("gradient"))?);
        }
    }
    Ok((builder.finish(outputs), inputs))
}

/// What gradients are asked for.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// Those of inputs and of all parameters.
    InputsAndParameters,
    /// Those of parameters that are not frozen.
    Trained(&'a Groups),
}

impl Wanted<'_> {
    fn has_input(self) -> bool {
        matches!(self, Wanted::InputsAndParameters)
    }

    fn has(self, graph: &Graph, parameter: ParamId) -> bool {
        let is_frozen = match self {
            Wanted::InputsAndParameters => false,
            Wanted::Trained(groups) => groups.is_frozen(parameter),
        };
        graph.parameters()[parameter.index()].role == ParamRole::Trained && !is_frozen
    }
}

/// The results with the gradients that are given for them, the last inputs. Integers have none,
/// whatever is given.
fn given(graph: &Graph, results: &[NodeId]) -> Result<Vec<(NodeId, NodeId)>> {
    let inputs = all_inputs(graph);
    let first = inputs.len().checked_sub(results.len());
    let first = first.ok_or_else(|| missing("a gradient for each result"))?;
    let mut starts = Vec::with_capacity(results.len());
    for (&result, &(cotangent, _)) in results.iter().zip(&inputs[first..]) {
        if graph.node(result).ty.dtype == DType::F32 {
            check_cotangent(graph, result, cotangent)?;
            starts.push((result, cotangent));
        }
    }
    Ok(starts)
}

/// The gradient with respect to every node that leads to one that is wanted, where there is one, of
/// values for which gradients are given.
fn backpropagate(
    builder: &mut Builder,
    starts: &[(NodeId, NodeId)],
    wanted: Wanted<'_>,
) -> Result<Vec<Option<NodeId>>> {
    let needed = needs_gradient(builder.graph(), wanted);
    let results = builder.graph().results();
    let mut gradients: Vec<Option<NodeId>> = vec![None; builder.graph().nodes.len()];
    for &(target, start) in starts {
        gradients[target.index()] = sum(builder, gradients[target.index()], Some(start))?;
    }
    let end = starts.iter().map(|(target, _)| target.index() + 1).max().unwrap_or(0);
    for index in (0..end).rev() {
        let id = NodeId::at(index);
        let node = builder.graph().node(id).clone();
        // A further result waits for the operation that yields it.
        if !needed[index] || node.inputs.is_empty() || matches!(node.op, Op::Result(_)) {
            continue;
        }
        builder.set_layer(node.layer);
        let mut dys = vec![None; 1 + node.further.len()];
        dys[0] = gradients[index];
        for &(place, result) in &results[index] {
            dys[place] = sum(builder, dys[place], gradients[result.index()])?;
        }
        if dys.iter().all(Option::is_none) {
            continue;
        }
        let parts = node.op.gradient(builder, id, &dys).map_err(broken("gradient"))?;
        for (input, part) in node.inputs.iter().zip(parts) {
            let part = part.filter(|_| needed[input.index()]);
            gradients[input.index()] = sum(builder, gradients[input.index()], part)?;
        }
    }
    Ok(gradients)
}

/// The sum of two gradients of one value, where there are two.
fn sum(builder: &mut Builder, a: Option<NodeId>, b: Option<NodeId>) -> Result<Option<NodeId>> {
    match (a, b) {
        (Some(a), Some(b)) => {
            builder.add(Op::Binary(Binary::Add), &[a, b]).map(Some).map_err(broken("gradient"))
        }
        (one, None) | (None, one) => Ok(one),
    }
}

/// Which nodes depend on a parameter, or on a floating-point input, whose gradient is wanted.
fn needs_gradient(graph: &Graph, wanted: Wanted<'_>) -> Vec<bool> {
    let mut needed = Vec::with_capacity(graph.nodes.len());
    for (_, node) in graph.nodes() {
        let leaf = match node.op {
            Op::Parameter(id) => wanted.has(graph, id),
            Op::Input(_) => wanted.has_input() && node.ty.dtype == DType::F32,
            _ => false,
        };
        needed.push(leaf || node.inputs.iter().any(|id: &NodeId| needed[id.index()]));
    }
    needed
}

fn parameters(graph: &Graph, wanted: Wanted<'_>) -> Vec<(NodeId, ParamId)> {
    let parameter = |(id, node): (NodeId, &crate::graph::Node)| match node.op {
        Op::Parameter(parameter) => wanted.has(graph, parameter).then_some((id, parameter)),
        _ => None,
    };
    let mut found: Vec<_> = graph.nodes().filter_map(parameter).collect();
    found.sort_by_key(|(_, parameter)| *parameter);
    found
}

/// The inputs in their order.
fn all_inputs(graph: &Graph) -> Vec<(NodeId, InputId)> {
    let input = |(id, node): (NodeId, &crate::graph::Node)| match node.op {
        Op::Input(input) => Some((id, input)),
        _ => None,
    };
    let mut found: Vec<_> = graph.nodes().filter_map(input).collect();
    found.sort_by_key(|(_, input)| *input);
    found
}

fn missing(what: &str) -> Error {
    let message = format!("the traced function lacks {what}");
    Error::Internal { pass: "gradient", message }
}

fn check_cotangent(graph: &Graph, result: NodeId, cotangent: NodeId) -> Result<()> {
    let (expected, got) = (&graph.node(result).ty, &graph.node(cotangent).ty);
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape {
        layer: String::new(),
        op: "gradients".into(),
        expected: format!("a gradient of the result's type {expected}"),
        got: got.to_string(),
    })
}

fn check_scalar(graph: &Graph, loss: NodeId) -> Result<()> {
    let ty = &graph.node(loss).ty;
    if ty.shape.elements() == 1 && ty.shape.rank() == 0 {
        return Ok(());
    }
    Err(Error::Shape {
        layer: graph.layer(loss).path.clone(),
        op: "loss".into(),
        expected: "one number (a reduction of Mean or Sum)".into(),
        got: ty.to_string(),
    })
}
