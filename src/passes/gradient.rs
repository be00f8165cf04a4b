// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient pass: reverse-mode differentiation, as further graph.

use super::{broken, Goal, Seed};
use crate::graph::{Builder, Graph, NodeId, ParamId, ParamRole};
use crate::op::{Binary, Groups, Op, Store};
use crate::scalars::Scalar;
use crate::{DType, Error, Result};

/// Appends the backward pass that the goal asks for. Parameters' gradients end in
/// [`Op::Gradient`] nodes, which become outputs behind the results.
pub(super) fn append(graph: Graph, goal: &Goal) -> Result<Graph> {
    let (seed, store, wanted) = match goal {
        Goal::Forward | Goal::Layers => return Ok(graph),
        Goal::Gradients(seed) => (*seed, Store::Overwrite, Wanted::InputsAndParameters),
        Goal::Step(step) => (Seed::One, step.store, Wanted::Trained(&step.groups)),
    };
    let mut outputs = graph.outputs.clone();
    let target = outputs[0];
    let mut builder = Builder::extend(graph);
    let start = match seed {
        Seed::Input => {
            let cotangent = last_input(builder.graph())?;
            check_cotangent(builder.graph(), target, cotangent)?;
            cotangent
        }
        Seed::One => {
            check_scalar(builder.graph(), target)?;
            builder.add(Op::Scalar(Scalar::Share), &[]).map_err(broken("gradient"))?
        }
    };
    let gradients = backpropagate(&mut builder, target, start, wanted)?;
    if matches!(goal, Goal::Gradients(_)) {
        let first_input = builder.graph().nodes().find_map(|(id, node)| match node.op {
            Op::Input(input) if input.index() == 0 => Some(id),
            _ => None,
        });
        if let Some(gradient) = first_input.and_then(|id| gradients[id.index()]) {
            outputs.push(gradient);
        }
    }
    for (node, parameter) in parameters(builder.graph(), wanted) {
        if let Some(gradient) = gradients[node.index()] {
            let store = Op::Gradient(parameter, store);
            builder.set_layer(builder.graph().node(node).layer);
            outputs.push(builder.add(store, &[gradient]).map_err(broken("gradient"))?);
        }
    }
    Ok(builder.finish(outputs))
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

/// The gradient of `target` with respect to every earlier node that leads to one that is wanted, where
/// there is one.
fn backpropagate(
    builder: &mut Builder,
    target: NodeId,
    start: NodeId,
    wanted: Wanted<'_>,
) -> Result<Vec<Option<NodeId>>> {
    let needed = needs_gradient(builder.graph(), wanted);
    let results = builder.graph().results();
    let mut gradients: Vec<Option<NodeId>> = vec![None; builder.graph().nodes.len()];
    gradients[target.index()] = Some(start);
    for index in (0..=target.index()).rev() {
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

fn last_input(graph: &Graph) -> Result<NodeId> {
    let inputs = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Input(_)));
    let last = inputs.max_by_key(|(_, node)| match node.op {
        Op::Input(input) => input.index(),
        _ => 0,
    });
    last.map(|(id, _)| id).ok_or_else(|| Error::Internal {
        pass: "gradient",
        message: "the traced function has no inputs".into(),
    })
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
