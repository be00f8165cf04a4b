// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks of the cases, layer by layer as the peer has them.

use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::Var;

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
        let [first, second] = self.dropout_sites();
        Box::new(Classifier {
            fc1: Linear::new(&p.at("fc1"), INPUTS, first.features),
            dropout1: Dropout::new(&p.at(first.layer), first.p),
            fc2: Linear::new(&p.at("fc2"), first.features, second.features),
            dropout2: Dropout::new(&p.at(second.layer), second.p),
            fc3: Linear::new(&p.at("fc3"), second.features, CLASSES),
        })
    }
}

/// Two hidden layers with dropout after each.
#[derive(Debug)]
struct Classifier {
    fc1: Linear,
    dropout1: Dropout,
    fc2: Linear,
    dropout2: Dropout,
    fc3: Linear,
}

impl Module for Classifier {
    fn forward(&self, x: &Var) -> Var {
        let x = self.dropout1.forward(&self.fc1.forward(x).relu());
        let x = self.dropout2.forward(&self.fc2.forward(&x).relu());
        self.fc3.forward(&x)
    }
}
