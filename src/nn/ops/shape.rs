// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same elements under other extents.

use super::Axis;
use crate::graph::Var;
use crate::op::{Mismatch, Op};
use crate::Shape;

impl Var {
    /// The same elements under another shape.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Var {
        let shape = shape.into();
        if self.shape().as_ref() == Some(&shape) {
            return self.clone();
        }
        self.apply(Op::Reshape(shape), &[])
    }

    /// Merges all extents from `start` on into one.
    pub fn flatten(&self, start: usize) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        if start >= shape.rank() {
            let expected = format!("a tensor of rank {} or more", start + 1);
            return self.mistake("flatten", Mismatch::new(expected, &shape));
        }
        let mut dims = shape.dims()[..start].to_vec();
        dims.push(Shape::from(&shape.dims()[start..]).elements());
        self.reshape(Shape::from(dims))
    }

    /// The transpose of a matrix.
    pub fn t(&self) -> Var {
        self.apply(Op::Transpose, &[])
    }

    /// Exchanges two axes.
    pub fn transpose(&self, a: impl Into<Axis>, b: impl Into<Axis>) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        let rank = shape.rank();
        let (a, b) = match (a.into().of(rank), b.into().of(rank)) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(mistake), _) | (_, Err(mistake)) => return self.mistake("transpose", mistake),
        };
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(a, b);
        self.permuted(axes)
    }

    /// Puts the axes in another order: the old number of each new one.
    pub fn permute(&self, axes: impl IntoIterator<Item = impl Into<Axis>>) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        let order: Vec<Axis> = axes.into_iter().map(Into::into).collect();
        let rank = shape.rank();
        if order.len() != rank {
            let (expected, got) = (format!("{rank} axes for {shape}"), order.len());
            return self.mistake("permute", Mismatch::new(expected, got));
        }
        let numbers: Result<Vec<usize>, _> = order.iter().map(|axis| axis.of(rank)).collect();
        let distinct = match rank {
            0 => Ok(vec![]),
            _ => Axis::all(order.iter().copied(), rank),
        };
        match (numbers, distinct) {
            (Ok(numbers), Ok(_)) => self.permuted(numbers),
            (Err(mistake), _) | (_, Err(mistake)) => self.mistake("permute", mistake),
        }
    }

    /// Removes an extent of 1.
    pub fn squeeze(&self, axis: impl Into<Axis>) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        let axis = match axis.into().of(shape.rank()) {
            Ok(axis) => axis,
            Err(mistake) => return self.mistake("squeeze", mistake),
        };
        let mut dims = shape.dims().to_vec();
        match dims.remove(axis) {
            1 => self.reshape(dims),
            _ => {
                let expected = format!("an extent of 1 at axis {axis}");
                self.mistake("squeeze", Mismatch::new(expected, &shape))
            }
        }
    }

    /// Inserts an extent of 1 before an axis; -1 is behind all.
    pub fn unsqueeze(&self, axis: impl Into<Axis>) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        match axis.into().of(shape.rank() + 1) {
            Ok(axis) => {
                let mut dims = shape.dims().to_vec();
                dims.insert(axis, 1);
                self.reshape(dims)
            }
            Err(mistake) => self.mistake("unsqueeze", mistake),
        }
    }

    /// Repeats the elements along extents of 1 and new leading ones, as broadcasting does.
    pub fn expand(&self, shape: impl Into<Shape>) -> Var {
        let shape = shape.into();
        match self.shape().as_ref() == Some(&shape) {
            true => self.clone(),
            false => self.apply(Op::Broadcast(shape), &[]),
        }
    }

    /// Axes in an order that is known to be one.
    fn permuted(&self, axes: Vec<usize>) -> Var {
        match axes.as_slice() {
            [1, 0] => self.t(),
            axes if axes.is_sorted() => self.clone(),
            _ => self.apply(Op::Permute(axes), &[]),
        }
    }
}
