// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weighted sums along one extent: what resampling, and means over uneven pieces, are.

use std::sync::Arc;

use super::{around, update::describe, Array, Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::{DType, Shape};

/// `x -> y`: along one extent each place of the result is a weighted sum of places of the operand.
///
/// Its gradient is the same operation with the terms the other way round.
#[derive(Clone, Debug, PartialEq)]
pub struct Blend {
    /// The extent.
    pub axis: usize,
    /// How many places the operand has along it.
    pub extent: usize,
    /// The terms of each place of the result, in the order in which they are added.
    pub places: Arc<Vec<Vec<Term>>>,
}

/// One term of a weighted sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The operand's place.
    pub from: usize,
    /// Its weight.
    pub weight: f64,
}

impl Blend {
    /// Weighted sums along an extent of so many places.
    pub fn new(axis: usize, extent: usize, places: Vec<Vec<Term>>) -> Self {
        Blend { axis, extent, places: Arc::new(places) }
    }

    /// Whether each place of the result is the operand's.
    pub fn is_identity(&self) -> bool {
        let is_itself =
            |(place, terms): (usize, &Vec<Term>)| *terms == [Term { from: place, weight: 1.0 }];
        self.places.len() == self.extent && self.places.iter().enumerate().all(is_itself)
    }

    /// What gives the gradient with respect to the operand.
    fn transposed(&self) -> Self {
        let mut places = vec![Vec::new(); self.extent];
        for (place, terms) in self.places.iter().enumerate() {
            for term in terms {
                places[term.from].push(Term { from: place, weight: term.weight });
            }
        }
        Blend::new(self.axis, self.places.len(), places)
    }

    pub(super) fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let expected =
            || format!("a tensor with {} places along extent {}", self.extent, self.axis);
        let [x] = inputs else { return Err(Mismatch::new(expected(), describe(inputs))) };
        let in_range = self.places.iter().flatten().all(|term| term.from < self.extent);
        let fits = x.shape.dims().get(self.axis) == Some(&self.extent) && x.dtype == DType::F32;
        match fits && in_range {
            true => Ok(TensorType::f32(self.result(&x.shape))),
            false => Err(Mismatch::new(expected(), x)),
        }
    }

    pub(super) fn gradient(&self, graph: &mut dyn Record, dy: NodeId) -> Result<NodeId, Mismatch> {
        graph.add(Op::Blend(self.transposed()), &[dy])
    }

    pub(super) fn eval(&self, x: &Array) -> Array {
        let [outer, extent, inner] = around(&x.shape, self.axis);
        let mut data = Vec::with_capacity(outer * self.places.len() * inner);
        for block in 0..outer {
            for terms in self.places.iter() {
                data.extend((0..inner).map(|at| {
                    let value = |term: &Term| {
                        term.weight * x.data[(block * extent + term.from) * inner + at]
                    };
                    terms.iter().map(value).sum::<f64>()
                }));
            }
        }
        Array::new(self.result(&x.shape), data)
    }

    fn result(&self, x: &Shape) -> Shape {
        let mut dims = x.dims().to_vec();
        dims[self.axis] = self.places.len();
        dims.into()
    }
}
