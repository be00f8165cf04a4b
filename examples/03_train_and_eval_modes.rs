// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the modes do: two forward passes in train mode differ, two in eval mode do not. A forward
//! pass without a mode does not compile.
//!
//! `cargo run --release --example 03_train_and_eval_modes`

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::models::SimpleNet;
use kiln::{Device, Net, Result, Seed, Tensor};

fn main() -> Result<()> {
    let mut net = Net::new(Device::best()?, Seed(7), |p| SimpleNet::new(p, 10, 20, 2, 0.5))?;
    let x = Tensor::new([1, 10], (0..10).map(|i| (i as f32 - 4.5) / 3.0).collect())?;

    let (output1, output2) = (net.train().forward(&x)?, net.train().forward(&x)?);
    println!("Train mode, outputs differ:");
    show(&output1, &output2)?;

    let (output3, output4) = (net.eval().forward(&x)?, net.eval().forward(&x)?);
    println!("\nEval mode, outputs are identical:");
    show(&output3, &output4)?;

    // Dropout left on at inference tells how sure the network is.
    let draws = net.monte_carlo(100).forward(&x)?;
    let first: Vec<f32> = draws.values()?.iter().step_by(2).copied().collect();
    let mean = first.iter().sum::<f32>() / first.len() as f32;
    let variance = first.iter().map(|y| (y - mean).powi(2)).sum::<f32>() / first.len() as f32;
    println!("\nMonte Carlo, 100 draws of the first score: {mean:.4} +- {:.4}", variance.sqrt());
    Ok(())
}

fn show(a: &Tensor, b: &Tensor) -> Result<()> {
    let difference: f32 = a.values()?.iter().zip(b.values()?).map(|(a, b)| (a - b).abs()).sum();
    println!("  {:?}\n  {:?}\n  difference {difference}", a.values()?, b.values()?);
    Ok(())
}
