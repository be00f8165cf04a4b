// SPDX-License-Identifier: MIT OR Apache-2.0
//! From steps on images to the hot loops.

use super::super::operands::{Operands, Read};
use super::super::simd::{
    self, Activation, ConvShape, ConvTail, Extent, GradientTail, Groups, Pooling,
};
use super::elements::activation;
use super::updates::updates;
use super::{internal, write, Launch};
use crate::kernel::{Bias, BiasGradient, ConvWay, LinearTail, Sink};
use crate::op::{
    spatial, AvgPool, Conv, Drops, MaxPool, Normalize, Op, Over, Store, Window, SPATIAL,
};
use crate::{allocate, Result, Shape};

impl<'a> Launch<'a> {
    pub(super) fn conv(self, conv: Conv, way: ConvWay, tail: LinearTail) -> Result<()> {
        self.conv_along(conv, way, tail, None)
    }

    /// A convolution and normalisation with known statistics, in its tail.
    pub(super) fn conv_normalize(
        self,
        conv: Conv,
        way: ConvWay,
        tail: LinearTail,
        normalize: Normalize,
    ) -> Result<()> {
        let first = if tail.bias == Bias::Added { 3 } else { 2 };
        let statistics = self.group_statistics(first, normalize)?;
        let (gamma, zeros);
        let shift = match self.operands.reads[first + 2..] {
            [weight, beta] => {
                gamma = Some(weight.values()?);
                beta.values()?
            }
            _ => {
                (gamma, zeros) = (None, vec![0.0; statistics.mean.len()]);
                &zeros
            }
        };
        let scale = statistics.scales(gamma);
        let line = simd::ChannelLine { centre: statistics.mean, scale: &scale, shift };
        self.conv_along(conv, way, tail, Some(line))
    }

    fn conv_along(
        mut self,
        conv: Conv,
        way: ConvWay,
        tail: LinearTail,
        line: Option<simd::ChannelLine<'_>>,
    ) -> Result<()> {
        let (x, y) = (self.shape(self.step.inputs[0]), self.shape(self.step.outputs[0]));
        let shape = conv_shape(&conv, x, y);
        let bias = match tail.bias {
            Bias::Added => Some(self.operands.reads[2].values()?),
            Bias::Absent => None,
        };
        let dropout = tail.dropout.map(|dropout| simd::Dropout {
            key: dropout.key(self.scalars),
            first_sample: self.scalars.sample_offset,
            rows_per_sample: shape.places().max(1),
            rows: match dropout.drops {
                Drops::Channels => simd::MaskRows::Shared,
                _ => simd::MaskRows::Own,
            },
        });
        let activation = tail.activation.map_or(Ok(Activation::None), activation)?;
        let tail = ConvTail { bias, line, activation, dropout, mask: None };
        let (x, weight) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        allocate::probe(8 * size_of_val(weight), "a convolution's packed weights")?;
        let conv = simd::Conv { shape, way: loops(way), weight, tail };
        let y = write(&mut self.operands, 0)?;
        conv.forward(&self.engine.pool, self.engine.isa, x, y);
        Ok(())
    }

    pub(super) fn conv_input_gradient(
        mut self,
        conv: Conv,
        way: ConvWay,
        mask: Option<f64>,
    ) -> Result<()> {
        let (y, x) = (self.shape(self.step.inputs[0]), self.shape(self.step.outputs[0]));
        let shape = conv_shape(&conv, x, y);
        let mask = match mask {
            Some(scale) => {
                let y = self.operands.reads[2].values()?;
                Some(simd::MaskNonZero { y, scale: scale as f32 })
            }
            None => None,
        };
        let (dy, weight) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        allocate::probe(8 * size_of_val(weight), "a convolution's packed weights")?;
        let tail = ConvTail { mask, ..ConvTail::NONE };
        let conv = simd::Conv { shape, way: loops(way), weight, tail };
        let dx = write(&mut self.operands, 0)?;
        conv.input_gradient(&self.engine.pool, self.engine.isa, dy, dx);
        Ok(())
    }

