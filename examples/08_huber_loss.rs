// SPDX-License-Identifier: MIT OR Apache-2.0
//! A loss of one's own: Huber's, which bears outliers that a squared error does not.
//!
//! `cargo run --release --example 08_huber_loss`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::loss::{Loss, Mse};
use kiln::nn::{Linear, Module, Scope};
use kiln::optim::Sgd;
use kiln::{Device, Net, Result, Seed, Tensor, Trainer, Var};

/// The mean of `d^2 / 2` where the distance `d` is below 1, and of `d - 1/2` elsewhere.
#[derive(Debug)]
pub struct Huber;

impl Loss for Huber {
    fn forward(&self, output: &Var, inputs: &[Var]) -> Var {
        let distance = (output - &inputs[0]).abs();
        distance.lt(1.0).where_(0.5 * distance.square(), &distance - 0.5).mean()
    }

    fn check(&self, target: &Tensor) -> Result<()> {
        target.values().map(|_| ())
    }

    fn weight(&self, target: &Tensor) -> Option<f64> {
        Some(target.shape().elements() as f64)
    }

    fn key(&self) -> String {
        "Huber".into()
    }
}

pub fn network(p: &Scope) -> impl Module {
    Linear::new(&p.at("fc"), 1, 1)
}

pub fn main() -> Result<()> {
    // y = 2 x + 1, but every eighth is far off.
    let points: Vec<f32> = (0..64).map(|i| i as f32 / 32.0 - 1.0).collect();
    let line = |(i, x): (usize, &f32)| 2.0 * x + if i % 8 == 3 { 20.0 } else { 1.0 };
    let y = Tensor::new([64, 1], points.iter().enumerate().map(line).collect())?;
    let x = Tensor::new([64, 1], points)?;
    let losses: [(&str, Box<dyn Loss>); 2] =
        [("squared error", Box::new(Mse::default())), ("Huber", Box::new(Huber))];
    for (name, loss) in losses {
        let mut fit =
            Trainer::new(Net::new(Device::best()?, Seed(7), network)?, loss, Sgd::new(0.1))?;
        for _ in 0..500 {
            fit.step(&x, &y)?;
        }
        let net = fit.net();
        let (slope, offset) =
            (net.parameter("fc.weight")?.item()?, net.parameter("fc.bias")?.item()?);
        println!("{name}: y = {slope:.2} x + {offset:.2}");
    }
    Ok(())
}
