// SPDX-License-Identifier: MIT OR Apache-2.0
//! Four threads predict with one network while it is trained further: they share the parameters of
//! the moment when the predictor was made, and each has memory of its own to run in.
//!
//! `cargo run --release --example 05_predict_on_several_threads`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::sync::Arc;
use std::thread;

use kiln::data::{Digits, Loader, LoaderConfig};
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::Adam;
use kiln::{Device, Error, Net, Result, Seed, Tensor, Trainer};

fn main() -> Result<()> {
    let net = Net::new(Device::best()?, Seed(7), |p| SimpleNet::new(p, 784, 128, 10, 0.2))?;
    let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3))?;
    let config = LoaderConfig { batch_size: 64, ..LoaderConfig::default() };
    let mut batches = Vec::new();
    for batch in &mut Loader::new(Arc::new(Digits::load().to_28x28()), config)? {
        batches.push(batch?.into_rows()?);
    }
    for (images, labels) in &batches {
        fit.step(images, labels)?;
    }

    let predictor = fit.net().predictor()?;
    let shares = batches.chunks(batches.len().div_ceil(4));
    let right: Result<Vec<usize>> = thread::scope(|scope| {
        let threads: Vec<_> = shares
            .map(|share| {
                let mut predictor = predictor.clone();
                scope.spawn(move || {
                    let of = |(images, labels): &(Tensor, Tensor)| {
                        right(&predictor.forward(images)?, labels)
                    };
                    share.iter().map(of).sum()
                })
            })
            .collect();
        for (images, labels) in &batches {
            fit.step(images, labels)?; // nothing that the threads see
        }
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(died()))).collect()
    });
    let images: usize = batches.iter().map(|(images, _)| images.shape().samples()).sum();
    let right = right?;
    println!("right on each thread: {right:?}, {} of {images} images", right.iter().sum::<usize>());
    Ok(())
}

/// How many of a batch's images are recognised.
fn right(scores: &Tensor, labels: &Tensor) -> Result<usize> {
    let guesses = scores.argmax()?;
    let pairs = guesses.iter().zip(labels.integers()?);
    Ok(pairs.filter(|(guess, label)| **guess == **label as usize).count())
}

fn died() -> Error {
    Error::argument("thread", "one that ends by itself", "a panic")
}
