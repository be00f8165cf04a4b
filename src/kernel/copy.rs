// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies: values that only change places, as strided boxes.

use super::Kernel;
use crate::graph::{Graph, MemoryFormat, NodeId};
use crate::op::Op;
use crate::Shape;

/// A box of elements that goes from an input of [`Kernel::Copy`] to its result. All pieces together
/// fill the result, each element once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Position of the input; `None` for zeros.
    pub input: Option<usize>,
    /// The box's extents, outermost first. None is 1, and neighbours that one extent could stand for
    /// are one.
    pub extents: Vec<Stretch>,
    /// Number of the first element in the input.
    pub from: usize,
    /// Number of the first element in the result.
    pub to: usize,
}

/// One extent of a [`Piece`], with the distances of neighbours along it in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Number of elements.
    pub extent: usize,
    /// Distance in the input; 0 where one element is repeated.
    pub from: usize,
    /// Distance in the result.
    pub to: usize,
}

impl Piece {
    fn new(input: Option<usize>, [from, to]: [usize; 2], stretches: &[Stretch]) -> Option<Self> {
        if stretches.iter().any(|stretch| stretch.extent == 0) {
            return None;
        }
        let mut extents: Vec<Stretch> = Vec::new();
        for inner in stretches.iter().filter(|stretch| stretch.extent > 1) {
            match extents.last_mut() {
                Some(outer)
                    if outer.from == inner.extent * inner.from
                        && outer.to == inner.extent * inner.to =>
                {
                    *outer = Stretch { extent: outer.extent * inner.extent, ..*inner };
                }
                _ => extents.push(*inner),
            }
        }
        Some(Piece { input, extents, from, to })
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.extents.iter().map(|stretch| stretch.extent).product()
    }
}

/// The kernel of an operation that only moves elements, all of whose values lie row-major.
pub(super) fn kernel(graph: &Graph, id: NodeId) -> Option<Kernel> {
    let node = graph.node(id);
    let lies_otherwise = |id: &NodeId| {
        let node = graph.node(*id);
        node.format != MemoryFormat::Contiguous && !MemoryFormat::coincides(&node.ty.shape)
    };
    if node.inputs.iter().chain([&id]).any(lies_otherwise) {
        return None;
    }
    let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| &graph.node(id).ty.shape).collect();
    pieces(&node.op, &shapes, &node.ty.shape).map(Kernel::Copy)
}

fn pieces(op: &Op, inputs: &[&Shape], result: &Shape) -> Option<Vec<Piece>> {
    let x = inputs.first()?;
    let (from, to) = (strides(x), strides(result));
    let row_major = |shape: &Shape, from: &[usize], to: &[usize]| {
        let distances = from.iter().zip(to);
        let stretch = |(&extent, (&from, &to))| Stretch { extent, from, to };
        shape.dims().iter().zip(distances).map(stretch).collect::<Vec<Stretch>>()
    };
    let mut found: Vec<Option<Piece>> = Vec::new();
    match op {
        Op::Transpose => {
            found.push(Piece::new(Some(0), [0, 0], &row_major(result, &[from[1], from[0]], &to)));
        }
        Op::Permute(axes) => {
            let from: Vec<usize> = axes.iter().map(|&axis| from[axis]).collect();
            found.push(Piece::new(Some(0), [0, 0], &row_major(result, &from, &to)));
        }
        Op::Broadcast(_) => {
            let mut spread = vec![0; result.rank() - x.rank()];
            let stretched = x.dims().iter().zip(&from);
            spread.extend(stretched.map(|(&extent, &from)| if extent == 1 { 0 } else { from }));
            found.push(Piece::new(Some(0), [0, 0], &row_major(result, &spread, &to)));
        }
        Op::Slice { axis, start, .. } => {
            let start = [start * from[*axis], 0];
            found.push(Piece::new(Some(0), start, &row_major(result, &from, &to)));
        }
        Op::Pad { axis, before, after } => {
            let extent = x.dims()[*axis];
            found.push(Piece::new(Some(0), [0, before * to[*axis]], &row_major(x, &from, &to)));
            for (start, length) in [(0, *before), (before + extent, *after)] {
                let mut zeros = x.dims().to_vec();
                zeros[*axis] = length;
                let zeros = row_major(&zeros.into(), &vec![0; x.rank()], &to);
                found.push(Piece::new(None, [0, start * to[*axis]], &zeros));
            }
        }
        Op::Concat { axis } => {
            let mut start = 0;
            for (input, x) in inputs.iter().enumerate() {
                let stretches = row_major(x, &strides(x), &to);
                found.push(Piece::new(Some(input), [0, start * to[*axis]], &stretches));
                start += x.dims()[*axis];
            }
        }
        _ => return None,
    }
    Some(found.into_iter().flatten().collect())
}