    pub(super) fn conv_weight_gradient(
        self,
        conv: Conv,
        way: ConvWay,
        (sink, bias): (Option<Sink>, BiasGradient),
    ) -> Result<()> {
        let (y, x) = (self.shape(self.step.inputs[0]), self.shape(self.step.inputs[1]));
        let shape = conv_shape(&conv, x, y);
        let (plan, step, run) = (self.plan, self.step, (self.scalars, self.training.update()));
        let Operands { reads, writes, moments } = self.operands;
        let summed = self.summed.unwrap_or(reads[0]);
        let tails: Vec<GradientTail<'_>> = match sink {
            Some(Sink::Update(_)) => {
                let updates = updates(plan, step, run, (writes, moments)).into_iter();
                let tail = |(rule, updated)| GradientTail::Update { rule, scale: 1.0, updated };
                updates.map(tail).collect()
            }
            Some(Sink::Store(Store::Accumulate)) => {
                writes.into_iter().map(GradientTail::Accumulate).collect()
            }
            None | Some(Sink::Store(Store::Overwrite)) => {
                writes.into_iter().map(GradientTail::Overwrite).collect()
            }
        };
        let mut tails = tails.into_iter();
        let weights = conv_weights(&shape) * size_of::<f32>();
        allocate::probe(weights.saturating_mul(9), "the parts of a weight gradient")?;
        let gradient = simd::ConvWeightGradient {
            shape,
            way: loops(way),
            dy: reads[0].values()?,
            bias_dy: summed.values()?,
            x: reads[1].values()?,
            weight: tails.next().ok_or_else(|| internal("a weight gradient goes nowhere"))?,
            bias: tails.next().filter(|_| bias == BiasGradient::Computed),
        };
        gradient.run(&self.engine.pool, self.engine.isa);
        Ok(())
    }

    pub(super) fn max_pool(mut self, pool: MaxPool) -> Result<()> {
        let (x, y) = (self.shape(self.step.inputs[0]), self.shape(self.step.outputs[0]));
        let pooling = pooling(&pool.0, x, y);
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        let index = match self.step.outputs.len() {
            1 => None,
            _ => Some(write(&mut self.operands, 1)?),
        };
        pooling.max(&self.engine.pool, self.engine.isa, x, y, index);
        Ok(())
    }

    pub(super) fn max_pool_gradient(mut self, pool: MaxPool) -> Result<()> {
        let (y, x) = (self.shape(self.step.inputs[0]), self.shape(self.step.outputs[0]));
        let pooling = pooling(&pool.0, x, y);
        let (index, dy) = (self.operands.reads[0].words(), self.operands.reads[1].values()?);
        let dx = write(&mut self.operands, 0)?;
        pooling.max_gradient(&self.engine.pool, self.engine.isa, index, dy, dx);
        Ok(())
    }

    pub(super) fn avg_pool(mut self, pool: AvgPool) -> Result<()> {
        let (x, y) = (self.shape(self.step.inputs[0]), self.shape(self.step.outputs[0]));
        let (pooling, divisors) = (pooling(&pool.window, x, y), pool.divisors(x));
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        pooling.mean(&self.engine.pool, self.engine.isa, &divisors, x, y);
        Ok(())
    }

    pub(super) fn avg_pool_gradient(mut self, pool: AvgPool) -> Result<()> {
        let (y, x) = (self.shape(self.step.inputs[0]), self.shape(self.step.outputs[0]));
        let (pooling, divisors) = (pooling(&pool.window, x, y), pool.divisors(x));
        let dy = self.operands.reads[0].values()?;
        let dx = write(&mut self.operands, 0)?;
        pooling.mean_gradient(&self.engine.pool, self.engine.isa, &divisors, dy, dx);
        Ok(())
    }

    pub(super) fn statistics(mut self, over: Over) -> Result<()> {
        let groups = groups(over, self.shape(self.step.inputs[0]));
        let x = self.operands.reads[0].values()?;
        let mean = write(&mut self.operands, 0)?;
        // Where nobody asks for the variance it goes nowhere.
        let mut unused = Vec::new();
        let variance = match self.step.outputs.len() {
            1 => {
                unused.resize(mean.len(), 0.0);
                unused.as_mut_slice()
            }
            _ => write(&mut self.operands, 1)?,
        };
        simd::statistics(&self.engine.pool, self.engine.isa, groups, x, mean, variance);
        Ok(())
    }

    pub(super) fn statistics_gradient(mut self, over: Over) -> Result<()> {
        let groups = groups(over, self.shape(self.step.inputs[0]));
        let [x, mean, d_mean, d_variance] = *self.operands.reads.as_slice() else {
            return Err(internal("a gradient of statistics has four operands"));
        };
        let count = self.shape(self.step.inputs[1]).elements();
        let of_group = |read: Read<'a>| Ok(&read.values()?[..count]);
        let (mean, sums) = (of_group(mean)?, [of_group(d_mean)?, of_group(d_variance)?]);
        let (pool, isa) = (&self.engine.pool, self.engine.isa);
        let dx = write(&mut self.operands, 0)?;
        simd::statistics_gradient(pool, isa, groups, mean, sums, x.values()?, dx);
        Ok(())
    }

    pub(super) fn normalize(mut self, normalize: Normalize) -> Result<()> {
        let groups = groups(normalize.over, self.shape(self.step.inputs[0]));
        let statistics = self.group_statistics(1, normalize)?;
        let affine = match *self.operands.reads.as_slice() {
            [_, _, _, gamma, beta] => {
                Some(simd::Affine { gamma: gamma.values()?, beta: beta.values()? })
            }
            _ => None,
        };
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        let (pool, isa) = (&self.engine.pool, self.engine.isa);
        simd::normalize(pool, isa, groups, &statistics, affine, x, y);
        Ok(())
    }

    pub(super) fn normalize_gradient(mut self, normalize: Normalize) -> Result<()> {
        let groups = groups(normalize.over, self.shape(self.step.inputs[0]));
        let statistics = self.group_statistics(2, normalize)?;
        let gamma = self.operands.reads.get(4).map(|gamma| gamma.values()).transpose()?;
        let [x, dy] = [self.operands.reads[0].values()?, self.operands.reads[1].values()?];
        let mut writes = std::mem::take(&mut self.operands.writes).into_iter();
        let dx = writes.next().ok_or_else(|| internal("a gradient goes nowhere"))?;
        let mut sums = simd::Sums::default();
        for (node, to) in self.step.outputs[1..].iter().zip(writes) {
            let place = match self.plan.graph.node(*node).op {
                Op::Result(1) => &mut sums.mean,
                Op::Result(2) => &mut sums.variance,
                Op::Result(3) => &mut sums.gamma,
                _ => &mut sums.beta,
            };
            *place = Some(to);
        }
        let (pool, isa) = (&self.engine.pool, self.engine.isa);
        simd::normalize_gradient(pool, isa, groups, &statistics, gamma, [x, dy], dx, sums);
        Ok(())
    }

    /// Mean and variance among the operands, from an index on.
    fn group_statistics(&self, first: usize, normalize: Normalize) -> Result<simd::Statistics<'a>> {
        let count = self.shape(self.step.inputs[first]).elements();
        let [mean, variance] = [first, first + 1].map(|index| self.operands.reads[index].values());
        // Parameters have padding behind.
        let (mean, variance) = (&mean?[..count], &variance?[..count]);
        Ok(simd::Statistics { mean, variance, eps: normalize.eps })
    }
}

