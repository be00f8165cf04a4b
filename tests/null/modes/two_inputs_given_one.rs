// SPDX-License-Identifier: MIT OR Apache-2.0
use kiln::nn::{Linear, Module};
use kiln::{Device, Net, Seed, Tensor, Var};

struct Pair(Linear);

impl Module<(Var, Var)> for Pair {
    fn forward(&self, (a, b): &(Var, Var)) -> Var {
        &self.0.forward(a) - &self.0.forward(b)
    }
}

fn main() {
    let mut net = Net::new(Device::cpu(), Seed(7), |p| Pair(Linear::new(p, 3, 2))).unwrap();
    net.eval().forward(&Tensor::zeros([1, 3])).unwrap();
}
