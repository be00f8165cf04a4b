// SPDX-License-Identifier: MIT OR Apache-2.0
use kiln::loss::Mse;
use kiln::nn::Linear;
use kiln::optim::Sgd;
use kiln::{Device, Net, Seed, Tensor, Trainer};

fn main() {
    let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 2)).unwrap();
    let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).unwrap();
    let mut eval = fit.net().eval();
    fit.step(&Tensor::zeros([1, 3]), &Tensor::zeros([1, 2])).unwrap();
    eval.forward(&Tensor::zeros([1, 3])).unwrap();
}
