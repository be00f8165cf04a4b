// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interpreter of plain meanings: slow, in `f64`, and what every kernel is judged by.

use std::collections::BTreeMap;

use super::{Graph, NodeId, ParamId};
use crate::op::{moved, Array, Op, Store};
use crate::scalars::Scalars;

/// The parameters' state as the interpreter sees it, row-major.
pub trait State {
    /// A parameter's value.
    fn value(&self, parameter: ParamId) -> Array;
    /// A parameter's stored gradient.
    fn gradient(&self, parameter: ParamId) -> Array;
    /// A parameter's moments.
    fn moments(&self, parameter: ParamId) -> Vec<Array>;
    /// Number of the update under way, counted from 1.
    fn update(&self) -> u32;
    /// What the loss is multiplied by.
    fn loss_scale(&self) -> f32;
    /// A parameter's moving average.
    fn average(&self, parameter: ParamId) -> Array;
    /// Stores a gradient.
    fn set_gradient(&mut self, parameter: ParamId, gradient: &Array);
    /// Stores state that is not trained.
    fn set_state(&mut self, parameter: ParamId, value: &Array);
    /// Stores an updated value and its moments.
    fn set_value(&mut self, parameter: ParamId, value: &Array, moments: &[Array]);
    /// Stores a moving average.
    fn set_average(&mut self, parameter: ParamId, average: &Array);
}

/// Computes nodes in order. `values` holds what was computed before and receives the results. An
/// operation with several results stands among `nodes` with those of its [`Op::Result`] nodes that
/// are wanted.
pub fn interpret(
    graph: &Graph,
    nodes: &[NodeId],
    scalars: &Scalars,
    state: &mut dyn State,
    values: &mut BTreeMap<NodeId, Array>,
) {
    let mut further: BTreeMap<(NodeId, usize), Array> = BTreeMap::new();
    for &id in nodes {
        let node = graph.node(id);
        if let Op::Result(index) = node.op {
            let result = further.get(&(node.inputs[0], index)).cloned();
            values.extend(result.map(|result| (id, result)));
            continue;
        }
        let results = compute(graph, id, scalars, state, values);
        for (index, result) in results.into_iter().enumerate() {
            match index {
                0 => values.insert(id, result),
                _ => further.insert((id, index), result),
            };
        }
    }
}

/// Runs a whole graph on the given inputs and returns its outputs.
pub fn evaluate(
    graph: &Graph,
    inputs: &[Array],
    scalars: &Scalars,
    state: &mut dyn State,
) -> Vec<Array> {
    let mut values = BTreeMap::new();
    let mut computed = Vec::with_capacity(graph.nodes().len());
    for (id, node) in graph.nodes() {
        match node.op {
            Op::Input(input) => {
                values.insert(id, inputs[input.index()].clone());
            }
            _ => computed.push(id),
        }
    }
    interpret(graph, &computed, scalars, state, &mut values);
    graph.outputs().iter().map(|id| values[id].clone()).collect()
}

/// The results of one node. Values that no step holds (constants, scalars, parameters, reshapes) are
/// computed on the way.
fn compute(
    graph: &Graph,
    id: NodeId,
    scalars: &Scalars,
    state: &mut dyn State,
    values: &BTreeMap<NodeId, Array>,
) -> Vec<Array> {
    let node = graph.node(id);
    let mut inputs: Vec<Array> = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        match values.get(input) {
            Some(value) => inputs.push(value.clone()),
            None => {
                inputs.extend(compute(graph, *input, scalars, state, values).into_iter().take(1))
            }
        }
    }
    // The last input of an update that may be skipped.
    let is_skipped = |place: usize| inputs.get(place).is_some_and(|number| number.data[0] != 0.0);
    let result = match &node.op {
        Op::Scalar(scalar) => Array::scalar(scalars.get(*scalar, state.loss_scale())),
        Op::Parameter(parameter) => state.value(*parameter),
        Op::Gradient(parameter, store) => {
            let gradient = match store {
                Store::Overwrite => inputs[0].clone(),
                Store::Accumulate => state.gradient(*parameter).zip(&inputs[0], |a, b| a + b),
            };
            state.set_gradient(*parameter, &gradient);
            gradient
        }
        Op::Update(parameter, _) if is_skipped(2) => state.value(*parameter),
        Op::Average(parameter) if is_skipped(1) => state.average(*parameter),
        Op::Update(parameter, update) => {
            let factor = inputs.get(1).map_or(1.0, |coefficient| coefficient.data[0]);
            let mut value = state.value(*parameter);
            let mut moments = state.moments(*parameter);
            let number = state.update();
            for (index, element) in value.data.iter_mut().enumerate() {
                let mut local: Vec<f64> = moments.iter().map(|m| m.data[index]).collect();
                let gradient = factor * inputs[0].data[index];
                *element = update.apply(*element, gradient, &mut local, (scalars, number));
                for (moment, new) in moments.iter_mut().zip(local) {
                    moment.data[index] = new;
                }
            }
            state.set_value(*parameter, &value, &moments);
            value
        }
        Op::Average(parameter) => {
            let weight = f64::from(scalars.average);
            let average = state.average(*parameter);
            let average = average.zip(&inputs[0], |average, value| moved(average, value, weight));
            state.set_average(*parameter, &average);
            average
        }
        Op::SetState(parameter, rule) => {
            let value = rule.apply(&state.value(*parameter), &inputs);
            state.set_state(*parameter, &value);
            value
        }
        op => return op.eval(&inputs.iter().collect::<Vec<_>>(), scalars),
    };
    vec![result]
}
