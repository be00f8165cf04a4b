// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks of the cases, and what the peer must know of their dropout layers.

use kiln::models::{SimpleNet, VariableDropoutNet};
use kiln::nn::{Module, Scope};

use super::case::Network;
use super::workload::{CLASSES, INPUTS};

/// A dropout layer, as the peer needs to know it to take over its mask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) layer: &'static str,
    pub(super) features: usize,
    pub(super) p: f32,
}

impl Network {
    /// The dropout layers in order; each follows a hidden layer of as many features.
    pub(super) fn dropout_sites(self) -> [Site; 2] {
        let site = |layer, features, p| Site { layer, features, p };
        match self {
            Network::Simple => [site("dropout1", 512, 0.5), site("dropout2", 512, 0.5)],
            Network::VariableDropout => [site("dropout1", 1024, 0.2), site("dropout2", 512, 0.5)],
        }
    }

    /// Builds the network.
    pub(super) fn build(self, p: &Scope) -> Box<dyn Module> {
        match self {
            Network::Simple => Box::new(SimpleNet::new(p, INPUTS, 512, CLASSES, 0.5)),
            Network::VariableDropout => Box::new(VariableDropoutNet::new(p)),
        }
    }
}
