// SPDX-License-Identifier: MIT OR Apache-2.0
//! From nodes of the graph to a chain.

use std::collections::{BTreeMap, BTreeSet};

use super::operand::Operand;
use super::{
    Chain, Function, Link, Source, View, MOST_AXES, MOST_KEPT, MOST_LINKS, MOST_OPERANDS,
    MOST_RESULTS,
};
use crate::graph::NodeId;
use crate::kernel::{is_view, Cluster, Finder, Kernel};
use crate::op::{Op, TensorType};
use crate::DType;

/// The cluster of nodes that are computed together, in topological order; `None` if they are more
/// than a chain takes.
pub(super) fn assemble(finder: &Finder<'_>, nodes: &[NodeId]) -> Option<Cluster> {
    let TensorType { shape, dtype } = &finder.graph.node(*nodes.first()?).ty;
    let elements = shape.elements();
    let parts = Parts::of(finder, nodes);
    let links = parts.links(finder, &parts.order(nodes))?;
    let operands: Vec<View> = parts.operands.iter().map(|(_, view)| view.clone()).collect();
    let fits = *dtype == DType::F32
        && links.len() <= MOST_LINKS
        && operands.len() <= MOST_OPERANDS
        && parts.outputs.len() <= MOST_RESULTS
        && operands.iter().all(|view| view.axes().len() <= MOST_AXES);
    let mut all: Vec<NodeId> = parts.passed.iter().chain(nodes).copied().collect();
    all.sort_unstable();
    fits.then(|| Cluster {
        kernel: Kernel::Chain(Chain { elements, operands, links }),
        nodes: all,
        inputs: parts.operands.iter().map(|(node, _)| *node).collect(),
        outputs: parts.outputs,
    })
}

/// Whether a value is needed outside of the nodes that are computed with it.
fn leaves(finder: &Finder<'_>, value: NodeId, nodes: &[NodeId]) -> bool {
    let graph = finder.graph;
    let elements = graph.node(value).ty.shape.elements();
    let mut renamed = vec![value];
    while let Some(name) = renamed.pop() {
        let users = finder.users(name);
        if finder.is_returned(name) || users.is_empty() {
            return true;
        }
        for &user in users.iter().filter(|user| nodes.binary_search(user).is_err()) {
            let node = graph.node(user);
            let is_stretched = matches!(node.op, Op::Broadcast(_));
            match is_view(&node.op) || is_stretched && node.ty.shape.elements() == elements {
                true => renamed.push(user),
                false => return true,
            }
        }
    }
    false
}

/// What a chain is put together from.
struct Parts {
    /// What each node takes.
    arguments: BTreeMap<NodeId, Vec<Argument>>,
    operands: Vec<(NodeId, View)>,
    /// Reshapes and broadcasts that the chain reads through.
    passed: BTreeSet<NodeId>,
    outputs: Vec<NodeId>,
}

#[derive(Clone, Copy)]
enum Argument {
    Value(NodeId),
    Operand(usize),
}

impl Parts {
    fn of(finder: &Finder<'_>, nodes: &[NodeId]) -> Self {
        let graph = finder.graph;
        let is_output = |node: &&NodeId| leaves(finder, **node, nodes);
        let mut parts = Parts {
            arguments: BTreeMap::new(),
            operands: Vec::new(),
            passed: BTreeSet::new(),
            outputs: nodes.iter().filter(is_output).copied().collect(),
        };
        for &node in nodes {
            let operands: Vec<Operand> = match graph.node(node).op {
                Op::Broadcast(_) => vec![Operand::of_copy(graph, node)],
                _ => {
                    let inputs = graph.node(node).inputs.iter();
                    inputs.map(|&input| Operand::of(graph, node, input)).collect()
                }
            };
            let arguments = operands.into_iter().map(|operand| parts.argument(nodes, operand));
            let arguments = arguments.collect();
            parts.arguments.insert(node, arguments);
        }
        parts
    }

    fn argument(&mut self, nodes: &[NodeId], operand: Operand) -> Argument {
        self.passed.extend(operand.passed);
        if operand.view.is_dense() && nodes.binary_search(&operand.node).is_ok() {
            return Argument::Value(operand.node);
        }
        let operand = (operand.node, operand.view);
        let known = self.operands.iter().position(|known| *known == operand);
        Argument::Operand(known.unwrap_or_else(|| {
            self.operands.push(operand);
            self.operands.len() - 1
        }))
    }

    /// The nodes, each behind what it takes, and as few others as possible between the two.
    fn order(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let taken: BTreeSet<NodeId> = self.arguments.values().flatten().filter_map(value).collect();
        let mut order = Vec::with_capacity(nodes.len());
        let mut placed = BTreeSet::new();
        for &last in nodes.iter().filter(|node| !taken.contains(node)) {
            // A stack and no recursion: users make long chains.
            let mut stack = vec![(last, 0)];
            while let Some((node, next)) = stack.pop() {
                if placed.contains(&node) {
                    continue;
                }
                match self.arguments[&node].get(next) {
                    Some(argument) => {
                        stack.push((node, next + 1));
                        stack.extend(value(argument).map(|value| (value, 0)));
                    }
                    None => {
                        placed.insert(node);
                        order.push(node);
                    }
                }
            }
        }
        order
    }

    /// The links, with places for the values that are kept; `None` if there are too few.
    fn links(&self, finder: &Finder<'_>, order: &[NodeId]) -> Option<Vec<Link>> {
        let place_of: BTreeMap<NodeId, usize> =
            order.iter().enumerate().map(|(place, &node)| (node, place)).collect();
        // The last link behind the next one that takes a value.
        let mut until = vec![None; order.len()];
        for (index, node) in order.iter().enumerate() {
            for value in self.arguments[node].iter().filter_map(value) {
                let taken = place_of[&value];
                if taken + 1 < index {
                    until[taken] = Some(index);
                }
            }
        }
        let mut kept: [Option<NodeId>; MOST_KEPT] = [None; MOST_KEPT];
        let mut links = Vec::with_capacity(order.len());
        for (index, node) in order.iter().enumerate() {
            let source = |argument: &Argument| match *argument {
                Argument::Operand(operand) => Some(Source::Operand(operand)),
                Argument::Value(value) if place_of[&value] + 1 == index => Some(Source::Last),
                Argument::Value(value) => {
                    kept.iter().position(|kept| *kept == Some(value)).map(Source::Kept)
                }
            };
            let arguments: Option<Vec<Source>> = self.arguments[node].iter().map(source).collect();
            for place in kept.iter_mut() {
                *place = place.filter(|kept| until[place_of[kept]] > Some(index));
            }
            let keep = match until[index] {
                None => None,
                Some(_) => {
                    let free = kept.iter().position(Option::is_none)?;
                    kept[free] = Some(*node);
                    Some(free)
                }
            };
            let function = Function::of(&finder.graph.node(*node).op).unwrap_or(Function::Copy);
            let store = self.outputs.iter().position(|output| output == node);
            links.push(Link { function, arguments: arguments?, keep, store });
        }
        Some(links)
    }
}

/// The value of the chain that an argument is.
fn value(argument: &Argument) -> Option<NodeId> {
    match argument {
        Argument::Value(value) => Some(*value),
        Argument::Operand(_) => None,
    }
}
