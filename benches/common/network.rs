// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks under measurement.

use kiln::models::{SimpleNet, VariableDropoutNet};
use kiln::nn::{Module, Scope};

/// Features of a sample: 28x28 pixels.
pub(crate) const INPUTS: usize = 784;
pub(crate) const CLASSES: usize = 10;

/// A classifier with two hidden layers and dropout after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// 784-512-512-10.
    Simple,
    /// 784-1024-512-10, with rates that grow with depth.
    VariableDropout,
}

impl Network {
    pub(crate) fn build(self, p: &Scope) -> Box<dyn Module> {
        match self {
            Network::Simple => Box::new(SimpleNet::new(p, INPUTS, 512, CLASSES, 0.5)),
            Network::VariableDropout => Box::new(VariableDropoutNet::new(p)),
        }
    }
}
