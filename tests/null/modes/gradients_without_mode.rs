// SPDX-License-Identifier: MIT OR Apache-2.0
use kiln::nn::Linear;
use kiln::{Device, Net, Seed, Tensor};

fn main() {
    let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 2)).unwrap();
    net.gradients(&Tensor::zeros([1, 3]), &Tensor::zeros([1, 2])).unwrap();
}
