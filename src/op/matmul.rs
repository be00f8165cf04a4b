// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matrix products.

use super::{update::describe, Array, Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::{DType, Precision, Shape};

/// How a factor of a product is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As it is.
    Plain,
    /// Transposed.
    Transposed,
}

/// `left * right`, either factor taken transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMul {
    /// How the left factor is taken.
    pub left: Order,
    /// How the right factor is taken.
    pub right: Order,
    /// What both factors are rounded to before they are multiplied.
    pub factors: Precision,
}

impl MatMul {
    /// `x * w^T`: a linear layer, whose weight is `[out, in]`.
    pub const LINEAR: MatMul = MatMul::new(Order::Plain, Order::Transposed);
    /// `dy * w`: a linear layer's gradient with respect to its input.
    pub const INPUT_GRADIENT: MatMul = MatMul::new(Order::Plain, Order::Plain);
    /// `dy^T * x`: a linear layer's gradient with respect to its weight.
    pub const WEIGHT_GRADIENT: MatMul = MatMul::new(Order::Transposed, Order::Plain);

    /// A product of factors as they are.
    pub const fn new(left: Order, right: Order) -> Self {
        MatMul { left, right, factors: Precision::F32 }
    }

    /// Whether the factors are taken in the same way as those of another product.
    pub(crate) fn is_like(self, other: MatMul) -> bool {
        (self.left, self.right) == (other.left, other.right)
    }

    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let [a, b] = inputs else {
            return Err(Mismatch::new("two matrices", describe(inputs)));
        };
        let ([a0, a1], [b0, b1]) = (a.shape.dims(), b.shape.dims()) else {
            return Err(Mismatch::new("two matrices", describe(inputs)));
        };
        let (rows, inner) = self.left.pick(*a0, *a1);
        let (inner_right, columns) = self.right.pick(*b0, *b1);
        if inner != inner_right || a.dtype != DType::F32 || b.dtype != DType::F32 {
            return Err(Mismatch::new("matrices with equal inner extents", describe(inputs)));
        }
        Ok(TensorType::f32([rows, columns].into()))
    }

    /// The shape rule of a product of each pair of a batch: `[b, m, k]` times `[b, k, n]`.
    pub(super) fn infer_batch(self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let expected = "two batches of as many matrices";
        let (a, b) = match inputs {
            [a, b] if a.shape.rank() == 3 && b.shape.rank() == 3 => (a, b),
            _ => return Err(Mismatch::new(expected, describe(inputs))),
        };
        if a.shape.samples() != b.shape.samples() {
            return Err(Mismatch::new(expected, describe(inputs)));
        }
        let matrix =
            |ty: &TensorType| TensorType { shape: ty.shape.dims()[1..].into(), ..ty.clone() };
        let product = self
            .infer(&[&matrix(a), &matrix(b)])
            .map_err(|mismatch| Mismatch::new(mismatch.expected, describe(inputs)))?;
        let [rows, columns] = [product.shape.dims()[0], product.shape.last()];
        Ok(TensorType::f32([a.shape.samples(), rows, columns].into()))
    }

    /// The gradient of a product, or of a batch of them; `of` makes an operation of a product.
    pub(super) fn gradient(
        self,
        of: fn(MatMul) -> Op,
        graph: &mut dyn Record,
        inputs: &[NodeId],
        dy: NodeId,
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let (a, b) = (inputs[0], inputs[1]);
        let mut product = |left, left_order, right, right_order| {
            graph.add(of(MatMul::new(left_order, right_order)), &[left, right])
        };
        let da = match self.left {
            Order::Plain => product(dy, Order::Plain, b, self.right.flipped())?,
            Order::Transposed => product(b, self.right, dy, Order::Transposed)?,
        };
        let db = match self.right {
            Order::Plain => product(a, self.left.flipped(), dy, Order::Plain)?,
            Order::Transposed => product(dy, Order::Transposed, a, self.left)?,
        };
        Ok(vec![Some(da), Some(db)])
    }

    pub(super) fn eval_batch(self, a: &Array, b: &Array) -> Array {
        let of = |array: &Array, index: usize| {
            let matrix = Shape::from(&array.shape.dims()[1..]);
            let elements = matrix.elements();
            Array::new(matrix, array.data[index * elements..][..elements].to_vec())
        };
        let [a_rows, a_columns] = [a.shape.dims()[1], a.shape.dims()[2]];
        let [b_rows, b_columns] = [b.shape.dims()[1], b.shape.dims()[2]];
        let (rows, _) = self.left.pick(a_rows, a_columns);
        let (_, columns) = self.right.pick(b_rows, b_columns);
        let batch = a.shape.samples();
        let products = (0..batch).flat_map(|index| self.eval(&of(a, index), &of(b, index)).data);
        Array::new([batch, rows, columns].into(), products.collect())
    }

    pub(super) fn eval(self, a: &Array, b: &Array) -> Array {
        let (rows, inner) = self.left.pick(a.shape.dims()[0], a.shape.dims()[1]);
        let (_, columns) = self.right.pick(b.shape.dims()[0], b.shape.dims()[1]);
        let at = |array: &Array, order: Order, row: usize, column: usize| {
            let (row, column) = order.pick(row, column);
            array.data[row * array.shape.dims()[1] + column]
        };
        let rounded = |factor: &Array| {
            let round = |&value: &f64| f64::from(self.factors.round(value as f32));
            Array::new(factor.shape.clone(), factor.data.iter().map(round).collect())
        };
        let (a, b) = match self.factors {
            Precision::F32 => (a, b),
            _ => (&rounded(a), &rounded(b)),
        };
        let mut data = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let term = |k| at(a, self.left, row, k) * at(b, self.right, k, column);
                data.push((0..inner).map(term).sum());
            }
        }
        Array::new([rows, columns].into(), data)
    }
}

impl Order {
    fn pick<T>(self, first: T, second: T) -> (T, T) {
        match self {
            Order::Plain => (first, second),
            Order::Transposed => (second, first),
        }
    }

    fn flipped(self) -> Order {
        match self {
            Order::Plain => Order::Transposed,
            Order::Transposed => Order::Plain,
        }
    }
}
