// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks of linear layers.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::dropping::Dropping;
use super::model::Model;
use super::protocol::case::{CLASSES, INPUTS};

/// 784-512-512-10, dropout 0.5.
#[derive(Module, Debug)]
pub struct Simple {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

impl Model for Simple {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn new(device: &Device) -> Self {
        Simple {
            fc1: LinearConfig::new(INPUTS, 512).init(device),
            fc2: LinearConfig::new(512, 512).init(device),
            fc3: LinearConfig::new(512, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>, dropping: &Dropping) -> Tensor<2> {
        let x = dropping.elements("dropout1", 0.5, relu(self.fc1.forward(x)));
        let x = dropping.elements("dropout2", 0.5, relu(self.fc2.forward(x)));
        self.fc3.forward(x)
    }
}

/// 784-1024-512-10, dropout 0.2 and 0.5.
#[derive(Module, Debug)]
pub struct Variable {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

impl Model for Variable {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn new(device: &Device) -> Self {
        Variable {
            fc1: LinearConfig::new(INPUTS, 1024).init(device),
            fc2: LinearConfig::new(1024, 512).init(device),
            fc3: LinearConfig::new(512, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>, dropping: &Dropping) -> Tensor<2> {
        let x = dropping.elements("dropout1", 0.2, relu(self.fc1.forward(x)));
        let x = dropping.elements("dropout2", 0.5, relu(self.fc2.forward(x)));
        self.fc3.forward(x)
    }
}
