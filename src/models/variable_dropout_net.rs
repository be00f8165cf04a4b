// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two hidden layers with dropout at different rates.

use crate::graph::Var;
use crate::nn::{Dropout, Linear, Module, Scope};

/// A classifier of 28x28 images whose dropout grows with depth: 784 -> 1024 (p = 0.2) -> 512
/// (p = 0.5) -> 10. Early layers learn general features and bear less dropout than later ones.
///
/// # Shapes
/// `x`: `[samples, 784]`; scores: `[samples, 10]`.
///
/// # Errors
/// A rate outside `[0, 1]` comes back from the network's constructor.
///
/// ```
/// use kiln::models::VariableDropoutNet;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), VariableDropoutNet::new)?;
/// let scores = net.eval().forward(&Tensor::zeros([2, 784]))?;
/// assert_eq!(scores.shape().dims(), [2, 10]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct VariableDropoutNet {
    fc1: Linear,
    dropout1: Dropout,
    fc2: Linear,
    dropout2: Dropout,
    fc3: Linear,
}

impl VariableDropoutNet {
    /// The rates unless others are given.
    pub const RATES: [f32; 2] = [0.2, 0.5];

    /// The network.
    pub fn new(p: &Scope) -> Self {
        Self::with_rates(p, Self::RATES)
    }

    /// The same at other rates.
    pub fn with_rates(p: &Scope, [first, second]: [f32; 2]) -> Self {
        VariableDropoutNet {
            fc1: Linear::new(&p.at("fc1"), 784, 1024),
            dropout1: Dropout::new(&p.at("dropout1"), first),
            fc2: Linear::new(&p.at("fc2"), 1024, 512),
            dropout2: Dropout::new(&p.at("dropout2"), second),
            fc3: Linear::new(&p.at("fc3"), 512, 10),
        }
    }
}

impl Module for VariableDropoutNet {
    fn forward(&self, x: &Var) -> Var {
        let x = self.dropout1.forward(&self.fc1.forward(x).relu());
        let x = self.dropout2.forward(&self.fc2.forward(&x).relu());
        self.fc3.forward(&x)
    }
}
