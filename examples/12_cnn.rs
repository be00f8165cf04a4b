// SPDX-License-Identifier: MIT OR Apache-2.0
//! A convolutional network with dropout of whole feature maps and, before the scores, of features.
//!
//! `cargo run --release --example 12_cnn`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::Arc;

use kiln::data::{Digits, Loader, LoaderConfig};
use kiln::nn::{
    Conv2d, ConvOptions, Dropout, Dropout2d, Linear, MaxPool2d, Module, Padding, Scope,
};
use kiln::{loss::CrossEntropy, optim::Sgd, Device, Net, Result, Seed, Trainer, Var};

struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    dropout_conv: Dropout2d,
    fc1: Linear,
    dropout_fc: Dropout,
    fc2: Linear,
}

impl Cnn {
    fn new(p: &Scope) -> Self {
        let padded = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        Cnn {
            conv1: Conv2d::with_options(&p.at("conv1"), 3, 64, [3, 3], padded),
            conv2: Conv2d::with_options(&p.at("conv2"), 64, 128, [3, 3], padded),
            pool: MaxPool2d::new([2, 2]),
            dropout_conv: Dropout2d::new(&p.at("dropout_conv"), 0.25), // whole feature maps
            fc1: Linear::new(&p.at("fc1"), 128 * 8 * 8, 512),
            dropout_fc: Dropout::new(&p.at("dropout_fc"), 0.5),
            fc2: Linear::new(&p.at("fc2"), 512, 10),
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

fn main() -> Result<()> {
    let net = Net::new(Device::best()?, Seed(7), Cnn::new)?;
    let mut fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.02).momentum(0.9))?;
    let (train, _) = Digits::load().to_32x32_rgb().shuffled(0).split(640)?;
    let config = LoaderConfig { batch_size: 64, ..LoaderConfig::default() };
    for batch in Loader::new(Arc::new(train), config)?.epoch() {
        let (images, labels) = batch?.into_tensors()?;
        println!("loss {:.4}", fit.step(&images, &labels)?.value()?);
    }
    Ok(())
}
