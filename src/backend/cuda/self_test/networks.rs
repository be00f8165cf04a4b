// SPDX-License-Identifier: MIT OR Apache-2.0
//! One training step of each of the article's networks, at their own sizes.

use super::{difference, labels, largest, numbers, reference, tolerance, Check};
use crate::loss::CrossEntropy;
use crate::models::{SimpleNet, VariableDropoutNet};
use crate::nn::{Linear, Module, Scope};
use crate::optim::Adam;
use crate::{Device, Net, Result, Seed, Tensor, Trainer};

const FEATURES: usize = 784;
const CLASSES: usize = 10;
/// One more than a warp's, so that the last tile is not full.
const SAMPLES: usize = 33;
/// Sums of up to 1024 products in another order.
const TOLERANCE: f32 = 3e-4;

/// Trains each network for one step on a device and on the CPU.
///
/// # Errors
/// [`crate::Error::Device`] if the device fails rather than computes something else.
pub fn self_test_networks(device: &Device) -> Result<Vec<Check>> {
    let simple = |p: &Scope| SimpleNet::new(p, FEATURES, 512, CLASSES, 0.5);
    Ok(vec![
        compare(device, "SimpleNet", simple)?,
        compare(device, "VariableDropoutNet", VariableDropoutNet::new)?,
    ])
}

/// A layer so wide that the largest tiles are used, forward and backward. It takes a GPU milliseconds
/// and the simulated one many minutes.
///
/// # Errors
/// As [`self_test_networks`].
pub fn self_test_wide_layer(device: &Device) -> Result<Check> {
    const WIDTH: usize = 2048;
    let (x, dy) = (numbers(5, [WIDTH, WIDTH])?, numbers(6, [WIDTH, WIDTH])?);
    let run = |device: Device| -> Result<Vec<Tensor>> {
        let make = |p: &Scope| Linear::new(&p.at("fc"), WIDTH, WIDTH);
        let gradients = Net::new(device, Seed(9), make)?.train().gradients(&x, &dy)?;
        let mut all = vec![gradients.output];
        all.extend(gradients.input);
        all.extend(gradients.parameters.into_iter().map(|(_, gradient)| gradient));
        Ok(all)
    };
    let (got, expected) = (run(device.clone())?, run(reference(device))?);
    let mut worst = 0.0;
    for (got, expected) in got.iter().zip(&expected) {
        worst = largest(worst, difference(got, expected)?);
    }
    let what = format!("linear of {WIDTH} features");
    Ok(Check { what, worst, tolerance: tolerance(device, TOLERANCE) })
}

fn compare<M: Module>(device: &Device, what: &str, make: fn(&Scope) -> M) -> Result<Check> {
    let (got, reference) = (step(device, make)?, step(&reference(device), make)?);
    let mut worst = 0.0;
    for (got, reference) in got.iter().zip(&reference) {
        worst = largest(worst, difference(got, reference)?);
    }
    let what = format!("a training step of {what}");
    Ok(Check { what, worst, tolerance: tolerance(device, TOLERANCE) })
}

/// The loss and what the step changed of every parameter: the parameters alone would hide it.
fn step<M: Module>(device: &Device, make: fn(&Scope) -> M) -> Result<Vec<Tensor>> {
    let mut net = Net::new(device.clone(), Seed(7), make)?;
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let mut before = Vec::with_capacity(names.len());
    for name in &names {
        before.push(net.parameter(name)?);
    }
    // With PyTorch's eps the first step takes the sign of gradients that are only rounding.
    let adam = Adam { eps: 1e-2, ..Adam::new(1e-2) };
    let mut fit = Trainer::new(net, CrossEntropy::default(), adam)?;
    let x = numbers(4, [SAMPLES, FEATURES])?;
    let loss = fit.step(&x, &labels(SAMPLES, CLASSES)?)?;
    let mut results = vec![Tensor::new([1], vec![loss.value()?])?];
    for (name, before) in names.iter().zip(&before) {
        let after = fit.net().parameter(name)?;
        let pairs = after.values()?.iter().zip(before.values()?);
        let change = pairs.map(|(after, before)| after - before).collect();
        results.push(Tensor::new(after.shape().clone(), change)?);
    }
    Ok(results)
}
