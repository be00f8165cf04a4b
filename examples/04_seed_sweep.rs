// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of a result is luck? The same network from four seeds, in four threads on one device.
//! Each thread makes its own network; on a GPU their steps run side by side.
//!
//! `cargo run --release --example 04_seed_sweep`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use kiln::data::{Dataset, Digits, Loader, LoaderConfig, Shuffle};
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::Adam;
use kiln::{Device, Net, Result, Seed, Trainer};

const SEEDS: [u64; 4] = [1, 2, 3, 4];

fn main() -> Result<()> {
    let device = device()?;
    let (train, test) = Digits::load().split(1500, 0)?;
    let (train, test) = (Arc::new(train), Arc::new(test));
    println!("{} networks on {device}", SEEDS.len());

    let accuracies: Result<Vec<f64>> = thread::scope(|scope| {
        let runs = SEEDS.map(|seed| {
            let (device, train, test) = (device.clone(), train.clone(), test.clone());
            scope.spawn(move || accuracy(device, Seed(seed), train, test))
        });
        runs.into_iter().map(|run| run.join().expect("a run does not panic")).collect()
    });

    let accuracies = accuracies?;
    for (seed, accuracy) in SEEDS.iter().zip(&accuracies) {
        println!("seed {seed}: test accuracy {:.2} %", 100.0 * accuracy);
    }
    let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
    let worst = accuracies.iter().fold(f64::INFINITY, |worst, accuracy| worst.min(*accuracy));
    let best = accuracies.iter().fold(0.0f64, |best, accuracy| best.max(*accuracy));
    println!("mean {:.2} %, from {:.2} to {:.2} %", 100.0 * mean, 100.0 * worst, 100.0 * best);
    Ok(())
}

/// The first GPU for all of them, or the CPU's threads shared out.
fn device() -> Result<Device> {
    if Device::first_gpu().is_some() {
        return Device::best();
    }
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(Device::cpu_with_threads(
        NonZeroUsize::new(threads / SEEDS.len()).unwrap_or(NonZeroUsize::MIN),
    ))
}

/// Trains for three epochs; the share of unseen digits that are then told right. Parameters, masks
/// and the order of the samples follow from the seed, and so does the result.
fn accuracy<D: Dataset + 'static>(
    device: Device,
    seed: Seed,
    train: Arc<D>,
    test: Arc<D>,
) -> Result<f64> {
    let net = Net::new(device, seed, |p| SimpleNet::new(p, 784, 128, 10, 0.3))?;
    let mut fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3))?;
    let shuffle = Shuffle::Seeded(seed.0);
    let config = LoaderConfig { batch_size: 50, shuffle, ..LoaderConfig::default() };
    let mut loader = Loader::new(train, config)?;
    for _ in 0..3 {
        for batch in loader.epoch() {
            let (images, labels) = batch?.into_rows()?;
            fit.step(&images, &labels)?;
        }
    }
    let everything = LoaderConfig { batch_size: test.len(), ..LoaderConfig::default() };
    let (images, labels) = Loader::new(test, everything)?.next_batch()?.into_rows()?;
    let guesses = fit.net().eval().forward(&images)?.argmax()?;
    let labels = labels.integers()?;
    let correct = guesses.iter().zip(labels).filter(|(a, b)| **a == **b as usize).count();
    Ok(correct as f64 / labels.len() as f64)
}
