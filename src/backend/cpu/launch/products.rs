// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matrix products, with what is fused to them.

use super::super::operands::Operands;
use super::super::path::Layer;
use super::super::simd::{self, Activation, GradientTail, Start, Strides};
use super::elements::activation;
use super::updates::updates;
use super::{internal, write, Launch};
use crate::graph::NodeId;
use crate::kernel::{Bias, BiasGradient, LinearTail, Sink};
use crate::op::{MatMul, Order, Store};
use crate::Result;

impl Launch<'_> {
    pub(super) fn linear(mut self, tail: LinearTail) -> Result<()> {
        let Layer { rows, layout } = Layer::of(self.plan, self.step);
        let output = self.shape(self.step.outputs[0]);
        let start = match tail.bias {
            Bias::Added => Start::Bias(self.operands.reads[2].values()?),
            Bias::Absent => Start::Zero,
        };
        let dropout = tail.dropout.map(|dropout| simd::Dropout {
            key: dropout.key(self.scalars),
            first_sample: self.scalars.sample_offset,
            rows_per_sample: (output.sample_elements() / layout.outputs).max(1),
            rows: simd::MaskRows::Own,
        });
        let forward = simd::Forward {
            layout,
            rows,
            x: self.operands.reads[0].values()?,
            x_stride: layout.inputs,
            weight: self.operands.reads[1].values()?,
            start,
            activation: tail.activation.map_or(Ok(Activation::None), activation)?,
            dropout,
            y: write(&mut self.operands, 0)?,
            y_stride: layout.outputs,
        };
        forward.run(&self.engine.pool, self.engine.isa);
        Ok(())
    }

    pub(super) fn input_gradient(mut self, mask: Option<f64>) -> Result<()> {
        let Layer { rows, layout } = Layer::of(self.plan, self.step);
        let mask = match mask {
            Some(scale) => {
                let y = self.operands.reads[2].values()?;
                Some(simd::MaskNonZero { y, scale: scale as f32 })
            }
            None => None,
        };
        let gradient = simd::InputGradient {
            layout,
            rows,
            dy: self.operands.reads[0].values()?,
            dy_stride: layout.outputs,
            weight: self.operands.reads[1].values()?,
            mask,
            dx: write(&mut self.operands, 0)?,
            dx_stride: layout.inputs,
        };
        gradient.run(&self.engine.pool, self.engine.isa);
        Ok(())
    }

    pub(super) fn weight_gradient(self, sink: Sink, bias: BiasGradient) -> Result<()> {
        let Layer { rows, layout } = Layer::of(self.plan, self.step);
        let (plan, step, run) = (self.plan, self.step, (self.scalars, self.training.update()));
        let Operands { reads, writes, moments } = self.operands;
        let summed = self.summed.unwrap_or(reads[0]);
        let tails: Vec<GradientTail<'_>> = match sink {
            Sink::Store(Store::Overwrite) => {
                writes.into_iter().map(GradientTail::Overwrite).collect()
            }
            Sink::Store(Store::Accumulate) => {
                writes.into_iter().map(GradientTail::Accumulate).collect()
            }
            Sink::Update(_) => {
                let updates = updates(plan, step, run, (writes, moments)).into_iter();
                let tail = |(rule, updated)| GradientTail::Update { rule, scale: 1.0, updated };
                updates.map(tail).collect()
            }
        };
        let mut tails = tails.into_iter();
        let gradient = simd::WeightGradient {
            layout,
            rows,
            dy: reads[0].values()?,
            dy_stride: layout.outputs,
            bias_dy: summed.values()?,
            x: reads[1].values()?,
            x_stride: layout.inputs,
            weight: tails.next().ok_or_else(|| internal("a weight gradient goes nowhere"))?,
            bias: tails.next().filter(|_| bias == BiasGradient::Computed),
            readers: self.readers,
        };
        gradient.run(&self.engine.pool, self.engine.isa);
        Ok(())
    }

    /// A product of odd or rare shape.
    pub(super) fn matmul(self, product: MatMul) -> Result<()> {
        self.products(product, 1)
    }

    pub(super) fn batch_matmul(self, product: MatMul) -> Result<()> {
        let batch = self.shape(self.step.outputs[0]).samples();
        self.products(product, batch)
    }

    /// As many products as `batch` says, of matrices in the last two extents.
    fn products(mut self, product: MatMul, batch: usize) -> Result<()> {
        let matrix = |node: NodeId| {
            let dims = self.shape(node).dims();
            (dims[dims.len() - 2], dims[dims.len() - 1])
        };
        let (rows, columns) = matrix(self.step.outputs[0]);
        let ((a_rows, a_columns), (_, b_columns)) =
            (matrix(self.step.inputs[0]), matrix(self.step.inputs[1]));
        let strides = |order: Order, columns: usize| match order {
            Order::Plain => Strides { row: columns as isize, column: 1 },
            Order::Transposed => Strides { row: 1, column: columns as isize },
        };
        let inner = match product.left {
            Order::Plain => a_columns,
            Order::Transposed => a_rows,
        };
        let (a, b) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        simd::matmul(
            &self.engine.pool,
            batch,
            [rows, inner, columns],
            (a, strides(product.left, a_columns)),
            (b, strides(product.right, b_columns)),
            write(&mut self.operands, 0)?,
        );
        Ok(())
    }
}
