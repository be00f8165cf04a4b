// SPDX-License-Identifier: MIT OR Apache-2.0
//! Largest and smallest elements along extents, and where they are.

use super::movement::source_indices;
use super::{update::describe, Array, Binary, Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::{DType, Shape};

/// Which end of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extremum {
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// The largest or smallest element along some extents, each of which becomes 1; NaN if there is one.
/// Equal ones share the gradient evenly, as in `torch.amax`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extreme {
    /// Which of the elements.
    pub kind: Extremum,
    /// The extents that become 1, in ascending order.
    pub axes: Vec<usize>,
}

/// Where along one extent, which becomes 1, the largest or smallest element is: the first of equal
/// ones. NaN counts as the largest and as the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgExtreme {
    /// Which of the elements.
    pub kind: Extremum,
    /// The extent.
    pub axis: usize,
}

impl Extremum {
    /// Whether `a` takes the place of `b`, the most extreme element before it.
    pub fn replaces(self, a: f64, b: f64) -> bool {
        match self {
            _ if b.is_nan() => false,
            _ if a.is_nan() => true,
            Extremum::Max => a > b,
            Extremum::Min => a < b,
        }
    }
}

impl Extreme {
    /// Name of the operation.
    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Extremum::Max => "max",
            Extremum::Min => "min",
        }
    }

    pub(super) fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let shape = reduced(inputs, &self.axes)?;
        Ok(TensorType::f32(shape))
    }

    pub(super) fn gradient(
        &self,
        graph: &mut dyn Record,
        x: NodeId,
        y: NodeId,
        dy: NodeId,
    ) -> Result<NodeId, Mismatch> {
        let (shape, reduced) = (graph.shape(x).clone(), graph.shape(y).clone());
        let stretched = graph.add(Op::Broadcast(shape.clone()), &[y])?;
        let extreme = graph.add(Op::Binary(Binary::Equal), &[x, stretched])?;
        let count = graph.add(Op::SumTo(reduced), &[extreme])?;
        let share = graph.add(Op::Binary(Binary::Divide), &[dy, count])?;
        let share = graph.add(Op::Broadcast(shape), &[share])?;
        graph.add(Op::Binary(Binary::Multiply), &[extreme, share])
    }

    pub(super) fn eval(&self, x: &Array) -> Array {
        let shape = without(&x.shape, &self.axes);
        let mut extremes: Vec<Option<f64>> = vec![None; shape.elements()];
        for (&value, target) in x.data.iter().zip(source_indices(&shape, &x.shape)) {
            let place = &mut extremes[target];
            if place.is_none_or(|known| self.kind.replaces(value, known)) {
                *place = Some(value);
            }
        }
        Array::new(shape, extremes.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }
}

impl ArgExtreme {
    /// Name of the operation.
    pub(super) fn name(self) -> &'static str {
        match self.kind {
            Extremum::Max => "argmax",
            Extremum::Min => "argmin",
        }
    }

    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let shape = reduced(inputs, &[self.axis])?;
        Ok(TensorType::i32(shape))
    }

    pub(super) fn eval(self, x: &Array) -> Array {
        let shape = without(&x.shape, &[self.axis]);
        let inner = Shape::from(&x.shape.dims()[self.axis + 1..]).elements();
        let extent = x.shape.dims()[self.axis];
        let mut extremes: Vec<Option<(f64, usize)>> = vec![None; shape.elements()];
        let targets = source_indices(&shape, &x.shape);
        for (index, (&value, target)) in x.data.iter().zip(targets).enumerate() {
            let place = &mut extremes[target];
            if place.is_none_or(|(known, _)| self.kind.replaces(value, known)) {
                *place = Some((value, index / inner % extent));
            }
        }
        let index = |place: Option<(f64, usize)>| place.map_or(0.0, |(_, index)| index as f64);
        Array::new(shape, extremes.into_iter().map(index).collect())
    }
}

/// The shape that remains when elements are chosen along some extents.
fn reduced(inputs: &[&TensorType], axes: &[usize]) -> Result<Shape, Mismatch> {
    let x = match inputs {
        [x] if x.dtype == DType::F32 => x,
        _ => return Err(Mismatch::new("one floating-point tensor", describe(inputs))),
    };
    if !axes.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(Mismatch::new("each axis once, in order", format!("{axes:?}")));
    }
    match axes.iter().find(|&&axis| x.shape.dims().get(axis).is_none_or(|&extent| extent == 0)) {
        Some(axis) => Err(Mismatch::new(format!("elements along axis {axis}"), x)),
        None => Ok(without(&x.shape, axes)),
    }
}

/// A shape with some extents set to 1.
fn without(shape: &Shape, axes: &[usize]) -> Shape {
    let mut dims = shape.dims().to_vec();
    axes.iter().for_each(|&axis| dims[axis] = 1);
    dims.into()
}
