// SPDX-License-Identifier: MIT OR Apache-2.0
//! What grows.

use kiln::loss::CrossEntropy;
use kiln::models::{RnnClassifier, SimpleNet};
use kiln::nn::{
    AdaptiveAvgPool2d, Conv2d, ConvOptions, Dropout, Flatten, Linear, Module, Padding, Relu, Scope,
    Sequential,
};
use kiln::optim::Sgd;
use kiln::{Device, Net, Result, Seed, Tensor, Trainer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

const SEED: u64 = 7;
const INPUTS: usize = 784;
const CLASSES: usize = 10;
const WORDS: usize = 1000;
/// Samples, where the batch is not what grows.
const BATCH: usize = 64;
/// Of images and of texts.
const SMALL_BATCH: usize = 16;
/// Units of each layer, where their number grows.
const UNITS: usize = 256;

/// A quantity that grows from point to point, all else being the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Axis {
    Batch,
    Width,
    Depth,
    Image,
    Length,
}

/// A step that can be repeated.
pub(crate) struct Step {
    pub(crate) trainer: Trainer<Box<dyn Module>>,
    pub(crate) x: Tensor,
    pub(crate) labels: Tensor,
}

impl Axis {
    pub(crate) const ALL: [Axis; 5] =
        [Axis::Batch, Axis::Width, Axis::Depth, Axis::Image, Axis::Length];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Axis::Batch => "batch",
            Axis::Width => "width",
            Axis::Depth => "depth",
            Axis::Image => "image",
            Axis::Length => "length",
        }
    }

    /// What is trained.
    pub(crate) fn subject(self) -> &'static str {
        match self {
            Axis::Batch => "samples of 784-512-512-10, dropout 0.5",
            Axis::Width => "units of both hidden layers, 64 samples, dropout 0.5",
            Axis::Depth => "layers of 256 units with ReLU and dropout 0.1, 64 samples",
            Axis::Image => "pixels of a side, convolutions 3-32-32 and means, 16 images",
            Axis::Length => "words of a text, embedding 64, LSTM of 128 units, 16 texts",
        }
    }

    /// The points, twice as much each; four times where it is to go fast.
    pub(crate) fn sizes(self, quick: bool) -> Vec<usize> {
        let (first, last): (usize, usize) = match self {
            Axis::Batch => (1, 4096),
            Axis::Width => (64, 4096),
            Axis::Depth => (1, 128),
            Axis::Image => (8, 128),
            Axis::Length => (8, 1024),
        };
        let factor = if quick && last / first > 64 { 4 } else { 2 };
        let next = |&size: &usize| (size < last).then(|| (size * factor).min(last));
        std::iter::successors(Some(first), next).collect()
    }

    /// The step of a point.
    pub(crate) fn step(self, size: usize, device: Device) -> Result<Step> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let samples = match self {
            Axis::Batch => size,
            Axis::Width | Axis::Depth => BATCH,
            Axis::Image | Axis::Length => SMALL_BATCH,
        };
        let mut normal = |shape: &[usize]| -> Result<Tensor> {
            let count = shape.iter().product();
            let values = (&mut random).sample_iter(StandardNormal).take(count).collect();
            Tensor::new(shape, values)
        };
        let x = match self {
            Axis::Batch | Axis::Width | Axis::Depth => normal(&[samples, INPUTS])?,
            Axis::Image => normal(&[samples, 3, size, size])?,
            Axis::Length => {
                let words = (0..samples * size).map(|word| (word * 7919 % WORDS) as i32);
                Tensor::labels([samples, size], words.collect())?
            }
        };
        let labels = (0..samples).map(|label| (label % CLASSES) as i32).collect();
        let labels = Tensor::labels([samples], labels)?;
        let net = Net::new(device, Seed(SEED), |p| self.network(size, p))?;
        let trainer = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.01).momentum(0.9))?;
        Ok(Step { trainer, x, labels })
    }

    fn network(self, size: usize, p: &Scope) -> Box<dyn Module> {
        match self {
            Axis::Batch => Box::new(SimpleNet::new(p, INPUTS, 512, CLASSES, 0.5)),
            Axis::Width => Box::new(SimpleNet::new(p, INPUTS, size, CLASSES, 0.5)),
            Axis::Depth => {
                let mut layers = Sequential::new(p).with(|p| Linear::new(p, INPUTS, UNITS));
                for _ in 0..size {
                    layers = layers
                        .with(|_| Relu)
                        .with(|p| Dropout::new(p, 0.1))
                        .with(|p| Linear::new(p, UNITS, UNITS));
                }
                Box::new(layers.with(|_| Relu).with(|p| Linear::new(p, UNITS, CLASSES)))
            }
            Axis::Image => {
                let padding = Padding::Zeros([1, 1]);
                let same = ConvOptions { padding, ..ConvOptions::default() };
                let layers = Sequential::new(p)
                    .with(|p| Conv2d::with_options(p, 3, 32, [3, 3], same))
                    .with(|_| Relu)
                    .with(|p| Conv2d::with_options(p, 32, 32, [3, 3], same))
                    .with(|_| Relu)
                    .with(|_| AdaptiveAvgPool2d::new(1, 1))
                    .with(|_| Flatten::default());
                Box::new(layers.with(|p| Linear::new(p, 32, CLASSES)))
            }
            Axis::Length => Box::new(RnnClassifier::new(p, WORDS, 64, 128, CLASSES, 0.5)),
        }
    }
}
