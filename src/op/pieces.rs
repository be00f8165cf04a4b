// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that put extents in another order, cut tensors into pieces and join them.

use super::{update::describe, Array, Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::Shape;

pub(super) fn infer_permute(
    inputs: &[&TensorType],
    axes: &[usize],
) -> Result<TensorType, Mismatch> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    match inputs {
        [x] if sorted.iter().copied().eq(0..x.shape.rank()) => {
            let dims: Vec<usize> = axes.iter().map(|&axis| x.shape.dims()[axis]).collect();
            Ok(TensorType { shape: dims.into(), dtype: x.dtype })
        }
        _ => Err(Mismatch::new(format!("a tensor with the axes {sorted:?}"), describe(inputs))),
    }
}

pub(super) fn infer_slice(
    inputs: &[&TensorType],
    axis: usize,
    start: usize,
    length: usize,
) -> Result<TensorType, Mismatch> {
    let end = start.saturating_add(length);
    match inputs {
        [x] if x.shape.dims().get(axis).is_some_and(|&extent| end <= extent) => {
            Ok(TensorType { shape: with_extent(&x.shape, axis, length), dtype: x.dtype })
        }
        _ => {
            let expected = format!("{end} or more along axis {axis}");
            Err(Mismatch::new(expected, describe(inputs)))
        }
    }
}

pub(super) fn infer_pad(
    inputs: &[&TensorType],
    axis: usize,
    before: usize,
    after: usize,
) -> Result<TensorType, Mismatch> {
    match inputs {
        [x] if axis < x.shape.rank() => {
            let extent = x.shape.dims()[axis].saturating_add(before).saturating_add(after);
            let shape = with_extent(&x.shape, axis, extent).allowed()?;
            Ok(TensorType { shape, dtype: x.dtype })
        }
        _ => Err(Mismatch::new(format!("a tensor with an axis {axis}"), describe(inputs))),
    }
}

pub(super) fn infer_concat(inputs: &[&TensorType], axis: usize) -> Result<TensorType, Mismatch> {
    let expected = || format!("tensors that differ along axis {axis} alone");
    let first = match inputs {
        [first, ..] if axis < first.shape.rank() => first,
        _ => return Err(Mismatch::new(expected(), describe(inputs))),
    };
    let mut extent = 0usize;
    for x in inputs {
        if x.dtype != first.dtype
            || x.shape.rank() != first.shape.rank()
            || with_extent(&x.shape, axis, 1) != with_extent(&first.shape, axis, 1)
        {
            return Err(Mismatch::new(expected(), describe(inputs)));
        }
        extent = extent.saturating_add(x.shape.dims()[axis]);
    }
    let shape = with_extent(&first.shape, axis, extent).allowed()?;
    Ok(TensorType { shape, dtype: first.dtype })
}

pub(super) fn gradient_of_permute(
    graph: &mut dyn Record,
    axes: &[usize],
    dy: NodeId,
) -> Result<NodeId, Mismatch> {
    let mut back = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    graph.add(Op::Permute(back), &[dy])
}

pub(super) fn gradient_of_slice(
    graph: &mut dyn Record,
    x: NodeId,
    (axis, start, length): (usize, usize, usize),
    dy: NodeId,
) -> Result<NodeId, Mismatch> {
    let after = graph.shape(x).dims()[axis] - start - length;
    graph.add(Op::Pad { axis, before: start, after }, &[dy])
}

pub(super) fn gradient_of_pad(
    graph: &mut dyn Record,
    x: NodeId,
    (axis, before): (usize, usize),
    dy: NodeId,
) -> Result<NodeId, Mismatch> {
    let length = graph.shape(x).dims()[axis];
    graph.add(Op::Slice { axis, start: before, length }, &[dy])
}

pub(super) fn gradient_of_concat(
    graph: &mut dyn Record,
    inputs: &[NodeId],
    axis: usize,
    dy: NodeId,
) -> Result<Vec<Option<NodeId>>, Mismatch> {
    let mut start = 0;
    let mut pieces = Vec::with_capacity(inputs.len());
    for &input in inputs {
        let length = graph.shape(input).dims()[axis];
        pieces.push(Some(graph.add(Op::Slice { axis, start, length }, &[dy])?));
        start += length;
    }
    Ok(pieces)
}

pub(super) fn permute(x: &Array, axes: &[usize]) -> Array {
    let dims: Vec<usize> = axes.iter().map(|&axis| x.shape.dims()[axis]).collect();
    let shape = Shape::from(dims);
    let mut strides = vec![1; axes.len()];
    for axis in (1..axes.len()).rev() {
        strides[axis - 1] = strides[axis] * x.shape.dims()[axis];
    }
    let source = |index: usize| {
        let (mut rest, mut at) = (index, 0);
        for (place, &axis) in axes.iter().enumerate().rev() {
            at += rest % shape.dims()[place] * strides[axis];
            rest /= shape.dims()[place];
        }
        x.data[at]
    };
    let data = (0..x.data.len()).map(source).collect();
    Array::new(shape, data)
}

pub(super) fn slice(x: &Array, axis: usize, start: usize, length: usize) -> Array {
    let shape = with_extent(&x.shape, axis, length);
    let [_, extent, inner] = around(&x.shape, axis);
    let blocks = x.data.chunks_exact((extent * inner).max(1));
    let data = blocks.flat_map(|block| &block[start * inner..][..length * inner]).copied();
    Array::new(shape, data.collect())
}

pub(super) fn pad(x: &Array, axis: usize, before: usize, after: usize) -> Array {
    let [outer, extent, inner] = around(&x.shape, axis);
    let shape = with_extent(&x.shape, axis, before + extent + after);
    let mut data = Vec::with_capacity(shape.elements());
    for index in 0..outer {
        data.extend(std::iter::repeat_n(0.0, before * inner));
        data.extend(&x.data[index * extent * inner..][..extent * inner]);
        data.extend(std::iter::repeat_n(0.0, after * inner));
    }
    Array::new(shape, data)
}

pub(super) fn concat(inputs: &[&Array], axis: usize) -> Array {
    let extent = inputs.iter().map(|x| x.shape.dims()[axis]).sum();
    let shape = with_extent(&inputs[0].shape, axis, extent);
    let mut data = Vec::with_capacity(shape.elements());
    for index in 0..around(&shape, axis)[0] {
        for x in inputs {
            let [_, extent, inner] = around(&x.shape, axis);
            data.extend(&x.data[index * extent * inner..][..extent * inner]);
        }
    }
    Array::new(shape, data)
}

/// A shape as the extents before an axis, the axis, and the extents behind it.
pub(crate) fn around(shape: &Shape, axis: usize) -> [usize; 3] {
    let (before, rest) = shape.dims().split_at(axis);
    [Shape::from(before).elements(), rest[0], Shape::from(&rest[1..]).elements()]
}

fn with_extent(shape: &Shape, axis: usize, extent: usize) -> Shape {
    let mut dims = shape.dims().to_vec();
    dims[axis] = extent;
    dims.into()
}
