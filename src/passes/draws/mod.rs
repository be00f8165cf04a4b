// SPDX-License-Identifier: MIT OR Apache-2.0
//! The draws pass: several draws of each sample in one run of Monte Carlo mode.
//!
//! What no dropout comes before is the same in all draws, so it is computed once. Where a random
//! operation takes such a value, each sample in it is repeated, its draws one behind the other: draw `j` of
//! sample `s` is row `s * count + j`. So a row keeps its number, and with it its masks, whatever samples
//! come behind it.

mod along;
mod apart;

use std::collections::BTreeMap;

use super::{simplify, Goal};
use crate::graph::{Builder, Graph, Node, NodeId};
use crate::op::{Binary, Dropout, Mismatch, Op, Unary};
use crate::{Error, Result, Shape};
use along::{lies, rule, Along, Lie};
use apart::Apart;

/// What a pass in Monte Carlo mode draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    /// Number of draws of each sample.
    pub count: usize,
    /// What draws its own masks.
    pub masks: Masks,
    /// Which dropouts drop.
    pub dropouts: Dropouts,
}

/// What has masks of its own in a pass in Monte Carlo mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masks {
    /// Each draw of each sample.
    #[default]
    PerSample,
    /// Each draw, for all samples alike: a draw is one network.
    Consistent,
}

/// Which dropouts drop in a pass in Monte Carlo mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dropouts {
    /// All of them.
    #[default]
    All,
    /// The last one that drops anything; the others do nothing, as in eval mode.
    Last,
}

impl Draws {
    /// A pass like one in train mode, of samples as they are.
    pub const ONE: Draws = Draws::new(1);

    /// So many draws of each sample, by all dropouts, each with its own masks.
    pub const fn new(count: usize) -> Self {
        Draws { count, masks: Masks::PerSample, dropouts: Dropouts::All }
    }
}

/// Lets the outputs of a graph in Monte Carlo mode be `[draws, ...]` of what they are; those of all layers
/// hold their samples as often as they are computed.
///
/// # Errors
/// [`Error::Argument`] if nothing is random, or gradients are asked for; [`Error::Shape`] with the layer
/// if something random does not keep each sample to itself.
pub(super) fn repeat(graph: Graph, draws: Draws, goal: &Goal) -> Result<Graph> {
    if draws == Draws::ONE {
        return Ok(graph);
    }
    if !matches!(goal, Goal::Forward | Goal::Layers) {
        return Err(Error::argument("goal", "outputs in Monte Carlo mode", "gradients"));
    }
    let graph = simplify::without_dead_nodes(graph)?;
    let is_random = random(&graph);
    if !graph.outputs.iter().any(|output| is_random[output.index()]) {
        let expected = "a network with dropout, so that draws differ";
        return Err(Error::argument("monte_carlo", expected, "none that drops anything"));
    }
    let inputs = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Input(_)));
    let samples = inputs.map(|(_, node)| node.ty.shape.samples()).min().unwrap_or(0);
    let lies = lies(&graph, samples.max(1));
    let builder = Builder::rebuild(&graph);
    let repetition = Repetition {
        graph: &graph,
        draws,
        samples,
        is_random,
        lies,
        builder,
        placed: Vec::with_capacity(graph.nodes().len()),
        repeated: BTreeMap::new(),
        apart: Apart::default(),
    };
    repetition.finish(goal)
}

/// For each node whether its value is random.
fn random(graph: &Graph) -> Vec<bool> {
    let mut is_random: Vec<bool> = Vec::with_capacity(graph.nodes().len());
    for (_, node) in graph.nodes() {
        let of_inputs = node.inputs.iter().any(|input| is_random[input.index()]);
        is_random.push(node.op.is_random() || of_inputs);
    }
    is_random
}

struct Repetition<'g> {
    graph: &'g Graph,
    draws: Draws,
    samples: usize,
    is_random: Vec<bool>,
    lies: Vec<Lie>,
    builder: Builder,
    /// The new node of each: a random one with a row for each draw of a sample, others as they were.
    placed: Vec<NodeId>,
    /// Values that are not random with rows for each draw, by where samples lie in them.
    repeated: BTreeMap<(NodeId, Along), NodeId>,
    /// What is computed for each draw by itself.
    apart: Apart,
}

