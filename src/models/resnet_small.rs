// SPDX-License-Identifier: MIT OR Apache-2.0
//! A residual network of 20 layers for small images.

use crate::graph::Var;
use crate::nn::{
    AvgPool2d, BatchNorm, Bias, Conv2d, ConvOptions, Dropout2d, Linear, Module, Padding, Scope,
};

/// ResNet-20 as He et al. 2015 (arXiv:1512.03385, section 4.2) train it on CIFAR, with dropout of feature
/// maps in its blocks: a convolution to 16 channels, three stages of three blocks with 16, 32 and 64
/// channels, the last two of which halve the image first, and the means of the maps. Where the shape
/// changes, the skip connection is a 1x1 convolution with batch norm.
///
/// # Shapes
/// `x`: `[samples, 3, 32, 32]`; scores: `[samples, classes]`. Parameters are named as torchvision names
/// those of its ResNets: `layer2.0.downsample.0.weight`.
///
/// # Errors
/// A rate outside `[0, 1]` comes back from the network's constructor, images of another shape from
/// the first run.
///
/// ```
/// use kiln::models::ResnetSmall;
/// use kiln::{Device, Net, Seed};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| ResnetSmall::new(p, 10, 0.1))?;
/// assert_eq!(net.parameter("layer3.2.conv2.weight")?.shape().dims(), [64, 64, 3, 3]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ResnetSmall {
    conv1: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Block>,
    pool: AvgPool2d,
    fc: Linear,
}

/// Channels of the three stages.
const STAGES: [usize; 3] = [16, 32, 64];
/// Blocks of a stage.
const BLOCKS: usize = 3;
/// Side of the images of the last stage.
const LAST_SIDE: usize = 8;

#[derive(Clone, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    dropout: Dropout2d,
    downsample: Option<(Conv2d, BatchNorm)>,
}

impl ResnetSmall {
    /// The rate that the program uses unless another is given.
    pub const RATE: f32 = 0.1;

    /// Dropouts, one in each block.
    pub const DROPOUTS: usize = STAGES.len() * BLOCKS;

    /// A network with `classes` scores, with feature maps dropped at `rate`.
    pub fn new(p: &Scope, classes: usize, rate: f32) -> Self {
        Self::with_rates(p, classes, [rate; Self::DROPOUTS])
    }

    /// The same with a rate for each block.
    pub fn with_rates(p: &Scope, classes: usize, rates: [f32; Self::DROPOUTS]) -> Self {
        let conv1 = conv(&p.at("conv1"), [3, STAGES[0]], 3, 1);
        let bn1 = BatchNorm::new(&p.at("bn1"), STAGES[0]);
        let mut inputs = STAGES[0];
        let mut blocks = Vec::with_capacity(rates.len());
        for (stage, outputs) in STAGES.into_iter().enumerate() {
            for block in 0..BLOCKS {
                let p = p.at(&format!("layer{}", stage + 1)).at(&block.to_string());
                let stride = if inputs == outputs { 1 } else { 2 };
                let rate = rates[blocks.len()];
                blocks.push(Block::new(&p, [inputs, outputs], stride, rate));
                inputs = outputs;
            }
        }
        let pool = AvgPool2d::new([LAST_SIDE; 2]);
        ResnetSmall { conv1, bn1, blocks, pool, fc: Linear::new(&p.at("fc"), inputs, classes) }
    }
}

impl Module for ResnetSmall {
    fn forward(&self, x: &Var) -> Var {
        let x = self.bn1.forward(&self.conv1.forward(x)).relu();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x));
        self.fc.forward(&self.pool.forward(&x).flatten(1))
    }
}

impl Block {
    fn new(p: &Scope, [inputs, outputs]: [usize; 2], stride: usize, rate: f32) -> Self {
        let downsample = (stride > 1).then(|| {
            let p = p.at("downsample");
            (conv(&p.at("0"), [inputs, outputs], 1, stride), BatchNorm::new(&p.at("1"), outputs))
        });
        Block {
            conv1: conv(&p.at("conv1"), [inputs, outputs], 3, stride),
            bn1: BatchNorm::new(&p.at("bn1"), outputs),
            conv2: conv(&p.at("conv2"), [outputs, outputs], 3, 1),
            bn2: BatchNorm::new(&p.at("bn2"), outputs),
            dropout: Dropout2d::new(&p.at("dropout"), rate),
            downsample,
        }
    }
}

impl Module for Block {
    fn forward(&self, x: &Var) -> Var {
        let out = self.bn1.forward(&self.conv1.forward(x)).relu();
        let out = self.bn2.forward(&self.conv2.forward(&self.dropout.forward(&out)));
        match &self.downsample {
            Some((conv, norm)) => (out + norm.forward(&conv.forward(x))).relu(),
            None => (out + x).relu(),
        }
    }
}

/// A convolution without a bias, which the batch norm behind it would take away again.
fn conv(p: &Scope, [inputs, outputs]: [usize; 2], side: usize, stride: usize) -> Conv2d {
    let options = ConvOptions {
        stride: [stride; 2],
        padding: Padding::Zeros([side / 2; 2]),
        bias: Bias::Absent,
        ..ConvOptions::default()
    };
    Conv2d::with_options(p, inputs, outputs, [side; 2], options)
}
