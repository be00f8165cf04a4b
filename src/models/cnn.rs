// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two convolutions and two linear layers, with dropout of feature maps and of features.

use crate::graph::Var;
use crate::nn::{
    Conv2d, ConvOptions, Dropout, Dropout2d, Linear, MaxPool2d, Module, Padding, Scope,
};

/// A classifier of 32x32 colour images: `conv1 -> ReLU -> pool -> conv2 -> ReLU -> pool -> dropout_conv ->
/// fc1 -> ReLU -> dropout_fc -> fc2`.
///
/// Behind the convolutions whole feature maps are dropped, since neighbouring pixels say much the same.
///
/// # Shapes
/// `x`: `[samples, 3, 32, 32]`; scores: `[samples, classes]`.
///
/// # Errors
/// A rate outside `[0, 1]` comes back from the network's constructor, images of another shape from
/// the first run.
///
/// ```
/// use kiln::models::Cnn;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| Cnn::new(p, 10))?;
/// assert_eq!(net.parameter("fc1.weight")?.shape().dims(), [512, 128 * 8 * 8]);
/// let scores = net.eval().forward(&Tensor::zeros([2, 3, 32, 32]))?;
/// assert_eq!(scores.shape().dims(), [2, 10]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    dropout_conv: Dropout2d,
    fc1: Linear,
    dropout_fc: Dropout,
    fc2: Linear,
}

impl Cnn {
    /// The rates at which feature maps and features are dropped unless others are given.
    pub const RATES: [f32; 2] = [0.25, 0.5];

    /// A network with `classes` scores.
    pub fn new(p: &Scope, classes: usize) -> Self {
        Self::with_rates(p, classes, Self::RATES)
    }

    /// The same with other rates: of feature maps, and of features.
    pub fn with_rates(p: &Scope, classes: usize, [of_maps, of_features]: [f32; 2]) -> Self {
        let padded = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        Cnn {
            conv1: Conv2d::with_options(&p.at("conv1"), 3, 64, [3, 3], padded),
            conv2: Conv2d::with_options(&p.at("conv2"), 64, 128, [3, 3], padded),
            pool: MaxPool2d::new([2, 2]),
            dropout_conv: Dropout2d::new(&p.at("dropout_conv"), of_maps),
            fc1: Linear::new(&p.at("fc1"), 128 * 8 * 8, 512),
            dropout_fc: Dropout::new(&p.at("dropout_fc"), of_features),
            fc2: Linear::new(&p.at("fc2"), 512, classes),
        }
    }
}

impl Module for Cnn {
    fn forward(&self, x: &Var) -> Var {
        let x = self.pool.forward(&self.conv1.forward(x).relu());
        let x = self.pool.forward(&self.conv2.forward(&x).relu());
        let x = self.dropout_conv.forward(&x).flatten(1);
        let x = self.dropout_fc.forward(&self.fc1.forward(&x).relu());
        self.fc2.forward(&x)
    }
}
