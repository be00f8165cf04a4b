// SPDX-License-Identifier: MIT OR Apache-2.0
use kiln::loss::Mse;
use kiln::nn::Linear;
use kiln::optim::Sgd;
use kiln::{Device, Net, Seed, Trainer};

fn main() {
    let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 2)).unwrap();
    Trainer::new(net.eval(), Mse::default(), Sgd::new(0.1)).unwrap();
}
