// SPDX-License-Identifier: MIT OR Apache-2.0
//! kiln's side of each case: the networks, their data, and the clock.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use kiln::loss::CrossEntropy;
use kiln::nn::{Dropout, Module};
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::{Device, Net, Seed, Tensor, Trainer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::case::{Case, Network, Rule, Work, DROPOUT_SHAPE};
use crate::Result;

pub(super) const INPUTS: usize = 784;
pub(super) const CLASSES: usize = 10;
pub(super) const SEED: Seed = Seed(7);
/// The peer warms up as often at the start of each of its turns.
const WARM_UP: usize = 2;

/// Something to time.
pub(super) trait Workload {
    /// Does it once.
    fn step(&mut self) -> kiln::Result<()>;
}

/// The workload of a case.
pub(super) fn build(case: &Case, threads: NonZeroUsize) -> Result<Box<dyn Workload>> {
    Ok(match case.work {
        Work::Training { network, batch, rule } => {
            let (x, target) = random_batch(batch)?;
            Box::new(Training { trainer: trainer(network, rule, threads)?, x, target })
        }
        Work::Dropout => Box::new(DropoutAlone::new(threads)?),
    })
}

/// Repeats a workload for some time; the duration of each step in milliseconds.
pub(super) fn time(workload: &mut dyn Workload, milliseconds: u64) -> Result<Vec<f64>> {
    for _ in 0..WARM_UP {
        workload.step()?;
    }
    let deadline = Instant::now() + Duration::from_millis(milliseconds);
    let mut durations = Vec::new();
    loop {
        let start = Instant::now();
        workload.step()?;
        durations.push(start.elapsed().as_secs_f64() * 1e3);
        if Instant::now() >= deadline {
            return Ok(durations);
        }
    }
}

/// A trainer as the peer's `new_training` makes it.
pub(super) fn trainer(
    network: Network,
    rule: Rule,
    threads: NonZeroUsize,
) -> Result<Trainer<Box<dyn Module>>> {
    let optimizer: Optimizer = match rule {
        Rule::Sgd => Sgd::new(0.01).momentum(0.9).into(),
        Rule::Adam => Adam::new(1e-3).into(),
    };
    let net = Net::new(Device::cpu_with_threads(threads), SEED, |p| network.build(p))?;
    Ok(Trainer::new(net, CrossEntropy::default(), optimizer)?)
}

/// Normally distributed samples and evenly distributed labels, the same every time.
pub(super) fn random_batch(batch: usize) -> Result<(Tensor, Tensor)> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED.0);
    let x = random_normal(&mut random, [batch, INPUTS])?;
    let labels = (0..batch).map(|_| random.random_range(0..CLASSES as i32)).collect();
    Ok((x, Tensor::labels([batch], labels)?))
}

fn random_normal(random: &mut ChaCha8Rng, shape: [usize; 2]) -> Result<Tensor> {
    let values = random.sample_iter(StandardNormal).take(shape[0] * shape[1]).collect();
    Ok(Tensor::new(shape, values)?)
}

struct Training {
    trainer: Trainer<Box<dyn Module>>,
    x: Tensor,
    target: Tensor,
}

impl Workload for Training {
    fn step(&mut self) -> kiln::Result<()> {
        self.trainer.step(&self.x, &self.target).map(drop)
    }
}

/// A network of one dropout layer, with a given gradient of its output.
pub(super) struct DropoutAlone {
    pub(super) net: Net<Dropout>,
    pub(super) x: Tensor,
    pub(super) dy: Tensor,
}

impl DropoutAlone {
    pub(super) const P: f32 = 0.5;

    pub(super) fn new(threads: NonZeroUsize) -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED.0);
        let device = Device::cpu_with_threads(threads);
        Ok(DropoutAlone {
            net: Net::new(device, SEED, |p| Dropout::new(&p.at("dropout"), Self::P))?,
            x: random_normal(&mut random, DROPOUT_SHAPE)?,
            dy: random_normal(&mut random, DROPOUT_SHAPE)?,
        })
    }
}

impl Workload for DropoutAlone {
    fn step(&mut self) -> kiln::Result<()> {
        self.net.train().gradients(&self.x, &self.dy).map(drop)
    }
}
