// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the benches share: networks and data, numbers of threads, and rates with honest units.

mod rates;

use std::num::NonZeroUsize;
use std::time::Duration;

use criterion::Criterion;
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::nn::{Module, Scope};
use kiln::optim::Optimizer;
use kiln::{Device, Net, Result, Seed, Tensor, Trainer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

pub(crate) use rates::{Peaks, Rates, Unit};

const SEED: u64 = 7;
/// Features of a sample: 28x28 pixels.
const INPUTS: usize = 784;
const CLASSES: usize = 10;

/// Builds a network under measurement.
pub(crate) type Network = fn(&Scope) -> Box<dyn Module>;

/// 784-512-512-10.
pub(crate) fn simple(p: &Scope) -> Box<dyn Module> {
    Box::new(SimpleNet::new(p, INPUTS, 512, CLASSES, 0.5))
}

/// A criterion that prints rates in a unit, with their shares of the peaks, configured by the command
/// line; where that says nothing, it is short enough for all benches to end within a quarter of an hour.
pub(crate) fn criterion(unit: Unit, peaks: Peaks) -> Criterion<Rates> {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(20)
        .with_measurement(Rates::of(unit, peaks))
        .configure_from_args()
}

/// One thread, and as many as the machine runs at the same time.
pub(crate) fn thread_counts() -> Vec<NonZeroUsize> {
    let all = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut counts = vec![NonZeroUsize::MIN, all];
    counts.dedup();
    counts
}

/// A network with its first parameters.
pub(crate) fn net(network: Network, threads: NonZeroUsize) -> Result<Net<Box<dyn Module>>> {
    Net::new(Device::cpu_with_threads(threads), Seed(SEED), network)
}

/// A trainer with cross-entropy.
pub(crate) fn trainer(
    network: Network,
    optimizer: impl Into<Optimizer>,
    threads: NonZeroUsize,
) -> Result<Trainer<Box<dyn Module>>> {
    Trainer::new(net(network, threads)?, CrossEntropy::default(), optimizer)
}

/// Normally distributed samples and evenly distributed labels, the same every time.
pub(crate) fn random_batch(batch: usize) -> Result<(Tensor, Tensor)> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let labels = (0..batch).map(|_| random.random_range(0..CLASSES as i32)).collect();
    let x = Tensor::new([batch, INPUTS], random_values(batch * INPUTS))?;
    Ok((x, Tensor::labels([batch], labels)?))
}

/// Normally distributed numbers, the same every time.
pub(crate) fn random_values(count: usize) -> Vec<f32> {
    ChaCha8Rng::seed_from_u64(SEED).sample_iter(StandardNormal).take(count).collect()
}
