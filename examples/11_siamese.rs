// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two inputs through one tower: whether two images show the same digit.
//!
//! `cargo run --release --example 11_siamese`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::Arc;

use kiln::data::{
    Dataset, Digits, Field, Fields, Loader, LoaderConfig, MemoryDataset, Pass, Sample, Shuffle,
};
use kiln::loss::BceWithLogits;
use kiln::nn::{Keep, Linear, Module, Relu, Scope, Sequential};
use kiln::optim::Adam;
use kiln::{Device, Net, Result, Seed, Trainer, Var};

pub(crate) struct Siamese(Sequential);

pub(crate) fn network(p: &Scope) -> Siamese {
    let tower = Sequential::new(p).with(|p| Linear::new(p, 784, 64)).with(|_| Relu);
    Siamese(tower.with(|p| Linear::new(p, 64, 8)))
}

impl Module<(Var, Var)> for Siamese {
    fn forward(&self, (a, b): &(Var, Var)) -> Var {
        let distance = self.0.forward(a) - self.0.forward(b);
        1.0 - distance.square().sum_over([1], Keep::Extents)
    }
}

/// Pairs of images, every other one of the same digit, and 1 for those that are.
struct Pairs(MemoryDataset);

impl Dataset for Pairs {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn fields(&self) -> Fields {
        Fields::of(Field::f32([784])).input(Field::f32([784])).target(Field::f32([1]))
    }

    /// The second image of a pair is another in each epoch.
    fn read(&self, index: usize, pass: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)?;
        let labels = self.0.labels();
        let mut draws = pass.draws(index, 0);
        let mut second = draws.below(labels.len() as u32) as usize;
        while labels[second] != labels[index] && index.is_multiple_of(2) {
            second = draws.below(labels.len() as u32) as usize;
        }
        for (input, image) in [index, second].into_iter().enumerate() {
            sample.input(input).write_f32(&self.0.inputs()[image * 784..][..784])?;
        }
        let same = u8::from(labels[second] == labels[index]);
        sample.target(0).write_f32(&[f32::from(same)])
    }
}

pub(crate) fn main() -> Result<()> {
    let net = Net::new(Device::best()?, Seed(7), network)?;
    let mut fit = Trainer::new(net, BceWithLogits::default(), Adam::new(1e-3))?;
    let shuffle = Shuffle::Seeded(7);
    let config = LoaderConfig { batch_size: 64, shuffle, seed: 7, ..LoaderConfig::default() };
    let mut loader = Loader::new(Arc::new(Pairs(Digits::load().to_28x28())), config)?;
    for epoch in 1..=12 {
        let mut sum = 0.0;
        for batch in &mut loader {
            let batch = batch?;
            sum += fit.step(&batch.inputs, &batch.targets)?.value()?;
        }
        if epoch % 3 == 0 {
            println!("epoch {epoch}: loss {:.4}", sum / loader.len() as f32);
        }
    }
    Ok(())
}
