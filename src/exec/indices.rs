// SPDX-License-Identifier: MIT OR Apache-2.0
//! Indices and lengths that are inputs of a run are looked at before it, whatever device would meet them.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use crate::graph::{Graph, Node, NodeId};
use crate::op::{Array, Op, Operand};
use crate::scalars::Scalars;
use crate::{DType, Error, Result, Tensor};

/// Elements of a run's integer inputs that choose from something, or say how long something is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Indices {
    /// The layer that takes them.
    layer: String,
    /// What it does.
    op: &'static str,
    /// What they are.
    what: &'static str,
    /// The numbers that they can be.
    allowed: RangeInclusive<i64>,
    /// The input, and which elements of it.
    elements: Vec<(usize, Range<usize>)>,
}

/// All indices of a graph that come from its inputs. Those that are computed are not known yet.
pub(super) fn of(graph: &Graph) -> Vec<Indices> {
    let mut inputs = Inputs::default();
    // For each integer value, which elements of inputs it holds.
    let mut origins: BTreeMap<NodeId, Array> = BTreeMap::new();
    let mut found: Vec<Indices> = Vec::new();
    for (id, node) in graph.nodes() {
        if let Some((operand, what, allowed)) = looked_at(graph, node) {
            if let Some(origin) = origins.get(&operand) {
                let indices = Indices {
                    layer: graph.layer(id).path.clone(),
                    op: node.op.name(),
                    what,
                    allowed,
                    elements: inputs.ranges(origin),
                };
                if !found.contains(&indices) {
                    found.push(indices);
                }
            }
        }
        if node.ty.dtype != DType::I32 {
            continue;
        }
        let operands: Option<Vec<&Array>> = node.inputs.iter().map(|id| origins.get(id)).collect();
        let origin = match (&node.op, operands) {
            (Op::Input(input), _) => Some(inputs.add(input.index(), &node.ty.shape)),
            (op, Some(operands)) if moves(op) => {
                op.eval(&operands, &Scalars::new(0)).into_iter().next()
            }
            _ => None,
        };
        origins.extend(origin.map(|origin| (id, origin)));
    }
    found
}

/// The operand that an operation looks at before a run, what its numbers are and which they can be.
fn looked_at(graph: &Graph, node: &Node) -> Option<(NodeId, &'static str, RangeInclusive<i64>)> {
    let extents = |id: NodeId| graph.node(id).ty.shape.dims();
    match &node.op {
        Op::Take { axis, .. } | Op::Gather(axis) => {
            let rows = extents(node.inputs[0])[*axis] as i64;
            Some((node.inputs[1], "index", 0..=rows - 1))
        }
        Op::Recurrent(recurrent) => {
            let operands = recurrent.operands();
            let lengths = operands.iter().position(|&operand| operand == Operand::Lengths)?;
            Some((node.inputs[lengths], "length", 1..=extents(node.inputs[0])[1] as i64))
        }
        _ => None,
    }
}

/// Integer inputs, whose elements are numbered one behind the other.
#[derive(Default)]
struct Inputs {
    /// Each input's position in the run and the number of its first element.
    starts: Vec<(usize, usize)>,
    end: usize,
}

impl Inputs {
    /// The numbers of a further input's elements.
    fn add(&mut self, input: usize, shape: &crate::Shape) -> Array {
        let start = self.end;
        self.starts.push((input, start));
        self.end += shape.elements();
        Array::new(shape.clone(), (start..self.end).map(|number| number as f64).collect())
    }

    /// Where elements with these numbers are.
    fn ranges(&self, numbers: &Array) -> Vec<(usize, Range<usize>)> {
        let mut ranges: Vec<(usize, Range<usize>)> = Vec::new();
        for &number in &numbers.data {
            let number = number as usize;
            let place = self.starts.partition_point(|&(_, start)| start <= number) - 1;
            let (input, start) = self.starts[place];
            let element = number - start;
            match ranges.last_mut() {
                Some((known, range)) if *known == input && range.end == element => range.end += 1,
                _ => ranges.push((input, element..element + 1)),
            }
        }
        ranges
    }
}

/// Whether an operation yields elements of its inputs as they are, so that their numbers go the same
/// way.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Transpose
            | Op::ToFormat(_)
            | Op::Permute(_)
            | Op::Slice { .. }
            | Op::Concat { .. }
    )
}

impl Indices {
    /// Looks at the indices among the inputs of a run.
    ///
    /// # Errors
    /// [`Error::Argument`] for the first that chooses nothing.
    pub(super) fn check(&self, inputs: &[Tensor]) -> Result<()> {
        for (input, range) in &self.elements {
            let Ok(values) = inputs[*input].integers() else { continue };
            let is_outside = |&value: &i32| !self.allowed.contains(&i64::from(value));
            let values = &values[range.clone()];
            if let Some(place) = values.iter().position(is_outside) {
                let element = range.start + place;
                return Err(Error::Argument {
                    layer: self.layer.clone(),
                    what: format!("{}: {} {element} of input {input}", self.op, self.what),
                    expected: format!(
                        "a number from {} to {}",
                        self.allowed.start(),
                        self.allowed.end()
                    ),
                    got: values[place].to_string(),
                });
            }
        }
        Ok(())
    }
}
