// SPDX-License-Identifier: MIT OR Apache-2.0
//! Different dropout rates at different depths: early layers learn general features and bear less
//! dropout (0.2) than later ones (0.5). Train mode drops just that share.
//!
//! `cargo run --release --example 02_variable_dropout`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::loss::CrossEntropy;
use kiln::models::VariableDropoutNet;
use kiln::nn::{Dropout, Module};
use kiln::optim::Sgd;
use kiln::{Device, Net, Result, Seed, Tensor, Trainer};

fn main() -> Result<()> {
    for rate in [0.2, 0.5] {
        let mut layer = Net::new(Device::cpu(), Seed(7), |p| Dropout::new(&p.at("dropout"), rate))?;
        let dropped = share_of_zeros(&mut layer)?;
        println!("dropout at {rate}: {:.1} % of a million elements dropped", 100.0 * dropped);
    }

    let net = Net::new(Device::best()?, Seed(7), VariableDropoutNet::new)?;
    println!("\nparameters, as PyTorch's state_dict names them:");
    for name in net.parameter_names() {
        println!("  {name}");
    }

    // One batch of noise, learnt by heart: dropout makes it harder, but not impossible.
    let pixels = (0..64 * 784).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
    let x = Tensor::new([64, 784], pixels)?;
    let labels = Tensor::labels([64], (0..64).map(|i| i % 10).collect())?;
    let mut fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.01).momentum(0.9))?;
    println!("\ntraining:");
    for step in 1..=200 {
        let loss = fit.step(&x, &labels)?.value()?;
        if step % 50 == 0 {
            println!("  step {step:>3}: loss {loss:.4}");
        }
    }
    Ok(())
}

/// The share of a train-mode output that is 0, for an input of ones.
fn share_of_zeros<M: Module>(net: &mut Net<M>) -> Result<f64> {
    let ones = Tensor::new([1000, 1000], vec![1.0; 1_000_000])?;
    let output = net.train().forward(&ones)?;
    let zeros = output.values()?.iter().filter(|&&y| y == 0.0).count();
    Ok(zeros as f64 / 1e6)
}
