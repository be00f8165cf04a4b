// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the samples of a batch lie in a value, and what operations make of that.

use crate::graph::{Graph, Node, NodeId};
use crate::op::{Op, Operand, Order, Over, Reduction};
use crate::Shape;

/// Where samples lie in a value: along one extent, which counts `outer * samples * rows`, the samples in
/// the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Along {
    pub(super) axis: usize,
    pub(super) outer: usize,
    pub(super) rows: usize,
}

/// How a value depends on samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Not at all.
    Alike,
    /// Each sample has its own piece, which depends on that sample alone.
    Samples(Along),
    /// Otherwise, as a mean over the batch.
    Mixed,
}

/// An operation on each sample by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// For each input, where samples lie in it; `None` if it must be the same for all.
    pub(super) inputs: Vec<Option<Along>>,
    /// Where they lie in its results.
    pub(super) output: Along,
}

impl Along {
    /// As in the inputs of a network.
    pub(super) const FIRST: Self = Along { axis: 0, outer: 1, rows: 1 };

    fn at(self, axis: usize) -> Self {
        Along { axis, ..self }
    }

    /// Elements before and behind a sample's number in memory.
    pub(super) fn around(self, shape: &Shape) -> [usize; 2] {
        let (before, rest) = shape.dims().split_at(self.axis);
        let [before, behind] = [before, &rest[1..]].map(|dims| Shape::from(dims).elements());
        [before.saturating_mul(self.outer), behind.saturating_mul(self.rows)]
    }

    /// The shape with `times` as many samples.
    pub(super) fn repeated(self, shape: &Shape, times: usize) -> Shape {
        let mut dims = shape.dims().to_vec();
        dims[self.axis] = dims[self.axis].saturating_mul(times);
        dims.into()
    }

    /// Under another shape the elements stay where they are in memory.
    fn reshaped(self, from: &Shape, to: &Shape, samples: usize) -> Option<Self> {
        let [before, behind] = self.around(from);
        (0..to.rank()).find_map(|axis| {
            let (outside, rest) = to.dims().split_at(axis);
            let outside = Shape::from(outside).elements();
            if outside == 0 || before == 0 || !before.is_multiple_of(outside) {
                return None;
            }
            let outer = before / outside;
            let block = outer.saturating_mul(samples);
            let along = Along { axis, outer, rows: rest[0] / block };
            let fits = rest[0].is_multiple_of(block) && along.around(to) == [before, behind];
            fits.then_some(along)
        })
    }
}

/// How each value of a graph depends on the samples of its inputs; there is one sample or more.
pub(super) fn lies(graph: &Graph, samples: usize) -> Vec<Lie> {
    let mut lies: Vec<Lie> = Vec::with_capacity(graph.nodes().len());
    for (_, node) in graph.nodes() {
        let of_inputs = || node.inputs.iter().map(|input| lies[input.index()]);
        let lie = if matches!(node.op, Op::Input(_)) {
            Lie::Samples(Along::FIRST)
        } else if of_inputs().all(|lie| lie == Lie::Alike) {
            Lie::Alike
        } else {
            rule(graph, node, &lies, samples).map_or(Lie::Mixed, |rule| Lie::Samples(rule.output))
        };
        lies.push(lie);
    }
    lies
}

/// What an operation, of whose inputs one or more depend on samples, does with them; `None` if it does
/// not keep each sample to itself, or is not known to.
pub(super) fn rule(graph: &Graph, node: &Node, lies: &[Lie], samples: usize) -> Option<Rule> {
    let lie = |id: &NodeId| match lies.get(id.index()) {
        Some(Lie::Samples(along)) => Some(*along),
        _ => None,
    };
    let (place, along) =
        node.inputs.iter().enumerate().find_map(|(place, id)| Some((place, lie(id)?)))?;
    let rule = of_op(graph, node, place, along, samples)?;
    let fits = |(id, wanted): (&NodeId, &Option<Along>)| match lies.get(id.index()) {
        Some(Lie::Alike) => true,
        Some(Lie::Samples(along)) => Some(*along) == *wanted,
        Some(Lie::Mixed) | None => false,
    };
    node.inputs.iter().zip(&rule.inputs).all(fits).then_some(rule)
}

