// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks of convolutions.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::dropping::Dropping;
use super::model::Model;
use super::protocol::case::CLASSES;

/// Two convolutions with pooling, two linear layers, dropout of maps and of features.
#[derive(Module, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    fc1: Linear,
    fc2: Linear,
}

impl Model for Cnn {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn new(device: &Device) -> Self {
        Cnn {
            conv1: biased([3, 64], device),
            conv2: biased([64, 128], device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc1: LinearConfig::new(128 * 8 * 8, 512).init(device),
            fc2: LinearConfig::new(512, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>, dropping: &Dropping) -> Tensor<2> {
        let x = self.pool.forward(relu(self.conv1.forward(x)));
        let x = self.pool.forward(relu(self.conv2.forward(x)));
        let x: Tensor<2> = dropping.maps("dropout_conv", 0.25, x).flatten(1, 3);
        self.fc2.forward(dropping.elements("dropout_fc", 0.5, relu(self.fc1.forward(x))))
    }
}

/// Two convolutions with dropout of feature maps between them.
#[derive(Module, Debug)]
pub struct Spatial {
    conv1: Conv2d,
    conv2: Conv2d,
}

impl Model for Spatial {
    type Input = Tensor<4>;
    type Output = Tensor<4>;

    fn new(device: &Device) -> Self {
        Spatial { conv1: biased([3, 64], device), conv2: biased([64, 128], device) }
    }

    fn forward(&self, x: Tensor<4>, dropping: &Dropping) -> Tensor<4> {
        let x = dropping.maps("spatial_dropout", 0.2, relu(self.conv1.forward(x)));
        relu(self.conv2.forward(x))
    }
}

/// Two convolutions of 64 channels with batch norm beside a skip connection.
#[derive(Module, Debug)]
pub struct Residual {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
}

impl Model for Residual {
    type Input = Tensor<4>;
    type Output = Tensor<4>;

    fn new(device: &Device) -> Self {
        Residual {
            conv1: biased([64, 64], device),
            bn1: BatchNormConfig::new(64).init(device),
            conv2: biased([64, 64], device),
            bn2: BatchNormConfig::new(64).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>, dropping: &Dropping) -> Tensor<4> {
        let out = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let out = dropping.maps("dropout", 0.1, out);
        relu(self.bn2.forward(self.conv2.forward(out)) + x)
    }
}

/// ResNet-20 with dropout of feature maps.
#[derive(Module, Debug)]
pub struct Resnet {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    fc: Linear,
}

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<(Conv2d, BatchNorm)>,
}

impl Model for Resnet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn new(device: &Device) -> Self {
        let stage = |inputs, outputs| {
            let first = Block::new([inputs, outputs], device);
            let more = (1..3).map(|_| Block::new([outputs, outputs], device));
            std::iter::once(first).chain(more).collect()
        };
        Resnet {
            conv1: bare([3, 16], 3, 1, device),
            bn1: BatchNormConfig::new(16).init(device),
            layer1: stage(16, 16),
            layer2: stage(16, 32),
            layer3: stage(32, 64),
            fc: LinearConfig::new(64, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>, dropping: &Dropping) -> Tensor<2> {
        let mut x = relu(self.bn1.forward(self.conv1.forward(x)));
        for (stage, blocks) in [&self.layer1, &self.layer2, &self.layer3].into_iter().enumerate() {
            for (index, block) in blocks.iter().enumerate() {
                x = block.forward(x, &format!("layer{}.{index}.dropout", stage + 1), dropping);
            }
        }
        let x: Tensor<2> = x.mean_dim(3).mean_dim(2).flatten(1, 3);
        self.fc.forward(x)
    }
}

impl Block {
    fn new([inputs, outputs]: [usize; 2], device: &Device) -> Self {
        let stride = if inputs == outputs { 1 } else { 2 };
        let norm = || BatchNormConfig::new(outputs).init(device);
        Block {
            conv1: bare([inputs, outputs], 3, stride, device),
            bn1: norm(),
            conv2: bare([outputs, outputs], 3, 1, device),
            bn2: norm(),
            downsample: (stride > 1).then(|| (bare([inputs, outputs], 1, stride, device), norm())),
        }
    }

    fn forward(&self, x: Tensor<4>, dropout: &str, dropping: &Dropping) -> Tensor<4> {
        let out = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let out = self.bn2.forward(self.conv2.forward(dropping.maps(dropout, 0.1, out)));
        let beside = match &self.downsample {
            Some((conv, norm)) => norm.forward(conv.forward(x)),
            None => x,
        };
        relu(out + beside)
    }
}

fn biased(channels: [usize; 2], device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device)
}

/// Without a bias, which the batch norm behind it would take away again.
fn bare(channels: [usize; 2], side: usize, stride: usize, device: &Device) -> Conv2d {
    let by = side / 2;
    Conv2dConfig::new(channels, [side, side])
        .with_padding(PaddingConfig2d::Explicit(by, by, by, by))
        .with_stride([stride, stride])
        .with_bias(false)
        .init(device)
}
