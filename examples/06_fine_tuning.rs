// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network that knows digits learns whether they are even: its body is frozen at first, its head
//! learns ten times as fast, biases do not decay, and an average of all steps is evaluated, too.
//!
//! `cargo run --release --example 06_fine_tuning`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::Arc;

use kiln::data::{Digits, Loader, LoaderConfig};
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::{AdamW, Average, Group};
use kiln::{Device, Net, Result, Seed, Tensor, Trainer};

fn main() -> Result<()> {
    let config = LoaderConfig { batch_size: 64, ..LoaderConfig::default() };
    let mut batches = Vec::new();
    for batch in &mut Loader::new(Arc::new(Digits::load().to_28x28()), config)? {
        batches.push(batch?.into_rows()?);
    }
    let net = Net::new(Device::best()?, Seed(7), |p| SimpleNet::new(p, 784, 128, 10, 0.2))?;
    let mut digits = Trainer::new(net, CrossEntropy::default(), AdamW::new(1e-3))?;
    for (images, labels) in &batches {
        digits.step(images, labels)?;
    }
    for (_, labels) in &mut batches {
        let parity = labels.integers()?.iter().map(|label| label % 2).collect();
        *labels = Tensor::labels([labels.shape().samples()], parity)?;
    }

    let mut fit = Trainer::new(digits.into_net(), CrossEntropy::default(), AdamW::new(1e-4))?
        .with_groups([Group::of("fc3.*").rate_factor(10.0)])?
        .without_decay_for_biases_and_norms()
        .with_average(Average::new(0.95))?;
    fit.freeze("*")?;
    fit.unfreeze("fc3.*")?;
    for epoch in 1..=6 {
        if epoch == 4 {
            fit.unfreeze("*")?;
        }
        for (images, parity) in &batches {
            fit.step(images, parity)?;
        }
        let (mut averaged, mut counts) = (fit.averaged()?, [0; 3]);
        for (images, parity) in &batches {
            counts[0] += right(&fit.net().eval().forward(images)?, parity)?;
            counts[1] += right(&averaged.forward(images)?, parity)?;
            counts[2] += images.shape().samples();
        }
        let [latest, averaged, all] = counts;
        println!("epoch {epoch}: {latest} of {all} right, {averaged} by the average");
    }
    Ok(())
}

/// How many of a batch's images are told right.
fn right(scores: &Tensor, parity: &Tensor) -> Result<usize> {
    let guesses = scores.argmax()?;
    Ok(guesses.iter().zip(parity.integers()?).filter(|(g, p)| **g == **p as usize).count())
}