/// The rule where the first input that depends on samples is at `place`, and they lie `along` it.
fn of_op(graph: &Graph, node: &Node, place: usize, along: Along, samples: usize) -> Option<Rule> {
    let count = node.inputs.len();
    let shape = |place: usize| &graph.node(node.inputs[place]).ty.shape;
    let x = shape(place);
    let all = |output: Along| Some(Rule { inputs: vec![Some(along); count], output });
    let alone = |output: Along| {
        let mut inputs = vec![None; count];
        inputs[place] = Some(along);
        Some(Rule { inputs, output })
    };
    match &node.op {
        Op::Unary(_) | Op::Binary(_) | Op::Where | Op::Result(_) => all(along),
        // Masks count samples along the first extent.
        Op::Dropout(_) if along == Along::FIRST => all(along),
        Op::Reshape(to) => alone(along.reshaped(x, to, samples)?),
        Op::Broadcast(to) | Op::SumTo(to) => {
            let axis = (along.axis + to.rank()).checked_sub(x.rank())?;
            (to.dims()[axis] == x.dims()[along.axis]).then(|| alone(along.at(axis)))?
        }
        Op::Transpose => alone(along.at(1 - along.axis)),
        Op::Permute(axes) => {
            let axis = axes.iter().position(|&axis| axis == along.axis)?;
            alone(along.at(axis))
        }
        Op::MatMul(product) => {
            let axis = kept(place, [product.left, product.right]);
            (along.axis == axis).then(|| alone(along.at(place)))?
        }
        Op::BatchMatMul(_) if along.axis == 0 => all(along),
        Op::BatchMatMul(product) => {
            let axis = 1 + kept(place, [product.left, product.right]);
            (along.axis == axis).then(|| alone(along.at(1 + place)))?
        }
        Op::Extreme(extreme) => (!extreme.axes.contains(&along.axis)).then(|| alone(along))?,
        Op::ArgExtreme(extreme) => (extreme.axis != along.axis).then(|| alone(along))?,
        Op::Slice { axis, .. } | Op::Pad { axis, .. } => {
            (*axis != along.axis).then(|| alone(along))?
        }
        Op::Concat { axis } | Op::Gather(axis) => (*axis != along.axis).then(|| all(along))?,
        Op::Take { axis, .. } => match place {
            0 if along.axis < *axis => alone(along),
            0 if along.axis > *axis => alone(along.at(along.axis + shape(1).rank() - 1)),
            0 => None,
            _ => alone(along.at(axis + along.axis)),
        },
        Op::Blend(blend) => (blend.axis != along.axis).then(|| alone(along))?,
        Op::Softmax(_) => (along.axis + 1 < x.rank()).then(|| alone(along))?,
        Op::Conv(_) | Op::ConvInputGrad(..) => {
            ((place, along.axis) == (0, 0)).then(|| alone(along))?
        }
        Op::MaxPool(_) | Op::AvgPool(_) => (along.axis < 2).then(|| alone(along))?,
        Op::Statistics(Over::Rows) => alone(of_rows(along, x)?),
        Op::Normalize(normalize) if place == 0 => match normalize.over {
            Over::Rows => {
                let mut inputs = vec![Some(of_rows(along, x)?); count];
                inputs[0] = Some(along);
                Some(Rule { inputs, output: along })
            }
            Over::Channels => (along.axis != 1).then(|| alone(along))?,
        },
        Op::Nll(nll) if nll.reduction == Reduction::None && along.axis == 0 => {
            // Of scores and labels; weights are of classes.
            let inputs = (0..count).map(|place| (place < 2).then_some(along)).collect();
            Some(Rule { inputs, output: along })
        }
        Op::Recurrent(recurrent) if along == Along::FIRST => {
            let is_of_samples = |operand: &Operand| {
                !matches!(operand, Operand::Weight | Operand::Bias | Operand::Projection)
            };
            let operands = recurrent.operands();
            let inputs = operands.iter().map(|one| is_of_samples(one).then_some(along)).collect();
            Some(Rule { inputs, output: along })
        }
        _ => None,
    }
}

/// The extent of a factor, the left or the right one, that the product keeps.
fn kept(place: usize, orders: [Order; 2]) -> usize {
    match (place, orders[place]) {
        (0, Order::Plain) | (1, Order::Transposed) => 0,
        _ => 1,
    }
}

/// Where samples lie among the rows along the innermost extent.
fn of_rows(along: Along, x: &Shape) -> Option<Along> {
    if along.axis + 1 >= x.rank() {
        return None;
    }
    let [outer, _] = along.around(x);
    let inner = Shape::from(&x.dims()[along.axis + 1..x.rank() - 1]).elements();
    Some(Along { axis: 0, outer, rows: along.rows.saturating_mul(inner) })
}
