// SPDX-License-Identifier: MIT OR Apache-2.0
//! Elements chosen by integers.

use super::Axis;
use crate::graph::Var;
use crate::op::{Mismatch, Op};

impl Var {
    /// The slices along an axis that `index` names; its extents, however many, take the place of the
    /// axis. An embedding is `table.take(0, &tokens)`: `[rows, width]` and `i32 [samples, length]`
    /// give `[samples, length, width]`.
    ///
    /// An index that names no slice is an error of the run where the indices are inputs of the
    /// network; where they are computed, it gives NaN. The gradient sums up, for each slice, in the
    /// order of the indices.
    pub fn take(&self, axis: impl Into<Axis>, index: &Var) -> Var {
        self.indexed("take", axis, |axis| self.apply(taken(axis), &[index]))
    }

    /// The slices along an axis that a list of indices names. As [`take`](Var::take).
    pub fn index_select(&self, axis: impl Into<Axis>, index: &Var) -> Var {
        match index.shape() {
            Some(shape) if shape.rank() != 1 => {
                self.mistake("index_select", Mismatch::new("indices of rank 1", shape))
            }
            _ => self.indexed("index_select", axis, |axis| self.apply(taken(axis), &[index])),
        }
    }

    /// For each index the element at its own place, but along an axis at the place that it names:
    /// `torch.gather`. `index` has the rank of `self` and is no larger, but for the axis. As for
    /// [`take`](Var::take), an index that names nothing is an error or gives NaN.
    pub fn gather(&self, axis: impl Into<Axis>, index: &Var) -> Var {
        let Some(wanted) = index.shape() else { return index.clone() };
        self.indexed("gather", axis, |axis| {
            // What no index can reach is left out.
            let narrowed =
                wanted.dims().iter().enumerate().fold(self.clone(), |x, (place, &extent)| match x
                    .shape()
                    .and_then(|shape| shape.dims().get(place).copied())
                {
                    Some(all) if place != axis && extent < all => x.narrow(place, 0, extent),
                    _ => x,
                });
            narrowed.apply(Op::Gather(axis), &[index])
        })
    }

    fn indexed(&self, op: &str, axis: impl Into<Axis>, record: impl FnOnce(usize) -> Var) -> Var {
        let Some(shape) = self.shape() else { return self.clone() };
        match axis.into().of(shape.rank()) {
            Ok(axis) => record(axis),
            Err(mistake) => self.mistake(op, mistake),
        }
    }
}

fn taken(axis: usize) -> Op {
    Op::Take { axis, padding: None }
}
