// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mode pass: random operations stay, or leave the graph for good.

use super::{broken, simplify, Draws, Dropouts, Mode};
use crate::graph::{Builder, Graph, Node, NodeId};
use crate::op::{DropRate, Op, Over, When};
use crate::{Error, Result};

/// Decides between values of modes. Removes dropout where nothing is dropped: everywhere in eval mode, everywhere but at the end
/// where only the last is to drop, else where p always rounds to 0.
/// Only train mode changes state.
pub(super) fn specialise(graph: Graph, mode: Mode) -> Result<Graph> {
    let drawing = Drawing::of(&graph, mode);
    let mut builder = Builder::rebuild(&graph);
    let mut renamed: Vec<Option<NodeId>> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes() {
        // Only changes of state depend on changes of state.
        let inputs: Vec<NodeId> = node.inputs.iter().filter_map(|id| renamed[id.index()]).collect();
        let new = match &node.op {
            Op::Dropout(dropout) if dropout.rate == DropRate::Constant(0) || !drawing.is_by(id) => {
                Some(inputs[0])
            }
            Op::ByMode(when) => {
                let is_first = match when {
                    When::Random => drawing.is_between(node),
                    When::Training => mode == Mode::Train,
                };
                Some(inputs[usize::from(!is_first)])
            }
            Op::SetState(..) if mode != Mode::Train => None,
            Op::Statistics(over) => match (mode, inputs.as_slice()) {
                (Mode::Train, _) | (_, [_]) => {
                    check_statistics(&graph, id, *over, mode)?;
                    Some(builder.copy(node, &inputs[..1]).map_err(broken("mode"))?)
                }
                (_, running) => running.get(1).copied(),
            },
            Op::Result(index) if is_replaced(&graph, node, mode) => {
                let statistics = graph.node(node.inputs[0]);
                statistics.inputs.get(1 + index).and_then(|id| renamed[id.index()])
            }
            _ => Some(builder.copy(node, &inputs).map_err(broken("mode"))?),
        };
        renamed.push(new);
    }
    let outputs = graph.outputs.iter().filter_map(|id| renamed[id.index()]).collect();
    Ok(builder.finish(outputs))
}

/// Which dropouts draw.
enum Drawing {
    All,
    Nothing,
    /// This one, on which these nodes depend.
    One(NodeId, Vec<bool>),
}

impl Drawing {
    fn of(graph: &Graph, mode: Mode) -> Self {
        match mode {
            Mode::Eval => Drawing::Nothing,
            Mode::MonteCarlo(Draws { dropouts: Dropouts::Last, .. }) => Drawing::last(graph),
            Mode::Train | Mode::MonteCarlo(_) => Drawing::All,
        }
    }

    /// The last dropout that drops anything of what becomes the outputs.
    fn last(graph: &Graph) -> Self {
        let live = simplify::live(graph);
        let drops = |(id, node): &(NodeId, &Node)| match node.op {
            Op::Dropout(dropout) => dropout.rate != DropRate::Constant(0) && live[id.index()],
            _ => false,
        };
        let Some((last, _)) = graph.nodes().rev().find(drops) else { return Drawing::Nothing };
        let mut behind = vec![false; graph.nodes().len()];
        for (id, node) in graph.nodes() {
            behind[id.index()] = id == last || node.inputs.iter().any(|id| behind[id.index()]);
        }
        Drawing::One(last, behind)
    }

    fn is_by(&self, dropout: NodeId) -> bool {
        match self {
            Drawing::All => true,
            Drawing::Nothing => false,
            Drawing::One(one, _) => *one == dropout,
        }
    }

    /// Whether the dropout that draws lies in the random one of two values, and not before both.
    fn is_between(&self, by_mode: &Node) -> bool {
        match self {
            Drawing::All => true,
            Drawing::Nothing => false,
            Drawing::One(_, behind) => {
                let is_behind = |place: usize| behind[by_mode.inputs[place].index()];
                is_behind(0) && !is_behind(1)
            }
        }
    }
}

/// Whether a result is a statistic for which a running one stands in.
fn is_replaced(graph: &Graph, result: &Node, mode: Mode) -> bool {
    let producer = graph.node(result.inputs[0]);
    matches!(producer.op, Op::Statistics(_)) && producer.inputs.len() > 1 && mode != Mode::Train
}

/// Statistics of the batch need a batch.
fn check_statistics(graph: &Graph, id: NodeId, over: Over, mode: Mode) -> Result<()> {
    let shape = &graph.node(graph.node(id).inputs[0]).ty.shape;
    let (wanted, got) = match over {
        Over::Channels if mode == Mode::Train => (2, over.group_elements(shape)),
        _ => (1, over.group_elements(shape)),
    };
    if got >= wanted {
        return Ok(());
    }
    Err(Error::Shape {
        layer: graph.layer(id).path.clone(),
        op: "statistics".into(),
        expected: format!("{wanted} values or more per channel in train mode"),
        got: shape.to_string(),
    })
}
