// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two convolutions with dropout of feature maps between them.

use crate::graph::Var;
use crate::nn::{Conv2d, ConvOptions, Dropout2d, Module, Padding, Scope};

/// Features of colour images: `conv1 -> ReLU -> spatial_dropout -> conv2 -> ReLU`. A classifier needs a
/// head behind it: [`ImageClassifier`](super::ImageClassifier).
///
/// # Shapes
/// `x`: `[samples, 3, height, width]`; `y`: `[samples, 128, height, width]`.
///
/// # Errors
/// A rate outside `[0, 1]` comes back from the network's constructor, images with other channels from
/// the first run.
///
/// ```
/// use kiln::models::SpatialDropoutCnn;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| SpatialDropoutCnn::new(p, 0.2))?;
/// let maps = net.eval().forward(&Tensor::zeros([2, 3, 8, 8]))?;
/// assert_eq!(maps.shape().dims(), [2, 128, 8, 8]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpatialDropoutCnn {
    conv1: Conv2d,
    spatial_dropout: Dropout2d,
    conv2: Conv2d,
}

impl SpatialDropoutCnn {
    /// Channels of what it yields.
    pub const CHANNELS: usize = 128;
    /// The article's rate.
    pub const RATE: f32 = 0.2;

    /// Features with feature maps dropped at `rate`.
    pub fn new(p: &Scope, rate: f32) -> Self {
        let padded = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        SpatialDropoutCnn {
            conv1: Conv2d::with_options(&p.at("conv1"), 3, 64, [3, 3], padded),
            spatial_dropout: Dropout2d::new(&p.at("spatial_dropout"), rate),
            conv2: Conv2d::with_options(&p.at("conv2"), 64, Self::CHANNELS, [3, 3], padded),
        }
    }
}

impl Module for SpatialDropoutCnn {
    fn forward(&self, x: &Var) -> Var {
        let x = self.spatial_dropout.forward(&self.conv1.forward(x).relu());
        self.conv2.forward(&x).relu()
    }
}
