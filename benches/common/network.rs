// SPDX-License-Identifier: MIT OR Apache-2.0
//! The networks under measurement.

use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::Var;

/// Features of a sample: 28x28 pixels.
pub(crate) const INPUTS: usize = 784;
pub(crate) const CLASSES: usize = 10;

/// A classifier with two hidden layers and dropout after each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) hidden: [usize; 2],
    pub(crate) rates: [f32; 2],
}

/// 784-512-512-10.
pub(crate) const SIMPLE: Network = Network { hidden: [512, 512], rates: [0.5, 0.5] };

impl Network {
    pub(crate) fn build(self, p: &Scope) -> Box<dyn Module> {
        let Network { hidden: [hidden1, hidden2], rates: [rate1, rate2], .. } = self;
        Box::new(Classifier {
            fc1: Linear::new(&p.at("fc1"), INPUTS, hidden1),
            dropout1: Dropout::new(&p.at("dropout1"), rate1),
            fc2: Linear::new(&p.at("fc2"), hidden1, hidden2),
            dropout2: Dropout::new(&p.at("dropout2"), rate2),
            fc3: Linear::new(&p.at("fc3"), hidden2, CLASSES),
        })
    }
}

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
