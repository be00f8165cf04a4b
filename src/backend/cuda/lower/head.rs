// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a classifier of images with the beginning of its gradient.

use super::Lowering;
use crate::backend::cuda::abi::*;
use crate::backend::cuda::abi_images::*;
use crate::backend::cuda::geometry::vector;
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{single, word};
use crate::kernel::{BatchLine, Bias, ClassifierHead, Scores, Skip};
use crate::op::spatial;
use crate::{DType, Result};

/// Results of the step, the loss first; scores, if they are wanted, and what belongs to batch norm follow.
const DX: usize = 1;
const POOLED: usize = 2;
const D_SCORES: usize = 3;
const SCORES: usize = 4;

impl Lowering<'_> {
    /// A block for each sample, and then what follows from the sums that they found.
    pub(super) fn classifier_head(&mut self, head: &ClassifierHead) -> Result<Vec<Launch>> {
        let ClassifierHead { skip, pool, loss: layer, weight, .. } = *head;
        let dtype = self.product_type();
        let (x, means) = (self.input_shape(0).clone(), self.output_shape(POOLED).clone());
        let (samples, channels) = (x.samples(), x.dims()[1]);
        let (places, width) = (spatial(&means), channels / vector(dtype));
        let features = means.sample_elements();
        let numbers = 2 * vector(dtype) * KILN_BLOCK_THREADS as usize;
        let mut grid = Grid::of(samples);
        grid.shared = word(4 * features.max(numbers));
        let (bias, labels) = match layer.bias {
            Bias::Added => (self.read_as(weight + 1, DType::F32)?, weight + 2),
            Bias::Absent => (Address::NONE, weight + 1),
        };
        let classes = self.output_shape(D_SCORES).last();
        let mut loss = self.loss(&layer.nll, [samples, classes], labels, &grid)?;
        loss.loss_scale = self.scale_of(layer.gradient)?;

        let dx = self.write_as(DX, dtype)?;
        let mut batch = self.batch_sums(1, &head.batch, channels)?;
        batch.x = self.read_as(0, dtype)?;
        batch.y = match self.masked_output() {
            Some(masked) => self.write_as(masked, dtype)?,
            None => dx,
        };
        let has_skip = usize::from(skip == Skip::Added);
        if has_skip == 1 {
            batch.residual = self.read_as(weight - 1, dtype)?;
        }
        if weight - has_skip > 3 {
            batch.gamma = self.read_as(3, DType::F32)?;
            batch.beta = self.read_as(4, DType::F32)?;
        }
        batch.source_scale = single(head.batch.mask.unwrap_or(1.0));
        let groups = samples.div_ceil(KILN_PARTS_TOGETHER as usize);
        batch.groups = KilnGroups {
            rows: word(x.elements() / channels),
            columns: word(channels),
            width: word(width),
            splits: word(samples),
            partials: self.scratch.numbers((samples + groups) * 2 * channels),
            tickets: self.scratch.numbers(groups + 1),
            ..Default::default()
        };
        let scores = match layer.scores {
            Scores::Stored => self.write_as(SCORES, dtype)?,
            Scores::Dropped => Address::NONE,
        };
        let params = KilnHeadParams {
            batch,
            loss,
            weight: self.read_as(weight, dtype)?,
            bias,
            pooled: self.write_as(POOLED, dtype)?,
            d_scores: self.write_as(D_SCORES, dtype)?,
            scores,
            places: [word(places[1]), word(places[2])],
            window: [word(pool.window.kernel[1]), word(pool.window.kernel[2])],
        };
        let line = KilnBatchNormParams { y: dx, dy: batch.y, ..batch };
        let kernel = format!("classifier_head_{}", self.precision);
        let mut launches = vec![Launch::new(kernel, grid, params)];
        if head.batch.dx == BatchLine::Computed {
            launches.push(self.batch_line(line, &x, dtype));
        }
        Ok(launches)
    }
}
