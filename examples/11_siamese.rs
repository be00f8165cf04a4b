// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two inputs through one tower: whether two images show the same digit.
//!
//! `cargo run --release --example 11_siamese`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::data::{Dataset, Digits};
use kiln::loss::BceWithLogits;
use kiln::nn::{Keep, Linear, Module, Relu, Scope, Sequential};
use kiln::optim::Adam;
use kiln::{Device, Net, Result, Seed, Tensor, Trainer, Var};

const PAIRS: usize = 64;

struct Siamese(Sequential);

impl Module<(Var, Var)> for Siamese {
    fn forward(&self, (a, b): &(Var, Var)) -> Var {
        let distance = self.0.forward(a) - self.0.forward(b);
        1.0 - distance.square().sum_over([1], Keep::Extents)
    }
}

/// Pairs of images, every other one of the same digit, and 1 for those that are.
fn pairs(digits: &impl Dataset, step: usize) -> Result<((Tensor, Tensor), Tensor)> {
    let mut images = vec![vec![0.0; PAIRS * 784]; 2];
    let mut same = Vec::with_capacity(PAIRS);
    for (pair, room) in (0..PAIRS).map(|pair| (pair, pair * 784..(pair + 1) * 784)) {
        let first = (step * PAIRS + pair) * 7919 % digits.len();
        let label = digits.read(first, &mut images[0][room.clone()])?;
        let mut second = first * 31 + step;
        let mut other = digits.read(second % digits.len(), &mut images[1][room.clone()])?;
        while other != label && pair % 2 == 0 {
            second += 1;
            other = digits.read(second % digits.len(), &mut images[1][room.clone()])?;
        }
        same.push(f32::from(u8::from(other == label)));
    }
    let [a, b] = [0, 1].map(|index| Tensor::new([PAIRS, 784], images[index].clone()));
    Ok(((a?, b?), Tensor::new([PAIRS, 1], same)?))
}

fn main() -> Result<()> {
    let tower = |p: &Scope| Sequential::new(p).with(|p| Linear::new(p, 784, 64)).with(|_| Relu);
    let make = |p: &Scope| Siamese(tower(p).with(|p| Linear::new(p, 64, 8)));
    let net = Net::new(Device::best()?, Seed(7), make)?;
    let mut fit = Trainer::new(net, BceWithLogits::default(), Adam::new(1e-3))?;
    let digits = Digits::load().to_28x28();
    for step in 1..=400 {
        let ((a, b), same) = pairs(&digits, step)?;
        let loss = fit.step((&a, &b), &same)?;
        if step % 100 == 0 {
            println!("step {step}: loss {:.4}", loss.value()?);
        }
    }
    Ok(())
}
