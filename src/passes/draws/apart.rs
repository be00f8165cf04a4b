// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights that each draw has its own of, and what is made with them: computed for each draw by itself, since no
//! operation takes a weight per sample.

use std::collections::BTreeMap;

use super::along::{rule, Along, Lie};
use super::{refused, Repetition};
use crate::graph::{Node, NodeId};
use crate::op::{Dropout, Drops, Mismatch, Op};
use crate::{Result, Shape};

/// Nodes with one for each draw in their place.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// Those that no sample has a part in: dropped weights.
    weights: BTreeMap<NodeId, Vec<NodeId>>,
    /// Operations on samples by such weights.
    operations: BTreeMap<NodeId, Vec<NodeId>>,
}

impl Apart {
    pub(super) fn is_weight(&self, id: NodeId) -> bool {
        self.weights.contains_key(&id)
    }
}

impl Repetition<'_> {
    /// A random operation for each draw by itself, if it has to be; its value on all draws, or the first draw's
    /// if it is a weight.
    pub(super) fn draw_apart(&mut self, id: NodeId, node: &Node) -> Result<Option<NodeId>> {
        let graph = self.graph;
        let is_apart = node.inputs.iter().any(|input| self.apart.is_weight(*input));
        let further = match node.op {
            Op::Result(number) => {
                self.apart.operations.get(&node.inputs[0]).map(|of| (of.clone(), number))
            }
            _ => None,
        };
        let all = match (&node.op, further) {
            (_, Some((of, number))) => {
                let result = |of: &NodeId| self.builder.result(*of, number);
                of.iter().map(result).collect::<Result<Vec<_>, _>>().map_err(refused(graph, id))?
            }
            (Op::Dropout(dropout), _) if dropout.drops == Drops::Weights && !is_apart => {
                self.builder.set_layer(node.layer);
                self.drawn_weights(*dropout, node).map_err(refused(graph, id))?
            }
            _ if is_apart => self.each(id, node)?,
            _ => return Ok(None),
        };
        let of_samples = node.inputs.iter().any(|input| self.lies[input.index()] != Lie::Alike);
        if !of_samples {
            let first = all[0];
            self.apart.weights.insert(id, all);
            return Ok(Some(first));
        }
        let rule = rule(graph, node, &self.lies, self.samples).ok_or_else(|| self.mixture(id))?;
        let new = self.joined(&all, rule.output, &node.ty.shape).map_err(refused(graph, id))?;
        self.apart.operations.insert(id, all);
        Ok(Some(new))
    }

    /// A weight with the mask of each draw.
    fn drawn_weights(&mut self, dropout: Dropout, node: &Node) -> Result<Vec<NodeId>, Mismatch> {
        let (count, weight) = (self.draws.count, self.placed[node.inputs[0].index()]);
        let all = Op::Broadcast(node.ty.shape.with_samples(count));
        let all = self.builder.add(all, &[weight])?;
        let dropped = self.builder.add(Op::Dropout(dropout), &[all])?;
        let row = |start| Op::Slice { axis: 0, start, length: 1 };
        (0..count).map(|draw| self.builder.add(row(draw), &[dropped])).collect()
    }

    /// An operation on the samples of each draw with its weights.
    fn each(&mut self, id: NodeId, node: &Node) -> Result<Vec<NodeId>> {
        let graph = self.graph;
        let of_samples = node.inputs.iter().any(|input| self.lies[input.index()] != Lie::Alike);
        let rule = match of_samples {
            true => {
                let rule = rule(graph, node, &self.lies, self.samples);
                rule.ok_or_else(|| self.mixture(id))?.inputs
            }
            false => vec![None; node.inputs.len()],
        };
        let mut all = Vec::with_capacity(self.draws.count);
        for draw in 0..self.draws.count {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for (&input, along) in node.inputs.iter().zip(&rule) {
                inputs.push(match (self.apart.weights.get(&input), along) {
                    (Some(weights), _) => weights[draw],
                    (None, Some(along)) if self.is_random[input.index()] => {
                        self.of_draw(input, *along, draw).map_err(refused(graph, id))?
                    }
                    _ => self.placed[input.index()],
                });
            }
            all.push(self.builder.copy(node, &inputs).map_err(refused(graph, id))?);
        }
        Ok(all)
    }

    /// The samples of one draw.
    fn of_draw(&mut self, id: NodeId, along: Along, draw: usize) -> Result<NodeId, Mismatch> {
        let shape = &self.graph.node(id).ty.shape;
        let rows = Op::Reshape(self.by_draws(along, shape, self.draws.count));
        let rows = self.builder.add(rows, &[self.placed[id.index()]])?;
        let slice = Op::Slice { axis: 1, start: draw, length: 1 };
        let rows = self.builder.add(slice, &[rows])?;
        self.builder.add(Op::Reshape(shape.clone()), &[rows])
    }

    /// The samples of all draws, of each sample its draws one behind the other.
    fn joined(&mut self, all: &[NodeId], along: Along, shape: &Shape) -> Result<NodeId, Mismatch> {
        let one = self.by_draws(along, shape, 1);
        let mut draws = Vec::with_capacity(all.len());
        for &value in all {
            draws.push(self.builder.add(Op::Reshape(one.clone()), &[value])?);
        }
        let rows = self.builder.add(Op::Concat { axis: 1 }, &draws)?;
        self.builder.add(Op::Reshape(along.repeated(shape, all.len())), &[rows])
    }

    fn by_draws(&self, along: Along, shape: &Shape, draws: usize) -> Shape {
        let [before, behind] = along.around(shape);
        [before.saturating_mul(self.samples), draws, behind].into()
    }

    /// A weight as `[draws, ...]`.
    pub(super) fn weights_by_draw(&mut self, id: NodeId, all: Shape) -> Result<NodeId, Mismatch> {
        let one = all.with_samples(1);
        let weights = self.apart.weights.get(&id).cloned().unwrap_or_default();
        let mut draws = Vec::with_capacity(weights.len());
        for weight in weights {
            draws.push(self.builder.add(Op::Reshape(one.clone()), &[weight])?);
        }
        self.builder.add(Op::Concat { axis: 0 }, &draws)
    }
}
