// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on images with their neighbours.

use super::{internal, Lowering};
use crate::backend::cuda::abi_images::*;
use crate::backend::cuda::gather::Images;
use crate::backend::cuda::geometry::divider;
use crate::backend::cuda::launch::Launch;
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{single, word};
use crate::backend::cuda::thin::Sums;
use crate::kernel::{Bias, FusedImages, LinearTail, Planes, Skip};
use crate::op::{spatial, Conv, Dropout, Drops, MaxPool, Normalize, Window};
use crate::{DType, Result, Shape};

impl Lowering<'_> {
    pub(super) fn fused_images(&mut self, fused: &FusedImages) -> Result<Vec<Launch>> {
        match fused {
            FusedImages::ConvPool { conv, tail, pool, planes } => {
                self.conv_pool(conv, tail, *pool, *planes)
            }
            FusedImages::ConvNormalize { conv, tail, normalize, skip, .. } => {
                self.conv_normalize(conv, tail, *normalize, *skip)
            }
            FusedImages::ConvInputGradient { conv, skip, mask, unpool } => {
                self.fused_input_gradient(conv, *skip, *mask, *unpool)
            }
            FusedImages::ConvWeightGradients(layers) => self.conv_weight_gradients(layers),
            FusedImages::BatchStatistics => self.batch_statistics(),
            FusedImages::BatchApply { normalize, skip, activation, dropout } => {
                self.batch_apply(*normalize, *skip, *activation, *dropout)
            }
            FusedImages::BatchGradient(batch) => self.batch_gradient(batch),
            FusedImages::ClassifierHead(head) => self.classifier_head(head),
            FusedImages::ConvStatistics { conv, bias } => self.conv_statistics(conv, *bias),
            FusedImages::ConvBatchGradient { conv, skip, batch } => {
                self.conv_batch_gradient(conv, *skip, batch)
            }
            FusedImages::AvgPoolToPlanes(pool) => self.avg_pool(*pool, Planes::Apart),
            FusedImages::AvgPoolGradientOfPlanes(pool) => {
                self.avg_pool_gradient(*pool, Planes::Apart)
            }
            FusedImages::MaxPoolGradientOfPlanes(pool) => {
                self.max_pool_gradient(*pool, Planes::Apart)
            }
        }
    }

    fn conv_pool(
        &mut self,
        conv: &Conv,
        tail: &LinearTail,
        pool: MaxPool,
        planes: Planes,
    ) -> Result<Vec<Launch>> {
        let (x, y) = (self.input_shape(0).clone(), self.output_shape(0).clone());
        let places = window_places(&conv.window, &x)?;
        let images = Images::new(conv, &x, &image_of(&y, places)).lying(self.input_format(0));
        let sums = Sums::of(&images);
        let mut params = self.conv_params(images.pooled(&pool.0, &y), images.outputs, sums)?;
        params.places = divider(spatial(&y).iter().product());
        params.planar = u32::from(planes == Planes::Apart);
        params.windows = windows(&pool, places);
        if self.step.outputs.len() > 1 {
            params.windows.index = self.write(1)?;
        }
        self.add_tail(&mut params, tail)?;
        Ok(vec![self.conv_launch("conv_pool", params, images.groups(), sums)])
    }

    fn conv_normalize(
        &mut self,
        conv: &Conv,
        tail: &LinearTail,
        normalize: Normalize,
        skip: Skip,
    ) -> Result<Vec<Launch>> {
        let (x, y) = (self.input_shape(0).clone(), self.output_shape(0).clone());
        let images = Images::new(conv, &x, &y).lying(self.input_format(0));
        let sums = Sums::of(&images);
        let mut params = self.conv_params(images.forward(), images.outputs, sums)?;
        params.places = divider(images.sample_places());
        self.add_tail(&mut params, tail)?;
        let first = if tail.bias == Bias::Added { 3 } else { 2 };
        let mut end = self.step.inputs.len();
        if skip == Skip::Added {
            end -= 1;
            params.residual = self.read_as(end, self.product_type())?;
        }
        params.mean = self.read_as(first, DType::F32)?;
        params.variance = self.read_as(first + 1, DType::F32)?;
        if end - first > 2 {
            params.gamma = self.read_as(first + 2, DType::F32)?;
            params.beta = self.read_as(first + 3, DType::F32)?;
        }
        params.eps = single(normalize.eps);
        Ok(vec![self.conv_launch("conv", params, images.groups(), sums)])
    }

    fn fused_input_gradient(
        &mut self,
        conv: &Conv,
        skip: Skip,
        mask: Option<f64>,
        unpool: Option<MaxPool>,
    ) -> Result<Vec<Launch>> {
        let (dx, dy) = (self.output_shape(0).clone(), self.input_shape(0).clone());
        // Before the pool's gradient spreads it.
        let x = match unpool {
            None => dx.clone(),
            Some(pool) => image_of(&dx, window_places(&pool.0, &dx)?),
        };
        let images = Images::new(conv, &x, &dy);
        let sums = Sums::of_input_gradient(&images);
        let mut params = self.conv_params(images.input_gradient(), images.inputs, sums)?;
        let mut next = 2;
        let mut operand = || {
            next += 1;
            next - 1
        };
        if skip == Skip::Added {
            params.residual = self.read_as(operand(), self.product_type())?;
        }
        if let Some(scale) = mask {
            params.mask_source = self.read_as(operand(), self.product_type())?;
            params.mask_scale = single(scale);
        }
        let mut family = "conv_input_gradient";
        if let Some(pool) = unpool {
            params.windows = windows(&pool, spatial(&dx));
            params.windows.index = self.read(operand())?;
            family = "conv_unpool";
        }
        Ok(vec![self.conv_launch(family, params, images.groups(), sums)])
    }
}

/// How kernels count what dropout drops.
pub(super) fn dropout_of(dropout: Dropout) -> u32 {
    match dropout.drops {
        Drops::Channels => 2,
        _ => 1,
    }
}

fn window_places(window: &Window, image: &Shape) -> Result<[usize; 3]> {
    window.places(image).map_err(|_| internal("a window that does not fit"))
}

/// An image like another, of other extents.
fn image_of(like: &Shape, extents: [usize; 3]) -> Shape {
    let dims = like.dims();
    let own = &extents[extents.len() - (dims.len() - 2)..];
    dims[..2].iter().chain(own).copied().collect::<Vec<_>>().into()
}

/// A pool's windows in an image of these extents.
fn windows(MaxPool(pool): &MaxPool, [_, height, width]: [usize; 3]) -> KilnWindows {
    KilnWindows {
        shifts: pool.kernel.map(usize::trailing_zeros),
        height: word(height),
        width: word(width),
        index: Address::NONE,
    }
}
