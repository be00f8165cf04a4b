// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two convolutions beside a skip connection, and a classifier with such a block.

use super::ImageClassifier;
use crate::graph::Var;
use crate::nn::{BatchNorm, Conv2d, ConvOptions, Dropout2d, Module, Padding, Scope, Sequential};

/// `conv1 -> bn1 -> ReLU -> dropout -> conv2 -> bn2`, plus what came in, and ReLU (He et al. 2015,
/// arXiv:1512.03385). Rates in residual branches are low, 0.1 to 0.2, so that information still flows.
///
/// # Shapes
/// `x` and `y`: `[samples, channels, height, width]`.
///
/// # Errors
/// A rate outside `[0, 1]` comes back from the network's constructor, images with other channels from
/// the first run.
///
/// ```
/// use kiln::models::ResidualBlock;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| ResidualBlock::new(p, 8, 0.1))?;
/// let y = net.train().forward(&Tensor::zeros([2, 8, 6, 6]))?;
/// assert_eq!(y.shape().dims(), [2, 8, 6, 6]);
/// assert_eq!(net.parameter("bn2.num_batches_tracked")?.counters()?, [1]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ResidualBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    dropout: Dropout2d,
}

impl ResidualBlock {
    /// The article's rate.
    pub const RATE: f32 = 0.1;

    /// A block of a number of channels, with feature maps dropped at `rate`.
    pub fn new(p: &Scope, channels: usize, rate: f32) -> Self {
        let padded = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        ResidualBlock {
            conv1: Conv2d::with_options(&p.at("conv1"), channels, channels, [3, 3], padded),
            bn1: BatchNorm::new(&p.at("bn1"), channels),
            conv2: Conv2d::with_options(&p.at("conv2"), channels, channels, [3, 3], padded),
            bn2: BatchNorm::new(&p.at("bn2"), channels),
            dropout: Dropout2d::new(&p.at("dropout"), rate),
        }
    }
}

impl Module for ResidualBlock {
    fn forward(&self, x: &Var) -> Var {
        let out = self.bn1.forward(&self.conv1.forward(x)).relu();
        let out = self.dropout.forward(&out);
        let out = self.bn2.forward(&self.conv2.forward(&out));
        (out + x).relu()
    }
}

/// A classifier of 32x32 colour images with one [`ResidualBlock`] of 64 channels: `stem -> block ->
/// means of 4x4 pixels -> fc`, where the stem is a convolution of stride 2 with batch norm and ReLU.
///
/// # Shapes
/// `x`: `[samples, 3, 32, 32]`; scores: `[samples, classes]`.
///
/// # Errors
/// As [`ResidualBlock`].
///
/// ```
/// use kiln::models::ResidualNet;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| ResidualNet::new(p, 10, 0.1))?;
/// let scores = net.eval().forward(&Tensor::zeros([2, 3, 32, 32]))?;
/// assert_eq!(scores.shape().dims(), [2, 10]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug)]
pub struct ResidualNet(ImageClassifier<Sequential>);

impl ResidualNet {
    /// A network with `classes` scores, with feature maps dropped at `rate`.
    pub fn new(p: &Scope, classes: usize, rate: f32) -> Self {
        let padding = Padding::Zeros([1, 1]);
        let halving = ConvOptions { stride: [2, 2], padding, ..ConvOptions::default() };
        let stem = |p: &Scope| {
            Sequential::new(p)
                .with(|p| Conv2d::with_options(p, 3, 64, [3, 3], halving))
                .with(|p| BatchNorm::new(p, 64))
                .with(|_| crate::nn::Relu)
        };
        let features =
            Sequential::new(&p.at("features")).with(stem).with(|p| ResidualBlock::new(p, 64, rate));
        ResidualNet(ImageClassifier::new(p, features, [64, 16], 4, classes))
    }
}

impl Module for ResidualNet {
    fn forward(&self, x: &Var) -> Var {
        self.0.forward(x)
    }
}
