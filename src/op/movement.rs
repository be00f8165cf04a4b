// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that move elements or sum them up along extents.

use super::{update::describe, Array, Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::{DType, Shape};

pub(super) fn infer_reshape(inputs: &[&TensorType], shape: &Shape) -> Result<TensorType, Mismatch> {
    let shape = &shape.clone().allowed()?;
    match inputs {
        [x] if x.shape.elements() == shape.elements() => {
            Ok(TensorType { shape: shape.clone(), dtype: x.dtype })
        }
        _ => Err(Mismatch::new(
            format!("{} elements for shape {shape}", shape.elements()),
            describe(inputs),
        )),
    }
}

pub(super) fn infer_broadcast(
    inputs: &[&TensorType],
    shape: &Shape,
) -> Result<TensorType, Mismatch> {
    match inputs {
        [x] if x.shape.broadcasts_to(shape) => {
            Ok(TensorType { shape: shape.clone(), dtype: x.dtype })
        }
        _ => Err(Mismatch::new(format!("a shape that broadcasts to {shape}"), describe(inputs))),
    }
}

pub(super) fn infer_sum_to(inputs: &[&TensorType], shape: &Shape) -> Result<TensorType, Mismatch> {
    match inputs {
        [x] if x.dtype != DType::F32 => Err(Mismatch::new("a floating-point tensor", x)),
        [x] if shape.broadcasts_to(&x.shape) => Ok(TensorType::f32(shape.clone())),
        _ => Err(Mismatch::new(format!("a shape that {shape} broadcasts to"), describe(inputs))),
    }
}

pub(super) fn infer_transpose(inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match inputs {
        [x] => match x.shape.dims() {
            [rows, columns] => Ok(TensorType { shape: [*columns, *rows].into(), dtype: x.dtype }),
            _ => Err(Mismatch::new("a matrix", x)),
        },
        _ => Err(Mismatch::new("one matrix", describe(inputs))),
    }
}

pub(super) fn infer_to_format(inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match inputs {
        [x] if x.shape.rank() >= 3 => Ok((*x).clone()),
        _ => Err(Mismatch::new("an image of rank 3 or more", describe(inputs))),
    }
}

pub(super) fn gradient_of_reshape(
    graph: &mut dyn Record,
    x: NodeId,
    dy: NodeId,
) -> Result<NodeId, Mismatch> {
    let shape = graph.shape(x).clone();
    graph.add(Op::Reshape(shape), &[dy])
}

pub(super) fn gradient_of_broadcast(
    graph: &mut dyn Record,
    x: NodeId,
    dy: NodeId,
) -> Result<NodeId, Mismatch> {
    let shape = graph.shape(x).clone();
    graph.add(Op::SumTo(shape), &[dy])
}

pub(super) fn gradient_of_sum_to(
    graph: &mut dyn Record,
    x: NodeId,
    dy: NodeId,
) -> Result<NodeId, Mismatch> {
    let shape = graph.shape(x).clone();
    graph.add(Op::Broadcast(shape), &[dy])
}

pub(super) fn broadcast(x: &Array, shape: &Shape) -> Array {
    let source = source_indices(&x.shape, shape);
    Array::new(shape.clone(), source.into_iter().map(|index| x.data[index]).collect())
}

pub(super) fn sum_to(x: &Array, shape: &Shape) -> Array {
    let mut sum = Array::zeros(shape);
    for (value, target) in x.data.iter().zip(source_indices(shape, &x.shape)) {
        sum.data[target] += value;
    }
    sum
}

pub(super) fn transpose(x: &Array) -> Array {
    let (rows, columns) = (x.shape.dims()[0], x.shape.dims()[1]);
    let data = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| (row, column)))
        .map(|(row, column)| x.data[row * columns + column])
        .collect();
    Array::new([columns, rows].into(), data)
}

/// For every element of `large`, the index of the element of `small` that broadcasting puts there.
pub(super) fn source_indices(small: &Shape, large: &Shape) -> Vec<usize> {
    let missing = large.rank() - small.rank();
    let mut strides = vec![0; large.rank()];
    let mut stride = 1;
    for axis in (0..small.rank()).rev() {
        let extent = small.dims()[axis];
        strides[missing + axis] = if extent == 1 { 0 } else { stride };
        stride *= extent;
    }
    let mut indices = Vec::with_capacity(large.elements());
    let mut position = vec![0; large.rank()];
    for _ in 0..large.elements() {
        indices.push(position.iter().zip(&strides).map(|(p, s)| p * s).sum());
        for axis in (0..large.rank()).rev() {
            position[axis] += 1;
            if position[axis] < large.dims()[axis] {
                break;
            }
            position[axis] = 0;
        }
    }
    indices
}
