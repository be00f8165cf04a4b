// SPDX-License-Identifier: MIT OR Apache-2.0
//! kiln's side of each case: the networks, their data, and the clock.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln::data::{Array, Arrays, Augmentation, Augmented, Loader, LoaderConfig, Shuffle};
use kiln::loss::{self, CrossEntropy};
use kiln::nn::{Dropout, Dropout2d, Module};
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::{Device, Mode, Net, Seed, Tensor, Trainer, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::case::{Alone, Case, Network, Rule, Work};
use super::monte_carlo::{MonteCarlo, Way};
use super::network::{Aim, Rates};
use crate::clock::Clock;
use crate::Result;

pub(super) const INPUTS: usize = 784;
pub(super) const CLASSES: usize = 10;
pub(super) const SEED: Seed = Seed(7);
/// The peer warms up as often at the start of each of its turns.
const WARM_UP: usize = 2;

/// Something to time.
pub(crate) trait Workload {
    /// Does it once.
    fn step(&mut self) -> kiln::Result<()>;

    /// How much a step is.
    fn amount(&mut self) -> kiln::Result<Amount>;
}

/// How much work something is, in the unit that bounds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Amount {
    /// Multiplications and additions of matrix products, convolutions as the sums that they mean.
    Flops(usize),
    /// Bytes that have to be read and written.
    Bytes(usize),
}

/// The workload of a case.
pub(crate) fn build(case: &Case, threads: NonZeroUsize) -> Result<Box<dyn Workload>> {
    Ok(match case.work {
        Work::Training { network, batch, rule } => {
            let (x, target) = network.random_batch(batch)?;
            let device = Device::cpu_with_threads(threads);
            Box::new(Training { trainer: trainer(network, rule, device, Rates::Own)?, x, target })
        }
        Work::Eval { network, batch } => Box::new(Eval::new(network, batch, threads)?),
        Work::Dropout(alone) => Box::new(DropoutAlone::new(alone, threads)?),
        Work::Loading => Box::new(Loading::new()?),
        Work::MonteCarlo => Box::new(MonteCarlo::new(Way::OneRun, threads)?),
    })
}

/// Repeats a workload for some time; the milliseconds of each step by a clock.
pub(crate) fn time(
    workload: &mut dyn Workload,
    milliseconds: u64,
    clock: Clock,
) -> Result<Vec<f64>> {
    for _ in 0..WARM_UP {
        workload.step()?;
    }
    let deadline = Instant::now() + Duration::from_millis(milliseconds);
    let mut durations = Vec::new();
    loop {
        let start = clock.now();
        workload.step()?;
        durations.push((clock.now() - start) * 1e3);
        if Instant::now() >= deadline {
            return Ok(durations);
        }
    }
}

/// A trainer as the peer's `new_training` makes it.
pub(crate) fn trainer(
    network: Network,
    rule: Rule,
    device: Device,
    rates: Rates,
) -> Result<Trainer<Box<dyn Module>>> {
    let optimizer: Optimizer = match rule {
        Rule::Sgd => Sgd::new(0.01).momentum(0.9).into(),
        Rule::Adam => Adam::new(1e-3).into(),
    };
    let net = Net::new(device, SEED, |p| network.build(p, rates))?;
    Ok(match network.aim() {
        Aim::Classes => Trainer::new(net, CrossEntropy::default(), optimizer)?,
        Aim::Squares => {
            let squares = loss::from_fn(|output: &Var, _: &Var| output.square().mean());
            Trainer::new(net, squares, optimizer)?
        }
    })
}

/// Normally distributed numbers.
pub(super) fn random_normal(random: &mut ChaCha8Rng, shape: &[usize]) -> Result<Tensor> {
    let values = random.sample_iter(StandardNormal).take(shape.iter().product()).collect();
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

    fn amount(&mut self) -> kiln::Result<Amount> {
        let plan = self.trainer.plan(&self.x.ty(), &self.target.ty())?;
        Ok(Amount::Flops(plan.totals().flops))
    }
}

