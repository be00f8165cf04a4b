// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums and extremes along any extents.

use super::chain::order;
use super::Kernel;
use crate::graph::{Graph, MemoryFormat, NodeId};
use crate::op::{Extremum, Op};

/// What becomes of the elements along some extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// What is computed of them.
    pub function: Reducer,
    /// The extents as they lie in memory, outermost first: kept and reduced ones in turn, none of one
    /// element unless nothing else is left. At least one is reduced.
    pub extents: Vec<Extent>,
}

/// What is computed of some elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reducer {
    /// Their sum.
    Sum,
    /// The largest or smallest of them; NaN if there is one.
    Extreme(Extremum),
    /// Where the first of the largest or smallest is, as an integer; NaN counts as such. One extent
    /// is reduced.
    Place(Extremum),
}

/// An extent of a tensor that is reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It is one of the result's.
    Kept(usize),
    /// The result has one element in its place.
    Reduced(usize),
}

impl Reduce {
    /// All of some elements as one.
    pub fn all(function: Reducer, elements: usize) -> Self {
        Reduce { function, extents: vec![Extent::Reduced(elements)] }
    }

    /// Elements of what is reduced.
    pub fn elements(&self) -> usize {
        self.extents.iter().map(|extent| extent.size()).product()
    }

    /// Elements of the result.
    pub fn results(&self) -> usize {
        let kept = |extent: &Extent| match *extent {
            Extent::Kept(size) => size,
            Extent::Reduced(_) => 1,
        };
        self.extents.iter().map(kept).product()
    }

    /// The kernel's name.
    pub(super) fn name(&self) -> &'static str {
        match self.function {
            Reducer::Sum => "sum_over",
            Reducer::Extreme(Extremum::Max) => "max_over",
            Reducer::Extreme(Extremum::Min) => "min_over",
            Reducer::Place(Extremum::Max) => "argmax_over",
            Reducer::Place(Extremum::Min) => "argmin_over",
        }
    }
}

impl Extent {
    /// Number of elements.
    pub fn size(self) -> usize {
        match self {
            Extent::Kept(size) | Extent::Reduced(size) => size,
        }
    }
}

/// The kernel of an operation that reduces extents.
pub(super) fn kernel(graph: &Graph, id: NodeId) -> Option<Kernel> {
    let node = graph.node(id);
    let from = graph.node(*node.inputs.first()?);
    let dims = from.ty.shape.dims();
    let (function, is_reduced): (_, Vec<bool>) = match &node.op {
        Op::SumTo(shape) => {
            let missing = dims.len() - shape.rank();
            let is_one = |axis: usize| axis < missing || shape.dims()[axis - missing] == 1;
            (Reducer::Sum, (0..dims.len()).map(is_one).collect())
        }
        Op::Extreme(extreme) => {
            let is_reduced = (0..dims.len()).map(|axis| extreme.axes.contains(&axis));
            (Reducer::Extreme(extreme.kind), is_reduced.collect())
        }
        Op::ArgExtreme(extreme) => {
            let is_reduced = (0..dims.len()).map(|axis| axis == extreme.axis);
            (Reducer::Place(extreme.kind), is_reduced.collect())
        }
        _ => return None,
    };
    // What is kept of an image must lie as the result does.
    let kept = |&axis: &usize| !is_reduced[axis] && dims[axis] != 1;
    let in_memory: Vec<usize> = order(dims.len(), from.format).filter(kept).collect();
    let lies_row_major =
        node.format == MemoryFormat::Contiguous || MemoryFormat::coincides(&node.ty.shape);
    if !lies_row_major || !in_memory.is_sorted() {
        return None;
    }
    let extents = order(dims.len(), from.format).map(|axis| match is_reduced[axis] {
        true => Extent::Reduced(dims[axis]),
        false => Extent::Kept(dims[axis]),
    });
    Some(Kernel::Reduce(Reduce { function, extents: merged(extents) }))
}

/// Extents without those of one element, neighbours of one kind as one.
fn merged(extents: impl Iterator<Item = Extent>) -> Vec<Extent> {
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents.filter(|extent| extent.size() != 1) {
        match (merged.last_mut(), extent) {
            (Some(Extent::Kept(outer)), Extent::Kept(size))
            | (Some(Extent::Reduced(outer)), Extent::Reduced(size)) => *outer *= size,
            _ => merged.push(extent),
        }
    }
    if !merged.iter().any(|extent| matches!(extent, Extent::Reduced(_))) {
        merged.push(Extent::Reduced(1));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_of_one_kind_are_one() {
        use Extent::{Kept, Reduced};
        let of = |extents: &[Extent]| merged(extents.iter().copied());
        let all = [Kept(2), Reduced(1), Kept(3), Reduced(4), Reduced(5)];
        assert_eq!(of(&all), [Kept(6), Reduced(20)]);
        assert_eq!(of(&[Reduced(1), Kept(3)]), [Kept(3), Reduced(1)]);
        assert_eq!(of(&[]), [Reduced(1)]);
        assert_eq!(of(&[Kept(0), Kept(3), Reduced(2)]), [Kept(0), Reduced(2)]);
    }
}
