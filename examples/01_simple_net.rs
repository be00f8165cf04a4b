// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first network: two hidden layers with dropout, trained on handwritten digits.
//!
//! `cargo run --release --example 01_simple_net`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::Arc;

use kiln::data::{Dataset, Digits, Loader, LoaderConfig, Shuffle};
use kiln::loss::CrossEntropy;
use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::optim::Adam;
use kiln::{Device, Net, Result, Seed, Trainer, Var};

struct SimpleNet {
    fc1: Linear,
    dropout1: Dropout,
    fc2: Linear,
    dropout2: Dropout,
    fc3: Linear,
}

impl SimpleNet {
    fn new(p: &Scope, input: usize, hidden: usize, classes: usize, rate: f32) -> Self {
        SimpleNet {
            fc1: Linear::new(&p.at("fc1"), input, hidden),
            dropout1: Dropout::new(&p.at("dropout1"), rate),
            fc2: Linear::new(&p.at("fc2"), hidden, hidden),
            dropout2: Dropout::new(&p.at("dropout2"), rate),
            fc3: Linear::new(&p.at("fc3"), hidden, classes),
        }
    }
}

impl Module for SimpleNet {
    fn forward(&self, x: &Var) -> Var {
        // Dropout follows the activations; the scores are left alone.
        let x = self.dropout1.forward(&self.fc1.forward(x).relu());
        let x = self.dropout2.forward(&self.fc2.forward(&x).relu());
        self.fc3.forward(&x)
    }
}

fn main() -> Result<()> {
    let (train, test) = Digits::load().split(1500, 0)?;
    let config =
        LoaderConfig { batch_size: 50, shuffle: Shuffle::Seeded(7), ..LoaderConfig::default() };
    let mut loader = Loader::new(Arc::new(train), config)?;

    let net = Net::new(Device::best()?, Seed(7), |p| SimpleNet::new(p, 784, 512, 10, 0.5))?;
    println!("{} parameters on {}", net.parameter_count(), net.device());
    let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3))?;

    for epoch in 1..=5 {
        let mut sum = 0.0;
        for batch in loader.epoch() {
            let (images, labels) = batch?.into_rows()?;
            sum += fit.step(&images, &labels)?.value()?; // train mode, by construction
        }
        println!("epoch {epoch}: mean loss {:.4}", sum / loader.len() as f32);
    }

    let everything = LoaderConfig { batch_size: test.len(), ..LoaderConfig::default() };
    let (images, labels) = Loader::new(Arc::new(test), everything)?.next_batch()?.into_rows()?;
    let guesses = fit.net().eval().forward(&images)?.argmax()?; // eval mode, by construction
    let labels = labels.integers()?;
    let correct = guesses.iter().zip(labels).filter(|(a, b)| **a == **b as usize).count();
    println!("test accuracy: {correct} of {}", labels.len());
    Ok(())
}