/// A network that is asked in eval mode.
pub(super) struct Eval {
    pub(super) net: Net<Box<dyn Module>>,
    pub(super) x: Tensor,
}

impl Eval {
    pub(super) fn new(network: Network, batch: usize, threads: NonZeroUsize) -> Result<Self> {
        let (x, _) = network.random_batch(batch)?;
        let device = Device::cpu_with_threads(threads);
        Ok(Eval { net: Net::new(device, SEED, |p| network.build(p, Rates::Own))?, x })
    }
}

impl Workload for Eval {
    fn step(&mut self) -> kiln::Result<()> {
        self.net.eval().forward(&self.x).map(drop)
    }

    fn amount(&mut self) -> kiln::Result<Amount> {
        Ok(Amount::Flops(self.net.plan(Mode::Eval, &[self.x.ty()])?.totals().flops))
    }
}

/// A network of one dropout layer, with a given gradient of its output.
pub(super) struct DropoutAlone {
    pub(super) net: Net<Box<dyn Module>>,
    pub(super) x: Tensor,
    pub(super) dy: Tensor,
}

impl DropoutAlone {
    pub(super) const P: f32 = 0.5;

    pub(super) fn new(alone: Alone, threads: NonZeroUsize) -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED.0);
        let device = Device::cpu_with_threads(threads);
        let net = Net::new(device, SEED, |p| -> Box<dyn Module> {
            match alone {
                Alone::Elements => Box::new(Dropout::new(&p.at("dropout"), Self::P)),
                Alone::Channels => Box::new(Dropout2d::new(&p.at("dropout"), Self::P)),
            }
        })?;
        let x = random_normal(&mut random, alone.shape())?;
        Ok(DropoutAlone { net, x, dy: random_normal(&mut random, alone.shape())? })
    }
}

impl Workload for DropoutAlone {
    fn step(&mut self) -> kiln::Result<()> {
        self.net.train().gradients::<Var, Var>(&self.x, &self.dy).map(drop)
    }

    fn amount(&mut self) -> kiln::Result<Amount> {
        // Output and gradient are written, and what they come from is read.
        Ok(Amount::Bytes(4 * size_of::<f32>() * self.x.shape().elements()))
    }
}

/// Batches of images, cropped and mirrored at random as for training on CIFAR.
pub(super) struct Loading {
    loader: Loader,
}

impl Loading {
    pub(super) const BATCH: usize = 64;
    /// Images that there are.
    const IMAGES: usize = 4096;
    const IMAGE: [usize; 3] = [3, 32, 32];

    fn new() -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED.0);
        let [channels, height, width] = Self::IMAGE;
        let pixels = random_normal(&mut random, &[Self::IMAGES, channels, height, width])?;
        let labels: Vec<i32> = (0..Self::IMAGES as i32).map(|label| label % 10).collect();
        let images = Array::f32(pixels.values()?.to_vec(), &Self::IMAGE);
        let images = Arrays::new([images], [Array::i32(labels, &[])])?;
        let changes = [Augmentation::Crop { padding: 4 }, Augmentation::Flip { probability: 0.5 }];
        let config = LoaderConfig {
            batch_size: Self::BATCH,
            shuffle: Shuffle::Seeded(SEED.0),
            ..LoaderConfig::default()
        };
        Ok(Loading {
            loader: Loader::new(Arc::new(Augmented::new(Arc::new(images), changes)?), config)?,
        })
    }
}

impl Workload for Loading {
    fn step(&mut self) -> kiln::Result<()> {
        self.loader.next_batch().map(drop)
    }

    fn amount(&mut self) -> kiln::Result<Amount> {
        // What is read is written once.
        let pixels: usize = Self::IMAGE.iter().product();
        Ok(Amount::Bytes(2 * size_of::<f32>() * Self::BATCH * pixels))
    }
}
