// SPDX-License-Identifier: MIT OR Apache-2.0
use kiln::loss::Mse;
use kiln::nn::{Linear, Module};
use kiln::optim::Sgd;
use kiln::{Device, Net, Seed, Trainer, Var};

struct Two(Linear);

impl Module<Var, (Var, Var)> for Two {
    fn forward(&self, x: &Var) -> (Var, Var) {
        (self.0.forward(x), x.clone())
    }
}

fn main() {
    let net = Net::new(Device::cpu(), Seed(7), |p| Two(Linear::new(p, 3, 2))).unwrap();
    Trainer::new(net, Mse::default(), Sgd::new(0.1)).unwrap();
}
