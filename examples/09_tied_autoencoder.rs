// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights in two places: an autoencoder whose decoder is the transpose of its encoder. The gradients
//! of both uses add up.
//!
//! `cargo run --release --example 09_tied_autoencoder`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::Arc;

use kiln::data::{Digits, Loader, LoaderConfig};
use kiln::loss::Mse;
use kiln::nn::{Init, Module, Param, Scope};
use kiln::optim::Adam;
use kiln::{Device, Net, Result, Seed, Trainer, Var};

/// `act(x W^T + a) W + b`.
pub struct Autoencoder {
    weight: Param,
    code: Param,
    pixels: Param,
}

pub fn network(p: &Scope) -> Autoencoder {
    Autoencoder {
        weight: p.linear_weight("weight", 32, 784, Init::XavierUniform { gain: 1.0 }),
        code: p.parameter("code", [32], Init::Zeros),
        pixels: p.parameter("pixels", [784], Init::Zeros),
    }
}

impl Module for Autoencoder {
    fn forward(&self, x: &Var) -> Var {
        let weight = x.parameter(&self.weight);
        let code = (x.matmul_transposed(&weight) + x.parameter(&self.code)).relu();
        code.matmul(&weight) + x.parameter(&self.pixels)
    }
}

pub fn main() -> Result<()> {
    let net = Net::new(Device::best()?, Seed(7), network)?;
    let mut fit = Trainer::new(net, Mse::default(), Adam::new(1e-3))?;
    let config = LoaderConfig { batch_size: 64, ..LoaderConfig::default() };
    let mut loader = Loader::new(Arc::new(Digits::load().to_28x28()), config)?;
    for epoch in 1..=3 {
        let mut sum = 0.0;
        for batch in loader.epoch() {
            let (images, _) = batch?.into_rows()?;
            sum += fit.step(&images, &images)?.value()?;
        }
        println!("epoch {epoch}: mean squared error of a pixel {:.4}", sum / loader.len() as f32);
    }
    Ok(())
}
