// SPDX-License-Identifier: MIT OR Apache-2.0
//! An activation of one's own: Hardswish (Howard et al. 2019, arXiv:1905.02244), with its gradient.
//!
//! `cargo run --release --example 07_hardswish`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::nn::{Module, Scope};
use kiln::{Device, Net, Result, Seed, Tensor, Var};

/// `x * clamp(x + 3, 0, 6) / 6`: a sigmoid's shape without an exponential.
pub struct Hardswish;

impl Module for Hardswish {
    fn forward(&self, x: &Var) -> Var {
        x * (x + 3.0).clamp(0.0, 6.0) / 6.0
    }
}

pub fn network(_: &Scope) -> impl Module {
    Hardswish
}

pub fn main() -> Result<()> {
    let mut net = Net::new(Device::best()?, Seed(7), network)?;
    let points: Vec<f32> = (-8..=8).map(|i| i as f32 / 2.0).collect();
    let x = Tensor::new([1, points.len()], points)?;
    let ones = Tensor::new(x.shape().clone(), vec![1.0; x.shape().elements()])?;
    let found = net.eval().gradients(&x, &ones)?;
    let slopes = found.input.expect("the input has influence");
    println!("{:>6} {:>9} {:>9}", "x", "hardswish", "slope");
    for ((x, y), slope) in x.values()?.iter().zip(found.output.values()?).zip(slopes.values()?) {
        println!("{x:>6.1} {y:>9.4} {slope:>9.4}");
    }
    Ok(())
}
