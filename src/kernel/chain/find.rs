// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which operations on elements are computed together.
//!
//! Operations that no other kernel took join the chain of what they take, as long as no step between
//! needs one of the chain's values and yields another; no value is computed twice. What is too long
//! for a chain is cut.

use super::assemble::assemble;
use super::operand::Operand;
use super::{Function, MOST_LINKS};
use crate::graph::NodeId;
use crate::kernel::{is_read_through, is_view, single, Cluster, Finder};
use crate::op::Op;

/// The chains of what the clusters left over, and copies of broadcast tensors that something else
/// needs as they are.
pub(crate) fn chains(finder: &Finder<'_>, clusters: &[Cluster]) -> Vec<Cluster> {
    let mut units = Units::new(finder, clusters);
    for (id, node) in finder.graph.nodes() {
        if finder.is_free(id) && Function::of(&node.op).is_some() {
            units.add(id);
        }
    }
    let mut found = Vec::new();
    let mut in_chain = vec![false; finder.graph.nodes().len()];
    for mut nodes in units.chains() {
        while !nodes.is_empty() {
            let most = nodes.len().min(MOST_LINKS);
            let longest = (1..=most).rev().find_map(|count| {
                assemble(finder, &nodes[..count]).map(|cluster| (count, cluster))
            });
            let (count, cluster) = longest.map_or((1, None), |(count, it)| (count, Some(it)));
            let taken = nodes.drain(..count);
            if cluster.is_some() {
                taken.for_each(|node| in_chain[node.index()] = true);
            }
            found.extend(cluster);
        }
    }
    found.extend(copies(finder, &in_chain));
    found
}

/// Copies of the broadcast tensors that are not only read where they come from.
fn copies(finder: &Finder<'_>, in_chain: &[bool]) -> Vec<Cluster> {
    let mut copies = Vec::new();
    let mut is_copied = vec![false; finder.graph.nodes().len()];
    for (id, node) in finder.graph.nodes().rev() {
        let is_broadcast = matches!(node.op, Op::Broadcast(_)) && finder.is_free(id);
        if is_broadcast && is_read(finder, id, in_chain, &is_copied) {
            is_copied[id.index()] = true;
            copies.push(assemble(finder, &[id]).unwrap_or_else(|| single(finder, id)));
        }
    }
    copies
}

/// Whether a broadcast tensor is read as it is, by something other than chains and copies that read
/// what it comes from.
fn is_read(finder: &Finder<'_>, broadcast: NodeId, in_chain: &[bool], is_copied: &[bool]) -> bool {
    let graph = finder.graph;
    // What is the tensor itself under another name, and what is read through to it.
    let (mut names, mut behind) = (vec![broadcast], Vec::new());
    while let Some(name) = names.pop() {
        if finder.is_returned(name) {
            return true;
        }
        for &user in finder.users(name) {
            match graph.node(user).op {
                Op::Broadcast(_) => behind.push(user),
                ref op if is_view(op) => names.push(user),
                _ if in_chain[user.index()] => behind.push(user),
                _ => return true,
            }
        }
    }
    while let Some(reader) = behind.pop() {
        let inputs = match graph.node(reader).op {
            Op::Broadcast(_) if is_copied[reader.index()] => {
                vec![Operand::of_copy(graph, reader)]
            }
            ref op if is_read_through(op) => vec![],
            _ if in_chain[reader.index()] => {
                let inputs = graph.node(reader).inputs.iter();
                inputs.map(|&input| Operand::of(graph, reader, input)).collect()
            }
            _ => continue,
        };
        if inputs.iter().any(|operand| operand.node == broadcast) {
            return true;
        }
        if is_read_through(&graph.node(reader).op) {
            behind.extend(finder.users(reader));
        }
    }
    false
}