fn loops(way: ConvWay) -> simd::ConvWay {
    match way {
        ConvWay::Direct => simd::ConvWay::Direct,
        ConvWay::Winograd => simd::ConvWay::Winograd,
    }
}

/// Elements of a convolution's weights, with room for panels that are not full.
fn conv_weights(shape: &ConvShape) -> usize {
    shape.weight_len().max(shape.outputs).saturating_mul(2)
}

/// A convolution in numbers.
fn conv_shape(conv: &Conv, x: &Shape, y: &Shape) -> ConvShape {
    ConvShape {
        samples: x.samples(),
        groups: conv.groups,
        inputs: x.dims()[1],
        outputs: y.dims()[1],
        extents: extents(&conv.window, x, y),
    }
}

fn pooling(window: &Window, x: &Shape, y: &Shape) -> Pooling {
    let (samples, channels) = (x.samples(), x.dims()[1]);
    Pooling { samples, channels, extents: extents(window, x, y) }
}

fn extents(window: &Window, x: &Shape, y: &Shape) -> [Extent; SPATIAL] {
    let (image, places) = (spatial(x), spatial(y));
    std::array::from_fn(|axis| Extent {
        image: image[axis],
        places: places[axis],
        kernel: window.kernel[axis],
        stride: window.stride[axis],
        dilation: window.dilation[axis],
        before: window.padding[axis][0],
    })
}

/// Groups of elements as they lie in memory.
fn groups(over: Over, x: &Shape) -> Groups {
    match over {
        Over::Channels => Groups::Columns(x.dims()[1]),
        Over::Rows => Groups::Rows(x.last()),
    }
}
