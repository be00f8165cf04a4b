// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element by element, and values that only move.

use super::super::operands::{Operands, Read};
use super::super::simd::{self, Activation};
use super::{internal, write, Launch};
use crate::kernel::Chain;
use crate::op::{Dropout, Unary};
use crate::Result;

impl Launch<'_> {
    pub(super) fn chain(self, chain: &Chain) -> Result<()> {
        let Operands { reads, writes, .. } = self.operands;
        let reads = reads.into_iter().map(Read::values).collect::<Result<Vec<_>>>()?;
        simd::chain(&self.engine.pool, self.engine.isa, chain, &reads, writes);
        Ok(())
    }

    pub(super) fn dropout(mut self, dropout: Dropout) -> Result<()> {
        let shape = self.shape(self.step.inputs[0]);
        let per_sample = shape.sample_elements().max(1);
        let columns = dropout.drops.columns(shape);
        let key = dropout.key(self.scalars);
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        let (pool, isa) = (&self.engine.pool, self.engine.isa);
        let first = dropout.drops.first_sample(self.scalars.sample_offset);
        match columns {
            None => simd::dropout(pool, isa, &key, first, per_sample, x, y),
            Some(columns) => {
                let matrix = simd::Columns { rows_per_sample: per_sample / columns, columns };
                simd::dropout_columns(pool, isa, &key, first, matrix, x, y);
            }
        }
        Ok(())
    }

    pub(super) fn transpose(mut self, extents: [usize; 3]) -> Result<()> {
        let x = self.operands.reads[0].words();
        simd::transpose(
            &self.engine.pool,
            self.engine.isa,
            extents,
            x,
            write(&mut self.operands, 0)?,
        );
        Ok(())
    }
}

/// The vector form of a function, if it has one.
pub(super) fn activation(function: Unary) -> Result<Activation> {
    match function {
        Unary::Relu => Ok(Activation::Relu),
        Unary::LeakyRelu(slope) => Ok(Activation::LeakyRelu(slope as f32)),
        Unary::Gelu => Ok(Activation::Gelu),
        Unary::GeluTanh => Ok(Activation::GeluTanh),
        Unary::Silu => Ok(Activation::Silu),
        Unary::Tanh => Ok(Activation::Tanh),
        Unary::Sigmoid => Ok(Activation::Sigmoid),
        _ => Err(internal("a function without a vector form")),
    }
}
