// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matrix products.

use crate::graph::Var;
use crate::op::{MatMul, Mismatch, Op, Order};
use crate::Shape;

impl Var {
    /// Product of two matrices, or of the matrices in the last two extents of two tensors: `[..., m,
    /// k]` times `[..., k, n]`. The extents before them are broadcast.
    pub fn matmul(&self, other: &Var) -> Var {
        self.product(MatMul::INPUT_GRADIENT, other)
    }

    /// Product of a matrix and the transpose of another, or of those in the last two extents of two
    /// tensors: `[..., m, k]` times the transpose of `[..., n, k]`. The extents before them are
    /// broadcast.
    pub fn matmul_transposed(&self, other: &Var) -> Var {
        self.product(MatMul::LINEAR, other)
    }

    /// A product whose left factor is taken as it is.
    fn product(&self, product: MatMul, other: &Var) -> Var {
        let (Some(a), Some(b)) = (self.shape(), other.shape()) else {
            return if self.shape().is_none() { self.clone() } else { other.clone() };
        };
        if a.rank() <= 2 && b.rank() <= 2 {
            return self.apply(Op::MatMul(product), &[other]);
        }
        let refuse = |expected: &str| {
            self.mistake("matmul", Mismatch::new(expected, format!("{a} and {b}")))
        };
        let ([a_batch @ .., rows, inner], [b_batch @ .., b_rows, b_columns]) = (a.dims(), b.dims())
        else {
            return refuse("tensors of rank 2 or more");
        };
        let (b_inner, columns) = match product.right {
            Order::Plain => (b_rows, b_columns),
            Order::Transposed => (b_columns, b_rows),
        };
        if inner != b_inner {
            return refuse("matrices with equal inner extents");
        }
        let (a_batch, b_batch) = (Shape::from(a_batch), Shape::from(b_batch));
        let Some(batch) = a_batch.broadcast_with(&b_batch) else {
            return refuse("extents before the matrices that broadcast to one another");
        };
        let whole =
            |batch: &Shape, matrix: [usize; 2]| Shape::from([batch.dims(), &matrix[..]].concat());
        // One right factor for all: the left ones are one matrix. Where both sides are of one sample, it stays one
        // sample with an extent of its own.
        let is_shared = b_batch.rank() == 0 || a_batch.elements() != 1;
        if is_shared && b_batch.elements() == 1 && batch == a_batch {
            let left = self.reshape([a_batch.elements() * rows, *inner]);
            let right = other.reshape([*b_rows, *b_columns]);
            let y = left.apply(Op::MatMul(product), &[&right]);
            return y.reshape(whole(&batch, [*rows, *columns]));
        }
        let spread = |factor: &Var, matrix: [usize; 2]| {
            let all = factor.expand(whole(&batch, matrix));
            all.reshape([batch.elements(), matrix[0], matrix[1]])
        };
        let (left, right) = (spread(self, [*rows, *inner]), spread(other, [*b_rows, *b_columns]));
        let y = left.apply(Op::BatchMatMul(product), &[&right]);
        y.reshape(whole(&batch, [*rows, *columns]))
    }
}
