// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batch norm of images with its neighbours, convolutions that sum up for it among them.

use super::fused_images::dropout_of;
use super::linear::store;
use super::{internal, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::abi_images::*;
use crate::backend::cuda::gather::Images;
use crate::backend::cuda::geometry::divider;
use crate::backend::cuda::launch::Launch;
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::single;
use crate::backend::cuda::thin::Sums;
use crate::backend::cuda::windows::Matrix;
use crate::kernel::{BatchGradient, BatchLine, Bias, Skip};
use crate::op::{spatial, Conv, Dropout, Normalize, Op, Over, StateRule, Unary};
use crate::{DType, Result, Shape};

impl Lowering<'_> {
    pub(super) fn batch_statistics(&mut self) -> Result<Vec<Launch>> {
        let (running, statistics) = self.running(0)?;
        self.statistics_of(Over::Channels, statistics, running)
    }

    /// A convolution whose blocks sum up along what they yield.
    pub(super) fn conv_statistics(&mut self, conv: &Conv, bias: Bias) -> Result<Vec<Launch>> {
        let images = Images::new(conv, self.input_shape(0), self.output_shape(0));
        let images = images.lying(self.input_format(0));
        let sums = Sums::of(&images);
        let mut params = self.conv_params(images.forward(), images.outputs, sums)?;
        if bias == Bias::Added {
            params.bias = self.read_as(2, DType::F32)?;
        }
        let (running, statistics) = self.running(1)?;
        (params.columns.mean, params.columns.running) = (self.write_as(1, DType::F32)?, running);
        if statistics > 1 {
            params.columns.variance = self.write_as(2, DType::F32)?;
        }
        Ok(vec![self.conv_launch("conv_statistics", params, images.groups(), sums)])
    }

    /// The state that follows statistics, the outputs from `mean` on, and how many of these there are.
    fn running(&self, mean: usize) -> Result<(KilnRunning, usize)> {
        let mut running = KilnRunning::default();
        let mut statistics = 0;
        for (index, &output) in self.step.outputs.iter().enumerate().skip(mean) {
            let node = self.plan.graph.node(output);
            match node.op {
                Op::SetState(_, StateRule::Count) => running.count = self.write(index)?,
                Op::SetState(_, StateRule::Average { momentum, factor }) => {
                    let (kept, taken) = (single(1.0 - momentum), single(momentum * factor));
                    let to = self.write(index)?;
                    if node.inputs == [self.step.outputs[mean]] {
                        (running.mean, running.kept_mean, running.taken_mean) = (to, kept, taken);
                    } else {
                        running.variance = to;
                        (running.kept_variance, running.taken_variance) = (kept, taken);
                    }
                }
                Op::SetState(..) => return Err(internal("a state that statistics do not move")),
                _ => statistics += 1,
            }
        }
        Ok((running, statistics))
    }

    pub(super) fn batch_apply(
        &mut self,
        normalize: Normalize,
        skip: Skip,
        activation: Option<Unary>,
        dropout: Option<Dropout>,
    ) -> Result<Vec<Launch>> {
        let has_skip = skip == Skip::Added;
        let last = self.step.inputs.len() - 1;
        let mut images = vec![0];
        images.extend(has_skip.then_some(last));
        let dtype = self.type_of(&images, &[0]);
        let shape = self.input_shape(0).clone();
        let mut matrix = Matrix::new(Over::Channels, &shape, dtype);
        let (_, grid) = matrix.mapped(self.machine);
        let mut params = KilnBatchNormParams {
            x: self.read_as(0, dtype)?,
            y: self.write_as(0, dtype)?,
            mean: self.read_as(1, DType::F32)?,
            variance: self.read_as(2, DType::F32)?,
            eps: single(normalize.eps),
            relu: u32::from(activation.is_some()),
            groups: matrix.groups,
            ..Default::default()
        };
        if has_skip {
            params.residual = self.read_as(last, dtype)?;
        }
        if self.step.inputs.len() - usize::from(has_skip) > 4 {
            params.gamma = self.read_as(3, DType::F32)?;
            params.beta = self.read_as(4, DType::F32)?;
        }
        if let Some(dropout) = dropout {
            params.dropout = dropout_of(dropout);
            params.places = divider(spatial(&shape).iter().product());
            params.scalars = self.scratch.scalars();
            params.mask = self.mask(dropout);
        }
        Ok(vec![Launch::new(format!("batch_apply_{dtype}"), grid, params)])
    }

    /// The sums, and then what follows from them.
    pub(super) fn batch_gradient(&mut self, batch: &BatchGradient) -> Result<Vec<Launch>> {
        let mut inputs = vec![0, 1];
        inputs.extend(batch.mask.map(|_| self.step.inputs.len() - 1));
        let masked = self.masked_output();
        let mut outputs = vec![0];
        outputs.extend(masked);
        let dtype = self.type_of(&inputs, &outputs);
        let mut matrix = Matrix::new(Over::Channels, self.input_shape(0), dtype);
        let (_, grid) = matrix.summed(self.machine);
        let mut sums = KilnBatchNormParams {
            dy: self.read_as(1, dtype)?,
            groups: self.groups(&matrix),
            ..self.batch_operands([0, 2], batch, dtype)?
        };
        let first = self.write_as(0, dtype)?;
        if batch.dx == BatchLine::WithWeights {
            sums.y = first;
            return Ok(vec![Launch::new(format!("batch_sums_{dtype}"), grid, sums)]);
        }
        let mut gradient = KilnBatchNormParams { y: first, ..sums };
        if let Some(masked) = masked {
            sums.y = self.write_as(masked, dtype)?;
            (gradient.dy, gradient.source) = (sums.y, Address::NONE);
        }
        let sums = Launch::new(format!("batch_sums_{dtype}"), grid, sums);
        let shape = self.input_shape(0).clone();
        Ok(vec![sums, self.batch_line(gradient, &shape, dtype)])
    }

    /// The same of what a convolution's gradient yields, whose blocks sum it up.
    pub(super) fn conv_batch_gradient(
        &mut self,
        conv: &Conv,
        skip: Skip,
        batch: &BatchGradient,
    ) -> Result<Vec<Launch>> {
        let images = Images::new(conv, self.output_shape(0), self.input_shape(0));
        let mut params = self.conv_params(images.input_gradient(), images.inputs, Sums::Tiles)?;
        let dtype = self.product_type();
        let mut x = 2;
        if skip == Skip::Added {
            params.residual = self.read_as(x, dtype)?;
            x += 1;
        }
        let of = self.batch_operands([x, x + 1], batch, dtype)?;
        // The gradient takes the place of the masked one, unless others want to see that.
        let dx = params.d;
        if let Some(masked) = self.masked_output() {
            params.d = self.write_as(masked, dtype)?;
        }
        (params.mask_source, params.mask_scale) = (of.source, of.source_scale);
        (params.mean, params.variance, params.gamma) = (of.mean, of.variance, of.gamma);
        params.eps = of.eps;
        params.columns = KilnColumnSums {
            x: of.x,
            d_mean: of.d_mean,
            d_variance: of.d_variance,
            d_gamma: of.d_gamma,
            d_beta: of.d_beta,
            store: of.store,
            ..Default::default()
        };
        let gradient = KilnBatchNormParams { y: dx, dy: params.d, source: Address::NONE, ..of };
        let family = "conv_input_gradient_sums";
        let sums = self.conv_launch(family, params, images.groups(), Sums::Tiles);
        if batch.dx == BatchLine::WithWeights {
            return Ok(vec![sums]);
        }
        let shape = self.output_shape(0).clone();
        Ok(vec![sums, self.batch_line(gradient, &shape, dtype)])
    }

    /// The gradient of what was normalised, once the sums are known; `params.dy` is behind the mask.
    pub(super) fn batch_line(
        &self,
        params: KilnBatchNormParams,
        shape: &Shape,
        dtype: DType,
    ) -> Launch {
        let mut matrix = Matrix::new(Over::Channels, shape, dtype);
        let (_, grid) = matrix.mapped(self.machine);
        let params = KilnBatchNormParams { groups: matrix.groups, ..params };
        Launch::new(format!("batch_gradient_{dtype}"), grid, params)
    }

    /// Which output is the gradient behind the mask.
    pub(super) fn masked_output(&self) -> Option<usize> {
        let is_masked = |&output: &usize| {
            let node = self.plan.graph.node(self.step.outputs[output]);
            matches!(node.op, Op::MaskNonZero(_))
        };
        (1..self.step.outputs.len()).find(is_masked)
    }

    /// All that a batch norm's gradient takes but `dy`, and its sums. The inputs are numbered of x and of the mean, which the
    /// variance and gamma follow; what the mask is taken of comes last.
    fn batch_operands(
        &mut self,
        [x, mean]: [usize; 2],
        batch: &BatchGradient,
        dtype: DType,
    ) -> Result<KilnBatchNormParams> {
        let columns = self.input_shape(mean).elements();
        let mut params = self.batch_sums(mean, batch, columns)?;
        params.x = self.read_as(x, dtype)?;
        let mut end = self.step.inputs.len();
        if let Some(scale) = batch.mask {
            end -= 1;
            (params.source, params.source_scale) = (self.read_as(end, dtype)?, single(scale));
        }
        if end > mean + 2 {
            params.gamma = self.read_as(mean + 2, DType::F32)?;
        }
        Ok(params)
    }

    /// Of these what has a number for each channel: the statistics, the first of which is an input with this index, and
    /// the sums.
    pub(super) fn batch_sums(
        &mut self,
        mean: usize,
        batch: &BatchGradient,
        columns: usize,
    ) -> Result<KilnBatchNormParams> {
        let mut params = KilnBatchNormParams {
            mean: self.read_as(mean, DType::F32)?,
            variance: self.read_as(mean + 1, DType::F32)?,
            d_mean: self.scratch.numbers(columns),
            d_variance: self.scratch.numbers(columns),
            eps: single(batch.normalize.eps),
            store: batch.store.map_or(KILN_STORE_OVERWRITE, store),
            ..Default::default()
        };
        for (index, &output) in self.step.outputs.iter().enumerate() {
            let node = self.plan.graph.node(output);
            let of = match node.op {
                Op::Gradient(..) => self.plan.graph.node(node.inputs[0]).op.clone(),
                _ => node.op.clone(),
            };
            match of {
                Op::Result(1) => params.d_mean = self.write(index)?,
                Op::Result(2) => params.d_variance = self.write(index)?,
                Op::Result(3) => params.d_gamma = self.write(index)?,
                Op::Result(4) => params.d_beta = self.write(index)?,
                _ => {}
            }
        }
        Ok(params)
    }
}