/// Distances of neighbours along each axis of a row-major tensor.
fn strides(shape: &Shape) -> Vec<usize> {
    let mut strides = vec![1; shape.rank()];
    for axis in (1..shape.rank()).rev() {
        strides[axis - 1] = strides[axis] * shape.dims()[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(op: Op, inputs: &[&[usize]], result: &[usize]) -> Vec<(Option<usize>, String)> {
        let shapes: Vec<Shape> = inputs.iter().map(|&dims| dims.into()).collect();
        let pieces = pieces(&op, &shapes.iter().collect::<Vec<_>>(), &result.into());
        let text = |piece: &Piece| {
            let stretches =
                piece.extents.iter().map(|s| format!("{}:{}>{}", s.extent, s.from, s.to));
            let stretches = stretches.collect::<Vec<_>>().join(" ");
            (piece.input, format!("{}>{} {stretches}", piece.from, piece.to))
        };
        pieces.expect("a movement").iter().map(text).collect()
    }

    fn one(text: &str) -> Vec<(Option<usize>, String)> {
        vec![(Some(0), text.into())]
    }

    #[test]
    fn extents_that_move_together_are_one() {
        let permute = |axes: &[usize]| Op::Permute(axes.to_vec());
        let found = of(permute(&[0, 2, 3, 1]), &[&[2, 3, 4, 5]], &[2, 4, 5, 3]);
        assert_eq!(found, one("0>0 2:60>60 20:1>3 3:20>1"));
        let found = of(permute(&[1, 0, 2]), &[&[1, 4, 5]], &[4, 1, 5]);
        assert_eq!(found, one("0>0 20:1>1"));
        let found = of(Op::Slice { axis: 0, start: 2, length: 3 }, &[&[7, 4, 5]], &[3, 4, 5]);
        assert_eq!(found, one("40>0 60:1>1"));
        let found = of(Op::Broadcast([3, 4, 5].into()), &[&[4, 1]], &[3, 4, 5]);
        assert_eq!(found, one("0>0 3:0>20 4:1>5 5:0>1"));
        let found = of(Op::Broadcast([3, 4].into()), &[&[1]], &[3, 4]);
        assert_eq!(found, one("0>0 12:0>1"));
    }

    #[test]
    fn pieces_lie_side_by_side() {
        let found = of(Op::Pad { axis: 1, before: 1, after: 2 }, &[&[2, 3]], &[2, 6]);
        let zeros = |text: &str| (None, text.to_string());
        let x = (Some(0), "0>1 2:3>6 3:1>1".to_string());
        assert_eq!(found, [x, zeros("0>0 2:0>6"), zeros("0>4 2:0>6 2:0>1")]);
        let found = of(Op::Concat { axis: 1 }, &[&[2, 3], &[2, 0], &[2, 1]], &[2, 4]);
        let last = (Some(2), "0>3 2:1>4".to_string());
        assert_eq!(found, [(Some(0), "0>0 2:3>4 3:1>1".to_string()), last]);
    }
}
