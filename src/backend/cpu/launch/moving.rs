// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values that change places, by strides or by integers, and sums of a few of them.

use super::super::simd;
use super::{write, Launch};
use crate::kernel::{Picks, Piece};
use crate::op::Blend;
use crate::Result;

impl Launch<'_> {
    pub(super) fn copy(mut self, pieces: &[Piece]) -> Result<()> {
        let inputs: Vec<&[f32]> = self.operands.reads.iter().map(|read| read.words()).collect();
        simd::copy(&self.engine.pool, pieces, &inputs, write(&mut self.operands, 0)?);
        Ok(())
    }

    pub(super) fn blend(mut self, blend: &Blend, around: [usize; 2]) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        simd::blend(&self.engine.pool, self.engine.isa, blend, around, x, y);
        Ok(())
    }

    pub(super) fn take(mut self, picks: Picks) -> Result<()> {
        let (x, index) = (self.operands.reads[0].values()?, self.operands.reads[1].indices());
        simd::take(&self.engine.pool, picks, x, index, write(&mut self.operands, 0)?);
        Ok(())
    }

    pub(super) fn take_gradient(mut self, picks: Picks, padding: Option<usize>) -> Result<()> {
        let (index, dy) = (self.operands.reads[0].indices(), self.operands.reads[1].values()?);
        let dx = write(&mut self.operands, 0)?;
        simd::take_gradient(&self.engine.pool, (picks, padding), index, dy, dx);
        Ok(())
    }

    pub(super) fn gather(mut self, picks: Picks) -> Result<()> {
        let (x, index) = (self.operands.reads[0].values()?, self.operands.reads[1].indices());
        simd::gather(&self.engine.pool, picks, x, index, write(&mut self.operands, 0)?);
        Ok(())
    }

    pub(super) fn gather_gradient(mut self, picks: Picks) -> Result<()> {
        let (index, dy) = (self.operands.reads[0].indices(), self.operands.reads[1].values()?);
        simd::gather_gradient(&self.engine.pool, picks, index, dy, write(&mut self.operands, 0)?);
        Ok(())
    }
}
