// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks of the cases, what they are given, and what the peer must know of their dropout layers.

use kiln::models::{
    Cnn, ResidualBlock, ResnetSmall, RnnClassifier, SimpleNet, SpatialDropoutCnn,
    VariableDropoutNet,
};
use kiln::nn::{Module, Scope};
use kiln::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::case::Network;
use super::workload::{random_normal, CLASSES, INPUTS, SEED};
use crate::Result;

/// Tokens of the recurrent network's vocabulary, and of each text.
const WORDS: usize = 10_000;
const STEPS: usize = 64;
/// Of the small ResNet: in float64 no input of a ReLU is nearer to 0 than 8.9e-6, many times what f32 rounds. With all 64
/// samples there are 12 million such inputs, and always some that are.
const FEW_SAMPLES: usize = 2;
/// Channels of the residual block.
const CHANNELS: usize = 64;

/// A layer that drops something, as the peer needs to know it to take over its masks.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) layer: String,
    pub(super) p: f32,
}

/// What the layers of a network drop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rates {
    /// As much as they do in the article.
    Own,
    /// Nothing.
    Zero,
}

/// What a network is trained to make small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    /// Cross-entropy of scores.
    Classes,
    /// The mean of the output's squares.
    Squares,
}

impl Network {
    /// The layers that drop something.
    pub(super) fn dropout_sites(self) -> Vec<Site> {
        let sites: &[(&str, f32)] = match self {
            Network::Simple => &[("dropout1", 0.5), ("dropout2", 0.5)],
            Network::VariableDropout => &[("dropout1", 0.2), ("dropout2", 0.5)],
            Network::Cnn => &[("dropout_conv", Cnn::RATES[0]), ("dropout_fc", Cnn::RATES[1])],
            Network::SpatialCnn => &[("spatial_dropout", SpatialDropoutCnn::RATE)],
            Network::ResidualBlock => &[("dropout", ResidualBlock::RATE)],
            Network::RnnClassifier => &[("dropout", 0.5), ("lstm", 0.5)],
            Network::ResnetSmall => {
                let blocks = 0..ResnetSmall::DROPOUTS;
                let layer = |block| format!("layer{}.{}.dropout", block / 3 + 1, block % 3);
                return blocks
                    .map(|block| Site { layer: layer(block), p: ResnetSmall::RATE })
                    .collect();
            }
        };
        sites.iter().map(|&(layer, p)| Site { layer: layer.to_owned(), p }).collect()
    }

    /// Builds the network.
    pub(super) fn build(self, p: &Scope, rates: Rates) -> Box<dyn Module> {
        let at = |rate: f32| match rates {
            Rates::Own => rate,
            Rates::Zero => 0.0,
        };
        match self {
            Network::Simple => Box::new(SimpleNet::new(p, INPUTS, 512, CLASSES, at(0.5))),
            Network::VariableDropout => {
                Box::new(VariableDropoutNet::with_rates(p, VariableDropoutNet::RATES.map(at)))
            }
            Network::Cnn => Box::new(Cnn::with_rates(p, CLASSES, Cnn::RATES.map(at))),
            Network::SpatialCnn => Box::new(SpatialDropoutCnn::new(p, at(SpatialDropoutCnn::RATE))),
            Network::ResnetSmall => Box::new(ResnetSmall::new(p, CLASSES, at(ResnetSmall::RATE))),
            Network::ResidualBlock => {
                Box::new(ResidualBlock::new(p, CHANNELS, at(ResidualBlock::RATE)))
            }
            Network::RnnClassifier => {
                Box::new(RnnClassifier::new(p, WORDS, 128, 256, CLASSES, at(0.5)))
            }
        }
    }

    /// So many of its samples that no input of a ReLU lies within rounding of 0, if a whole batch always has some that do.
    pub(super) fn few_samples(self) -> Option<usize> {
        (self == Network::ResnetSmall).then_some(FEW_SAMPLES)
    }

    /// What it is trained to do.
    pub(super) fn aim(self) -> Aim {
        match self {
            Network::ResidualBlock | Network::SpatialCnn => Aim::Squares,
            _ => Aim::Classes,
        }
    }

    /// Random inputs and evenly distributed labels, the same every time.
    pub(crate) fn random_batch(self, batch: usize) -> Result<(Tensor, Tensor)> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED.0);
        let x = match self {
            Network::Simple | Network::VariableDropout => {
                random_normal(&mut random, &[batch, INPUTS])?
            }
            Network::Cnn | Network::SpatialCnn | Network::ResnetSmall => {
                random_normal(&mut random, &[batch, 3, 32, 32])?
            }
            Network::ResidualBlock => random_normal(&mut random, &[batch, CHANNELS, 32, 32])?,
            Network::RnnClassifier => {
                let tokens = (0..batch * STEPS).map(|_| random.random_range(0..WORDS as i32));
                Tensor::labels([batch, STEPS], tokens.collect())?
            }
        };
        let labels = (0..batch).map(|_| random.random_range(0..CLASSES as i32)).collect();
        Ok((x, Tensor::labels([batch], labels)?))
    }
}
