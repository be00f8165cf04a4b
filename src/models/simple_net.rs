// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two hidden layers of one width, each with dropout at one rate.

use crate::graph::Var;
use crate::nn::{Dropout, Linear, Module, Scope};

/// `fc1 -> ReLU -> dropout1 -> fc2 -> ReLU -> dropout2 -> fc3`.
///
/// Dropout comes after the activations and never after the scores.
///
/// # Shapes
/// `x`: `[samples, input]`; scores: `[samples, classes]`.
///
/// # Errors
/// A rate outside `[0, 1]` comes back from the network's constructor, another width of `x` from
/// the first run.
///
/// ```
/// use kiln::models::SimpleNet;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 784, 512, 10, 0.5))?;
/// assert_eq!(net.parameter_count(), 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10);
/// let scores = net.eval().forward(&Tensor::zeros([2, 784]))?;
/// assert_eq!(scores.shape().dims(), [2, 10]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimpleNet {
    fc1: Linear,
    dropout1: Dropout,
    fc2: Linear,
    dropout2: Dropout,
    fc3: Linear,
}

impl SimpleNet {
    /// A network from `input` features over two layers of `hidden` features to `classes` scores,
    /// with dropout at `rate`.
    pub fn new(p: &Scope, input: usize, hidden: usize, classes: usize, rate: f32) -> Self {
        Self::with_rates(p, [input, hidden, classes], [rate; 2])
    }

    /// The same with a rate for each dropout.
    pub fn with_rates(
        p: &Scope,
        [input, hidden, classes]: [usize; 3],
        [first, second]: [f32; 2],
    ) -> Self {
        SimpleNet {
            fc1: Linear::new(&p.at("fc1"), input, hidden),
            dropout1: Dropout::new(&p.at("dropout1"), first),
            fc2: Linear::new(&p.at("fc2"), hidden, hidden),
            dropout2: Dropout::new(&p.at("dropout2"), second),
            fc3: Linear::new(&p.at("fc3"), hidden, classes),
        }
    }
}

impl Module for SimpleNet {
    fn forward(&self, x: &Var) -> Var {
        let x = self.dropout1.forward(&self.fc1.forward(x).relu());
        let x = self.dropout2.forward(&self.fc2.forward(&x).relu());
        self.fc3.forward(&x)
    }
}