/// What is computed together: the clusters, and chains as far as they are found.
struct Units<'f> {
    finder: &'f Finder<'f>,
    units: Vec<Unit>,
    /// The unit of each node that is in one.
    unit_of: Vec<Option<usize>>,
    /// Walks so far, and the last one that came by each node and each unit.
    walks: usize,
    passed_nodes: Vec<usize>,
    passed_units: Vec<usize>,
}

#[derive(Default)]
struct Unit {
    nodes: Vec<NodeId>,
    /// What its nodes take, the chain's own values included.
    takes: Vec<NodeId>,
    /// Elements of each value, if it is a chain.
    elements: Option<usize>,
}

impl<'f> Units<'f> {
    fn new(finder: &'f Finder<'f>, clusters: &[Cluster]) -> Self {
        let count = finder.graph.nodes().len();
        let mut units = Units {
            finder,
            units: Vec::new(),
            unit_of: vec![None; count],
            walks: 0,
            passed_nodes: vec![0; count],
            passed_units: Vec::new(),
        };
        for cluster in clusters {
            let takes = cluster.nodes.iter().flat_map(|&id| &finder.graph.node(id).inputs);
            let takes = takes.copied().collect();
            units.push(Unit { nodes: cluster.nodes.clone(), takes, ..Unit::default() });
        }
        units
    }

    fn push(&mut self, unit: Unit) {
        unit.nodes.iter().for_each(|id| self.unit_of[id.index()] = Some(self.units.len()));
        self.units.push(unit);
        self.passed_units.push(0);
    }

    /// Adds an operation to the chains of what it takes, which become one, or begins a chain.
    fn add(&mut self, id: NodeId) {
        let graph = self.finder.graph;
        let node = graph.node(id);
        let elements = node.ty.shape.elements();
        let operands: Vec<Operand> =
            node.inputs.iter().map(|&input| Operand::of(graph, id, input)).collect();
        let mut unit = Unit {
            nodes: vec![id],
            takes: operands.iter().map(|operand| operand.node).collect(),
            elements: Some(elements),
        };
        let mut joined: Vec<usize> = Vec::new();
        for operand in operands.iter().filter(|operand| operand.view.is_dense()) {
            let Some(candidate) = self.unit_of[operand.node.index()] else { continue };
            let chain = &self.units[candidate];
            if joined.contains(&candidate) || chain.elements != Some(elements) {
                continue;
            }
            joined.push(candidate);
            let takes: Vec<NodeId> = unit.takes.iter().chain(&chain.takes).copied().collect();
            if self.leads_back(&takes, &joined) {
                joined.pop();
                continue;
            }
            let chain = std::mem::take(&mut self.units[candidate]);
            unit.nodes.extend(chain.nodes);
            unit.takes = takes;
        }
        unit.nodes.sort_unstable();
        self.push(unit);
    }

    /// Whether something outside of some units that they take needs one of their values.
    fn leads_back(&mut self, takes: &[NodeId], units: &[usize]) -> bool {
        self.walks += 1;
        let is_inside = |unit: &Option<usize>| unit.is_some_and(|unit| units.contains(&unit));
        let outside = takes.iter().filter(|id| !is_inside(&self.unit_of[id.index()]));
        let mut ahead: Vec<NodeId> = outside.copied().collect();
        while let Some(id) = ahead.pop() {
            let unit = self.unit_of[id.index()];
            if is_inside(&unit) {
                return true;
            }
            let (last_walk, takes) = match unit {
                Some(unit) => (&mut self.passed_units[unit], &self.units[unit].takes),
                None => (&mut self.passed_nodes[id.index()], &self.finder.graph.node(id).inputs),
            };
            if *last_walk != self.walks {
                *last_walk = self.walks;
                ahead.extend(takes);
            }
        }
        false
    }

    fn chains(self) -> impl Iterator<Item = Vec<NodeId>> {
        let chains = self.units.into_iter().filter(|unit| unit.elements.is_some());
        chains.map(|unit| unit.nodes)
    }
}