impl Repetition<'_> {
    fn finish(mut self, goal: &Goal) -> Result<Graph> {
        let graph = self.graph;
        for (id, node) in graph.nodes() {
            // Without samples there is nothing to repeat.
            let new = match self.is_random[id.index()] && self.samples > 0 {
                true => self.draw(id, node)?,
                false => {
                    let inputs = node.inputs.iter().map(|input| self.placed[input.index()]);
                    let inputs: Vec<NodeId> = inputs.collect();
                    self.builder.copy(node, &inputs).map_err(refused(graph, id))?
                }
            };
            self.placed.push(new);
        }
        let mut outputs = Vec::with_capacity(graph.outputs.len());
        for &output in &graph.outputs {
            outputs.push(match goal {
                Goal::Forward => self.by_draw(output).map_err(refused(graph, output))?,
                _ => self.placed[output.index()],
            });
        }
        Ok(self.builder.finish(outputs))
    }

    /// A random operation on all draws.
    fn draw(&mut self, id: NodeId, node: &Node) -> Result<NodeId> {
        let graph = self.graph;
        if let Some(new) = self.draw_apart(id, node)? {
            return Ok(new);
        }
        let rule = rule(graph, node, &self.lies, self.samples).ok_or_else(|| self.mixture(id))?;
        self.builder.set_layer(node.layer);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (&input, along) in node.inputs.iter().zip(&rule.inputs) {
            inputs.push(match along {
                Some(along) if !self.is_random[input.index()] => {
                    self.repeated(input, *along).map_err(refused(graph, id))?
                }
                _ => self.placed[input.index()],
            });
        }
        let drawn = match (&node.op, self.draws.masks) {
            (Op::Dropout(dropout), Masks::Consistent) => {
                self.dropped_alike(*dropout, inputs[0], &node.ty.shape)
            }
            (op, _) => {
                let count = self.draws.count;
                let op = match op {
                    Op::Reshape(shape) => Op::Reshape(rule.output.repeated(shape, count)),
                    Op::Broadcast(shape) => Op::Broadcast(rule.output.repeated(shape, count)),
                    Op::SumTo(shape) => Op::SumTo(rule.output.repeated(shape, count)),
                    Op::ConvInputGrad(conv, image) => {
                        Op::ConvInputGrad(*conv, rule.output.repeated(image, count))
                    }
                    op => op.clone(),
                };
                self.builder.copy(&Node { op, ..node.clone() }, &inputs)
            }
        };
        drawn.map_err(refused(graph, id))
    }

    /// A value that is not random, with each of its samples as often as it is drawn.
    fn repeated(&mut self, id: NodeId, along: Along) -> Result<NodeId, Mismatch> {
        if let Some(known) = self.repeated.get(&(id, along)) {
            return Ok(*known);
        }
        let (node, count) = (self.graph.node(id), self.draws.count);
        let shape = &node.ty.shape;
        let repeated = along.repeated(shape, count);
        let new = match &node.op {
            Op::Broadcast(_)
                if self.lies[id.index()] == Lie::Alike
                    && is_stretched(&self.graph.node(node.inputs[0]).ty.shape, shape, along) =>
            {
                let origin = self.placed[node.inputs[0].index()];
                self.builder.add(Op::Broadcast(repeated), &[origin])?
            }
            _ => {
                let [before, behind] = along.around(shape);
                let each = before.saturating_mul(self.samples);
                let value = self.placed[id.index()];
                let value = self.builder.add(Op::Reshape([each, 1, behind].into()), &[value])?;
                let all = Op::Broadcast([each, count, behind].into());
                let value = self.builder.add(all, &[value])?;
                self.builder.add(Op::Reshape(repeated), &[value])?
            }
        };
        self.repeated.insert((id, along), new);
        Ok(new)
    }

    /// Dropout of values with rows for each draw, by masks that are drawn once for all samples. The number
    /// of the draw stands for the sample's in their numbers.
    fn dropped_alike(
        &mut self,
        dropout: Dropout,
        x: NodeId,
        shape: &Shape,
    ) -> Result<NodeId, Mismatch> {
        let (samples, count, builder) = (self.samples, self.draws.count, &mut self.builder);
        let elements = shape.sample_elements();
        let all = Shape::from([samples, count, elements]);
        let one = builder.add(Op::Constant(1.0), &[])?;
        let ones = builder.add(Op::Broadcast(shape.with_samples(count)), &[one])?;
        let mask = builder.add(Op::Dropout(dropout), &[ones])?;
        let mask = builder.add(Op::Reshape([1, count, elements].into()), &[mask])?;
        let mask = builder.add(Op::Broadcast(all.clone()), &[mask])?;
        let zero = builder.add(Op::Constant(0.0), &[])?;
        let zeros = builder.add(Op::Broadcast(all.clone()), &[zero])?;
        let rows = builder.add(Op::Reshape(all), &[x])?;
        let scaled = match dropout.rate.constant_scale() {
            Some(scale) => builder.add(Op::Unary(Unary::Scale(scale)), &[rows])?,
            None => builder.add(Op::Binary(Binary::Multiply), &[rows, mask])?,
        };
        let dropped = builder.add(Op::Where, &[mask, scaled, zeros])?;
        builder.add(Op::Reshape(Along::FIRST.repeated(shape, count)), &[dropped])
    }

    /// A random operation that the draws of a sample cannot go through by themselves.
    fn mixture(&self, id: NodeId) -> Error {
        let node = self.graph.node(id);
        let is_mixed = |input: &NodeId| self.lies[input.index()] == Lie::Mixed;
        let expected = match node.op {
            Op::Dropout(_) if !node.inputs.iter().any(is_mixed) => {
                "samples along the first extent, by which masks count them"
            }
            _ => "each sample by itself, since its draws must not depend on others",
        };
        let shape = |input: &NodeId| self.graph.node(*input).ty.shape.to_string();
        let shapes: Vec<String> = node.inputs.iter().map(shape).collect();
        Error::Shape {
            layer: self.graph.layer(id).path.clone(),
            op: node.op.name().into(),
            expected: format!("{expected} in Monte Carlo mode"),
            got: format!("one across {}", shapes.join(", ")),
        }
    }

    /// An output as `[draws, ...]`.
    fn by_draw(&mut self, id: NodeId) -> Result<NodeId, Mismatch> {
        let (node, value) = (self.graph.node(id), self.placed[id.index()]);
        let mut dims = vec![self.draws.count];
        dims.extend(node.ty.shape.dims());
        self.builder.set_layer(node.layer);
        match self.lies[id.index()] {
            Lie::Samples(along) if self.is_random[id.index()] && self.samples > 0 => {
                let [before, behind] = along.around(&node.ty.shape);
                let each = before.saturating_mul(self.samples);
                let by_sample = Op::Reshape([each, self.draws.count, behind].into());
                let value = self.builder.add(by_sample, &[value])?;
                let value = self.builder.add(Op::Permute(vec![1, 0, 2]), &[value])?;
                self.builder.add(Op::Reshape(dims.into()), &[value])
            }
            _ if self.apart.is_weight(id) => self.weights_by_draw(id, dims.into()),
            // It is the same in each.
            _ => self.builder.add(Op::Broadcast(dims.into()), &[value]),
        }
    }
}

/// Whether a value is broadcast along the samples' extent.
fn is_stretched(from: &Shape, to: &Shape, along: Along) -> bool {
    (along.axis + from.rank()).checked_sub(to.rank()).is_none_or(|axis| from.dims()[axis] == 1)
}

/// What a shape rule has against a node with all its draws: that there are too many.
fn refused(graph: &Graph, id: NodeId) -> impl Fn(Mismatch) -> Error + '_ {
    move |mismatch| Error::Shape {
        layer: graph.layer(id).path.clone(),
        op: graph.node(id).op.name().into(),
        expected: mismatch.expected,
        got: mismatch.got,
    }
}
