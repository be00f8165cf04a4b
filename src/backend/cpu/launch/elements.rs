// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element by element, and values that only move.

use super::super::loops;
use super::super::simd::{self, Activation};
use super::{internal, write, Launch};
use crate::op::{Binary, Dropout, Unary};
use crate::Result;

impl Launch<'_> {
    pub(super) fn map(mut self, function: Unary) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        match activation(function) {
            Ok(activation) => {
                simd::activate(&self.engine.pool, self.engine.isa, activation, x, y);
            }
            Err(_) => loops::map(function, x, y),
        }
        Ok(())
    }

    pub(super) fn map_gradient(mut self, function: Unary) -> Result<()> {
        let (saved, dy) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        let dx = write(&mut self.operands, 0)?;
        match activation(function) {
            Ok(activation) => {
                let (pool, isa) = (&self.engine.pool, self.engine.isa);
                simd::activate_gradient(pool, isa, activation, saved, dy, dx);
            }
            Err(_) => loops::map_gradient(function, saved, dy, dx),
        }
        Ok(())
    }

    pub(super) fn zip(mut self, function: Binary) -> Result<()> {
        let (a, b) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        loops::zip(function, a, b, write(&mut self.operands, 0)?);
        Ok(())
    }

    pub(super) fn dropout(mut self, dropout: Dropout) -> Result<()> {
        let per_sample = self.shape(self.step.inputs[0]).sample_elements();
        let key = dropout.key(self.scalars);
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        let (pool, isa, first) = (&self.engine.pool, self.engine.isa, self.scalars.sample_offset);
        simd::dropout(pool, isa, &key, first, per_sample.max(1), x, y);
        Ok(())
    }

    pub(super) fn mask_nonzero(mut self, scale: f64) -> Result<()> {
        let (y, dy) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        let mask = simd::MaskNonZero { y, scale: scale as f32 };
        let dx = write(&mut self.operands, 0)?;
        simd::mask_non_zero(&self.engine.pool, self.engine.isa, &mask, dy, dx);
        Ok(())
    }

    pub(super) fn repeat(mut self) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        loops::repeat(x, write(&mut self.operands, 0)?);
        Ok(())
    }

    pub(super) fn transpose(mut self, extents: [usize; 3]) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        simd::transpose(&self.engine.pool, extents, x, write(&mut self.operands, 0)?);
        Ok(())
    }
}

/// The vector form of a function, if it has one.
pub(in crate::backend::cpu) fn activation(function: Unary) -> Result<Activation> {
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
