// SPDX-License-Identifier: MIT OR Apache-2.0
//! Elements chosen by integer indices.
//!
//! An index that names nothing gives NaN, and its gradient goes nowhere. Where the indices are inputs
//! of a run, they are looked at before it, and such an index is an error instead.

use super::pieces::around;
use super::{update::describe, Array, Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::{DType, Shape};

/// `(x, index) -> y`: the slices of `x` along an axis that the indices name. The extents of `index`
/// take the place of the axis.
pub(super) fn infer_take(inputs: &[&TensorType], axis: usize) -> Result<TensorType, Mismatch> {
    match inputs {
        [x, index] if is_table(x, axis) && index.dtype == DType::I32 => {
            let mut dims = x.shape.dims()[..axis].to_vec();
            dims.extend(index.shape.dims());
            dims.extend(&x.shape.dims()[axis + 1..]);
            Ok(TensorType::f32(Shape::from(dims).allowed()?))
        }
        _ => Err(Mismatch::new(wanted(axis), describe(inputs))),
    }
}

/// `(index, dy) -> dx` for a tensor with `rows` along the axis.
pub(super) fn infer_take_gradient(
    inputs: &[&TensorType],
    axis: usize,
    rows: usize,
) -> Result<TensorType, Mismatch> {
    let expected = || format!("indices and gradients of what they took along axis {axis}");
    let (index, dy) = match inputs {
        [index, dy] if index.dtype == DType::I32 && dy.dtype == DType::F32 => (index, dy),
        _ => return Err(Mismatch::new(expected(), describe(inputs))),
    };
    let behind = axis + index.shape.rank();
    if dy.shape.dims().get(axis..behind) != Some(index.shape.dims()) {
        return Err(Mismatch::new(expected(), describe(inputs)));
    }
    let mut dims = dy.shape.dims()[..axis].to_vec();
    dims.push(rows);
    dims.extend(&dy.shape.dims()[behind..]);
    Ok(TensorType::f32(Shape::from(dims).allowed()?))
}

pub(super) fn gradient_of_take(
    graph: &mut dyn Record,
    inputs: &[NodeId],
    (axis, padding): (usize, Option<usize>),
    dy: NodeId,
) -> Result<Vec<Option<NodeId>>, Mismatch> {
    let rows = graph.shape(inputs[0]).dims()[axis];
    let dx = graph.add(Op::TakeGrad { axis, rows, padding }, &[inputs[1], dy])?;
    Ok(vec![Some(dx), None])
}

pub(super) fn take(x: &Array, index: &Array, axis: usize) -> Array {
    let [outer, rows, inner] = around(&x.shape, axis);
    let mut dims = x.shape.dims()[..axis].to_vec();
    dims.extend(index.shape.dims());
    dims.extend(&x.shape.dims()[axis + 1..]);
    let mut data = Vec::with_capacity(Shape::from(&dims[..]).elements());
    for block in 0..outer {
        for &index in &index.data {
            match place(index, rows) {
                Some(row) => data.extend(&x.data[(block * rows + row) * inner..][..inner]),
                None => data.extend(std::iter::repeat_n(f64::NAN, inner)),
            }
        }
    }
    Array::new(dims.into(), data)
}

pub(super) fn take_gradient(
    index: &Array,
    dy: &Array,
    axis: usize,
    rows: usize,
    padding: Option<usize>,
) -> Array {
    let behind = axis + index.shape.rank();
    let mut dims = dy.shape.dims()[..axis].to_vec();
    dims.push(rows);
    dims.extend(&dy.shape.dims()[behind..]);
    let shape = Shape::from(dims);
    let [outer, _, inner] = around(&shape, axis);
    let mut dx = Array::zeros(&shape);
    for block in 0..outer {
        for (number, &index_value) in index.data.iter().enumerate() {
            let row = place(index_value, rows).filter(|&row| Some(row) != padding);
            let Some(row) = row else { continue };
            let from = &dy.data[(block * index.data.len() + number) * inner..][..inner];
            let to = &mut dx.data[(block * rows + row) * inner..][..inner];
            to.iter_mut().zip(from).for_each(|(sum, part)| *sum += part);
        }
    }
    dx
}

/// `(x, index) -> y` of the shape of `index`: the element of `x` at the same place but along the
/// axis, where the index says.
pub(super) fn infer_gather(inputs: &[&TensorType], axis: usize) -> Result<TensorType, Mismatch> {
    match inputs {
        [x, index] if is_table(x, axis) && fits(&index.shape, &x.shape, axis) => {
            match index.dtype {
                DType::I32 => Ok(TensorType::f32(index.shape.clone())),
                _ => Err(Mismatch::new(wanted(axis), describe(inputs))),
            }
        }
        _ => Err(Mismatch::new(
            format!("a tensor and i32 indices that differ along axis {axis} alone"),
            describe(inputs),
        )),
    }
}

/// `(index, dy) -> dx` of a shape.
pub(super) fn infer_gather_gradient(
    inputs: &[&TensorType],
    axis: usize,
    shape: &Shape,
) -> Result<TensorType, Mismatch> {
    match inputs {
        [index, dy]
            if index.dtype == DType::I32
                && index.shape == dy.shape
                && dy.dtype == DType::F32
                && fits(&index.shape, shape, axis) =>
        {
            Ok(TensorType::f32(shape.clone()))
        }
        _ => Err(Mismatch::new("indices and gradients of what they took", describe(inputs))),
    }
}

pub(super) fn gradient_of_gather(
    graph: &mut dyn Record,
    inputs: &[NodeId],
    axis: usize,
    dy: NodeId,
) -> Result<Vec<Option<NodeId>>, Mismatch> {
    let shape = graph.shape(inputs[0]).clone();
    let dx = graph.add(Op::GatherGrad(axis, shape), &[inputs[1], dy])?;
    Ok(vec![Some(dx), None])
}

pub(super) fn gather(x: &Array, index: &Array, axis: usize) -> Array {
    let sources = sources(&x.shape, index, axis);
    let value = |source: Option<usize>| source.map_or(f64::NAN, |at| x.data[at]);
    Array::new(index.shape.clone(), sources.map(value).collect())
}

pub(super) fn gather_gradient(index: &Array, dy: &Array, axis: usize, shape: &Shape) -> Array {
    let mut dx = Array::zeros(shape);
    for (source, dy) in sources(shape, index, axis).zip(&dy.data) {
        if let Some(at) = source {
            dx.data[at] += dy;
        }
    }
    dx
}

/// For each index, the number of the element that it names.
fn sources<'a>(
    shape: &'a Shape,
    index: &'a Array,
    axis: usize,
) -> impl Iterator<Item = Option<usize>> + 'a {
    index.data.iter().enumerate().map(move |(number, &value)| {
        let row = place(value, shape.dims()[axis])?;
        let (mut rest, mut at, mut stride) = (number, 0, 1);
        for (place, &extent) in index.shape.dims().iter().enumerate().rev() {
            let coordinate = if place == axis { row } else { rest % extent };
            at += coordinate * stride;
            stride *= shape.dims()[place];
            rest /= extent;
        }
        Some(at)
    })
}

/// The row that an index names, if there is one.
fn place(index: f64, rows: usize) -> Option<usize> {
    (index >= 0.0 && index < rows as f64).then_some(index as usize)
}

fn is_table(x: &TensorType, axis: usize) -> bool {
    x.dtype == DType::F32 && axis < x.shape.rank()
}

fn fits(index: &Shape, x: &Shape, axis: usize) -> bool {
    let extents = index.dims().iter().zip(x.dims()).enumerate();
    index.rank() == x.rank()
        && axis < x.rank()
        && extents.into_iter().all(|(place, (index, x))| place == axis || index == x)
}

fn wanted(axis: usize) -> String {
    format!("a floating-point tensor with an axis {axis} and i32 indices")
}
