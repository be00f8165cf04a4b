// SPDX-License-Identifier: MIT OR Apache-2.0
//! A layer of one's own: RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467), which language models
//! normalise with. Gradients, every backend and checkpoints follow from its forward pass.
//!
//! `cargo run --release --example 06_rms_norm`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::Arc;

use kiln::data::{Digits, Loader, LoaderConfig};
use kiln::loss::CrossEntropy;
use kiln::nn::{Init, Keep, Linear, Module, Param, Scope};
use kiln::optim::AdamW;
use kiln::{Device, Net, Result, Seed, Trainer, Var};

/// `x / sqrt(mean(x^2) + 1e-6) * gain`, over the innermost extent.
pub struct RmsNorm {
    gain: Param,
}

impl RmsNorm {
    fn new(p: &Scope, width: usize) -> Self {
        RmsNorm { gain: p.parameter("gain", [width], Init::Ones) }
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Var) -> Var {
        let scale = (x.square().mean_over([-1], Keep::Extents) + 1e-6).rsqrt();
        x * scale * x.parameter(&self.gain)
    }
}

pub fn network(p: &Scope) -> impl Module {
    struct Normed(Linear, RmsNorm, Linear);
    impl Module for Normed {
        fn forward(&self, x: &Var) -> Var {
            self.2.forward(&self.1.forward(&self.0.forward(x)).silu())
        }
    }
    let norm = RmsNorm::new(&p.at("norm"), 64);
    Normed(Linear::new(&p.at("fc1"), 784, 64), norm, Linear::new(&p.at("fc2"), 64, 10))
}

pub fn main() -> Result<()> {
    let net = Net::new(Device::best()?, Seed(7), network)?;
    let mut fit = Trainer::new(net, CrossEntropy::default(), AdamW::new(3e-3))?;
    let config = LoaderConfig { batch_size: 64, ..LoaderConfig::default() };
    let mut loader = Loader::new(Arc::new(Digits::load().to_28x28()), config)?;
    for epoch in 1..=3 {
        let mut sum = 0.0;
        for batch in loader.epoch() {
            let (images, labels) = batch?.into_rows()?;
            sum += fit.step(&images, &labels)?.value()?;
        }
        println!("epoch {epoch}: mean loss {:.4}", sum / loader.len() as f32);
    }
    Ok(())
}
