// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spatial dropout: neighbouring pixels say much the same, so between convolutions whole feature maps
//! are dropped.
//!
//! `cargo run --release --example 13_spatial_dropout`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::nn::{Conv2d, ConvOptions, Dropout2d, Module, Padding, Scope};
use kiln::{Device, Net, Result, Seed, Tensor, Var};

struct SpatialDropoutCnn {
    conv1: Conv2d,
    spatial_dropout: Dropout2d,
    conv2: Conv2d,
}

impl SpatialDropoutCnn {
    fn new(p: &Scope) -> Self {
        let padded = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        SpatialDropoutCnn {
            conv1: Conv2d::with_options(&p.at("conv1"), 3, 64, [3, 3], padded),
            spatial_dropout: Dropout2d::new(&p.at("spatial_dropout"), 0.2),
            conv2: Conv2d::with_options(&p.at("conv2"), 64, 128, [3, 3], padded),
        }
    }
}

impl Module for SpatialDropoutCnn {
    fn forward(&self, x: &Var) -> Var {
        let x = self.conv1.forward(x).relu();
        let x = self.spatial_dropout.forward(&x); // drops entire feature maps
        self.conv2.forward(&x).relu()
    }
}

fn main() -> Result<()> {
    let ones = Tensor::new([8, 64, 16, 16], vec![1.0; 8 * 64 * 256])?;
    let mut layer = Net::new(Device::best()?, Seed(7), |p| Dropout2d::new(&p.at("d"), 0.2))?;
    let kept = layer.train().forward(&ones)?;
    let maps: Vec<&[f32]> = kept.values()?.chunks(256).collect();
    let dropped = maps.iter().filter(|map| map.iter().all(|&pixel| pixel == 0.0)).count();
    let whole = maps.iter().filter(|map| map.iter().all(|&pixel| pixel == map[0])).count();
    println!("{dropped} of {} feature maps dropped; {whole} are one value throughout", maps.len());

    let mut net = Net::new(Device::best()?, Seed(7), SpatialDropoutCnn::new)?;
    let images = Tensor::new([2, 3, 32, 32], vec![0.5; 2 * 3 * 1024])?;
    let (first, second) = (net.train().forward(&images)?, net.train().forward(&images)?);
    println!("train mode, outputs differ: {}", first != second);
    let (first, second) = (net.eval().forward(&images)?, net.eval().forward(&images)?);
    println!("eval mode, outputs are the same: {}", first == second);
    Ok(())
}
