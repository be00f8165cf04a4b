// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cross-entropy, alone and with the linear layer before it.

use super::elements::row_variant;
use super::Lowering;
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::linear_loss_grid;
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{single, word};
use crate::kernel::Bias;
use crate::kernel::{LinearCrossEntropy, LossGradient, Scores};
use crate::op::{Nll, Reduction};
use crate::{DType, Result};

impl Lowering<'_> {
    pub(super) fn cross_entropy(
        &mut self,
        nll: &Nll,
        gradient: LossGradient,
    ) -> Result<Vec<Launch>> {
        let scores = self.input_shape(0);
        let (rows, classes) = (scores.rows(), scores.last());
        let (grid, dtype) = (Grid::over_rows(rows), self.stored_type(0));
        let d_scores = match gradient {
            LossGradient::Computed | LossGradient::Scaled => self.write_as(1, dtype)?,
            LossGradient::Absent => Address::NONE,
        };
        let mut loss = self.loss(nll, [rows, classes], 1, &grid)?;
        loss.loss_scale = self.scale_of(gradient)?;
        let params = KilnCrossEntropyParams { loss, scores: self.read(0)?, d_scores };
        // The variant that holds rows in registers knows no smoothing.
        let longest = if nll.smoothing == 0.0 { KILN_ROW_REGISTERS as usize } else { 0 };
        let variant = row_variant(classes, longest, dtype);
        Ok(vec![Launch::new(format!("cross_entropy{variant}_{dtype}"), grid, params)])
    }

    pub(super) fn linear_cross_entropy(
        &mut self,
        options: &LinearCrossEntropy,
    ) -> Result<Vec<Launch>> {
        let extents = self.forward_extents();
        let dtype = self.product_type();
        let (grid, of_block) = linear_loss_grid(extents.m, self.precision, self.machine);
        let (bias, labels) = match options.bias {
            Bias::Added => (self.read_as(2, DType::F32)?, 3),
            Bias::Absent => (Address::NONE, 2),
        };
        let mut written = 1;
        let mut next = |wanted: bool| {
            let index = written;
            written += usize::from(wanted);
            wanted.then_some(index)
        };
        let d_scores = next(options.gradient != LossGradient::Absent);
        let scores = next(options.scores == Scores::Stored);
        let mut output = |index: Option<usize>| match index {
            Some(index) => self.write_as(index, dtype),
            None => Ok(Address::NONE),
        };
        let (d_scores, scores) = (output(d_scores)?, output(scores)?);
        let mut loss = self.loss(&options.nll, [extents.m, extents.n], labels, &grid)?;
        loss.loss_scale = self.scale_of(options.gradient)?;
        let params = KilnLinearCrossEntropyParams {
            loss,
            x: self.read_as(0, dtype)?,
            weight: self.read_as(1, dtype)?,
            bias,
            d_scores,
            scores,
            features: word(extents.k),
            rows_per_block: word(of_block),
        };
        let kernel = format!("linear_cross_entropy_{}", self.precision);
        Ok(vec![Launch::new(kernel, grid, params)])
    }

    /// Where a loss finds what its gradient is multiplied by beside the run's share.
    pub(super) fn scale_of(&self, gradient: LossGradient) -> Result<Address> {
        match gradient {
            LossGradient::Scaled => self.loss_scale(),
            LossGradient::Computed | LossGradient::Absent => Ok(Address::NONE),
        }
    }

    /// The likelihood of logarithms that another step computed.
    pub(super) fn nll(&mut self, nll: &Nll) -> Result<Vec<Launch>> {
        let logarithms = self.input_shape(0);
        let extents = [logarithms.rows(), logarithms.last()];
        let (grid, dtype) = (Grid::over_rows(extents[0]), self.stored_type(0));
        let mut loss = self.loss(nll, extents, 1, &grid)?;
        loss.loss = self.write_as(0, DType::F32)?;
        let scores = self.read(0)?;
        let params = KilnCrossEntropyParams { loss, scores, d_scores: Address::NONE };
        Ok(vec![Launch::new(format!("nll_{dtype}"), grid, params)])
    }

    pub(super) fn nll_gradient(&mut self, nll: &Nll) -> Result<Vec<Launch>> {
        let gradient = self.output_shape(0);
        let extents = [gradient.rows(), gradient.last()];
        let grid = Grid::over_rows(extents[0]);
        let mut loss = self.loss(nll, extents, 1, &grid)?;
        (loss.loss, loss.dloss) = (Address::NONE, self.read_as(0, DType::F32)?);
        let d_scores = self.write_as(0, DType::F32)?;
        let params = KilnCrossEntropyParams { loss, scores: Address::NONE, d_scores };
        Ok(vec![Launch::new("nll_gradient_f32", grid, params)])
    }

    /// The loss's part of the parameters; `labels` is the index of the labels among the inputs,
    /// class weights follow them.
    pub(super) fn loss(
        &mut self,
        nll: &Nll,
        [rows, classes]: [usize; 2],
        labels: usize,
        grid: &Grid,
    ) -> Result<KilnCrossEntropyLoss> {
        let class_weights = match self.step.inputs.len() > labels + 1 {
            true => self.read_as(labels + 1, DType::F32)?,
            false => Address::NONE,
        };
        Ok(KilnCrossEntropyLoss {
            labels: self.read(labels)?,
            class_weights,
            dloss: Address::NONE,
            loss_scale: Address::NONE,
            scalars: self.scratch.scalars(),
            divisor: self.divisor(nll, classes, labels),
            loss: self.write(0)?,
            partials: self.scratch.numbers(grid.blocks[0] as usize),
            tickets: self.scratch.numbers(1),
            rows: word(rows),
            classes: word(classes),
            ignore_index: nll.ignore_index,
            smoothing: single(nll.smoothing),
            reduction: match nll.reduction {
                Reduction::Mean => KILN_REDUCTION_MEAN,
                Reduction::Sum => KILN_REDUCTION_SUM,
                Reduction::None => KILN_REDUCTION_NONE,
            },
        })
    }
}
