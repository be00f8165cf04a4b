// SPDX-License-Identifier: MIT OR Apache-2.0
//! A graph as rules see it: what its nodes are, what lies before and behind them, and its dropouts.

use super::part::{main, parts, Part};
use super::residual::{residuals, Residual};
use super::Case;
use crate::graph::{Graph, Node, NodeId};
use crate::op::{Drops, Op};

/// What rules look at.
pub(super) struct Sight<'g> {
    pub(super) graph: &'g Graph,
    /// The same network in eval mode.
    pub(super) eval: &'g Graph,
    pub(super) case: &'g Case,
    /// In the order of the graph; those of weights are not among them.
    pub(super) dropouts: Vec<Drop>,
    pub(super) residuals: Vec<Residual>,
    parts: Vec<Part>,
    users: Vec<Vec<NodeId>>,
    /// For each node, the learned layer that it comes from.
    origins: Vec<Part>,
}

/// A dropout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drop {
    pub(super) id: NodeId,
    pub(super) p: f64,
    pub(super) pieces: Drops,
    pub(super) place: Place,
}

/// Where a dropout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On what the network is given.
    Input,
    /// Behind an embedding.
    Embedding,
    /// On the steps of a recurrent layer.
    Steps,
    /// On feature maps.
    Maps,
    /// On the probabilities of attention.
    Attention,
    /// In a residual branch.
    Branch,
    /// On features.
    Features,
}

/// Rates are rounded to 1/32768.
pub(super) const ROUNDING: f64 = 1e-4;

impl<'g> Sight<'g> {
    pub(super) fn new(graph: &'g Graph, eval: &'g Graph, case: &'g Case) -> Self {
        let parts = parts(graph);
        let (residuals, in_branch) = residuals(graph, &parts);
        let origins = origins(graph, &parts);
        let users = graph.users();
        let mut sight =
            Sight { graph, eval, case, dropouts: vec![], residuals, parts, users, origins };
        // What recurrent layers draw in each step is no layer's output.
        let is_inside = |id| matches!(graph.layer(id).kind, "RecurrentDropout" | "Zoneout");
        let is_one = |id: NodeId| sight.part(id) == Part::Dropout && !is_inside(id);
        let dropouts = graph.nodes().filter(|(id, _)| is_one(*id));
        sight.dropouts =
            dropouts.filter_map(|(id, node)| sight.drop(id, node, &in_branch)).collect();
        sight
    }

    pub(super) fn part(&self, id: NodeId) -> Part {
        self.parts[id.index()]
    }

    /// Nodes of a kind, in the order of the graph.
    pub(super) fn all(&self, is: impl Fn(Part) -> bool) -> Vec<NodeId> {
        let nodes = self.graph.nodes().map(|(id, _)| id);
        nodes.filter(|id| is(self.part(*id))).collect()
    }

    /// Path of the layer that recorded a node.
    pub(super) fn layer(&self, id: NodeId) -> &str {
        &self.graph.layer(id).path
    }

    pub(super) fn users(&self, id: NodeId) -> &[NodeId] {
        &self.users[id.index()]
    }

    /// The input that a node does its part with.
    pub(super) fn main(&self, id: NodeId) -> Option<NodeId> {
        main(self.graph.node(id), &self.parts)
    }

    /// The learned layer that a value comes from.
    pub(super) fn origin(&self, id: NodeId) -> Part {
        self.origins[id.index()]
    }

    /// What a node's main input comes from, past what may be looked through.
    pub(super) fn before(&self, id: NodeId, through: impl Fn(Part) -> bool) -> Option<NodeId> {
        let mut before = self.main(id)?;
        while through(self.part(before)) {
            before = self.main(before)?;
        }
        Some(before)
    }

    /// What takes a value, past what may be looked through; only where it is the main input.
    pub(super) fn behind(&self, id: NodeId, through: impl Fn(Part) -> bool) -> Vec<NodeId> {
        let (mut found, mut open) = (Vec::new(), vec![id]);
        while let Some(at) = open.pop() {
            for &user in self.users(at) {
                let part = self.part(user);
                if part == Part::Join || self.main(user) == Some(at) {
                    match through(part) {
                        true => open.push(user),
                        false => found.push(user),
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Whether the value, or what views and functions of elements make of it, is returned.
    pub(super) fn is_returned(&self, id: NodeId) -> bool {
        let passes = |part: Part| part.is_plain() || matches!(part, Part::Activation(_));
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            if self.graph.outputs().contains(&at) {
                return true;
            }
            open.extend(self.users(at).iter().filter(|user| {
                !self.is_loss(**user) && passes(self.part(**user)) && self.main(**user) == Some(at)
            }));
        }
        false
    }

    /// Whether a node belongs to the loss.
    pub(super) fn is_loss(&self, id: NodeId) -> bool {
        self.graph.layer(id).kind == crate::graph::LOSS
    }

    fn drop(&self, id: NodeId, node: &Node, in_branch: &[bool]) -> Option<Drop> {
        let Op::Dropout(dropout) = &node.op else { return None };
        let place = match in_branch[id.index()] {
            _ if self.is_attention(id) => Place::Attention,
            true => Place::Branch,
            false => self.place(id, node),
        };
        let p = dropout.rate.most();
        Some(Drop { id, p, pieces: dropout.drops, place })
    }

    fn place(&self, id: NodeId, node: &Node) -> Place {
        let dims = node.ty.shape.dims();
        match self.origin(id) {
            Part::Embedding => Place::Embedding,
            // The last state is one vector, as features are.
            Part::Recurrent if dims.len() > 2 => Place::Steps,
            Part::Conv if dims.len() > 2 && dims[2..].iter().any(|extent| *extent > 1) => {
                Place::Maps
            }
            Part::Given => Place::Input,
            _ => Place::Features,
        }
    }

    fn is_attention(&self, id: NodeId) -> bool {
        let before = self.before(id, Part::is_plain).map(|before| self.part(before));
        before == Some(Part::Activation(super::part::Activation::Softmax))
            && self.behind(id, Part::is_plain).iter().any(|user| self.part(*user) == Part::Join)
    }
}

/// For each node the learned layer that it comes from; of values that come together, that of an
/// embedding, a recurrent layer or a convolution if there is one.
fn origins(graph: &Graph, parts: &[Part]) -> Vec<Part> {
    let mut origins: Vec<Part> = Vec::with_capacity(parts.len());
    for (id, node) in graph.nodes() {
        let origin = match parts[id.index()] {
            part if part.is_learned() => part,
            part @ (Part::Given | Part::Weight) => part,
            Part::Join => {
                let mut of = node.inputs.iter().map(|input| origins[input.index()]);
                let rank = |part: &Part| match part {
                    Part::Embedding => 4,
                    Part::Recurrent => 3,
                    Part::Conv => 2,
                    Part::Dense => 1,
                    _ => 0,
                };
                let first = of.next().unwrap_or(Part::Given);
                of.fold(first, |best, part| if rank(&part) > rank(&best) { part } else { best })
            }
            _ => main(node, parts).map_or(Part::Weight, |input| origins[input.index()]),
        };
        origins.push(origin);
    }
    origins
}
