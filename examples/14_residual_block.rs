// SPDX-License-Identifier: MIT OR Apache-2.0
//! A residual block with batch norm: dropout stands inside the branch, at a low rate, and never on the
//! skip connection. Running statistics are used in eval mode, by construction.
//!
//! `cargo run --release --example 14_residual_block`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::nn::{BatchNorm, Conv2d, ConvOptions, Dropout2d, Module, Padding, Scope};
use kiln::{loss::Mse, optim::Sgd, Device, Net, Result, Seed, Tensor, Trainer, Var};

struct ResidualBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    dropout: Dropout2d,
}

impl ResidualBlock {
    fn new(p: &Scope, channels: usize, rate: f32) -> Self {
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
        let residual = x;
        let out = self.bn1.forward(&self.conv1.forward(x)).relu();
        let out = self.dropout.forward(&out);
        let out = self.bn2.forward(&self.conv2.forward(&out));
        (out + residual).relu() // skip connection
    }
}

fn main() -> Result<()> {
    let net = Net::new(Device::best()?, Seed(7), |p| ResidualBlock::new(p, 16, 0.1))?;
    let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1).momentum(0.9))?;
    let pixels: Vec<f32> = (0..8 * 16 * 256).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
    let images = Tensor::new([8, 16, 16, 16], pixels)?;
    for step in 1..=20 {
        let loss = fit.step(&images, &images)?.value()?;
        if step % 5 == 0 {
            println!("step {step:>2}: loss {loss:.4}");
        }
    }
    let batches = fit.net().parameter("bn1.num_batches_tracked")?.counters()?[0];
    println!("running statistics of {batches} batches, used in eval mode");
    Ok(())
}
