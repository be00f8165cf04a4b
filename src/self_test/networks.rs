// SPDX-License-Identifier: MIT OR Apache-2.0
//! One training step of each of the article's networks, at their own sizes.

use super::{by_reference, difference, labels, largest, margin, numbers, tolerance, Check};
use crate::graph::Var;
use crate::loss::CrossEntropy;
use crate::models::{RnnClassifier, SimpleNet, VariableDropoutNet};
use crate::nn::{Linear, Module, Scope};
use crate::optim::Adam;
use crate::values::Values;
use crate::{Device, Net, Result, Seed, StepLoss, Tensor, Trainer};

const FEATURES: usize = 784;
const CLASSES: usize = 10;
/// One more than a warp's, so that the last tile is not full.
const SAMPLES: usize = 33;
/// Sums of up to 1024 products in another order.
const TOLERANCE: f32 = 3e-4;

/// Trains each network for one step on a device and on the CPU, from the values and with the masks of a
/// seed; any will do.
///
/// # Errors
/// [`crate::Error::Device`] if the device fails rather than computes something else.
pub fn networks(device: &Device, seed: Seed) -> Result<Vec<Check>> {
    let simple = |p: &Scope| SimpleNet::new(p, FEATURES, 512, CLASSES, 0.5);
    let simple_hidden = Hidden { widths: [512, 512], rates: [0.5, 0.5] };
    let variable_hidden = Hidden { widths: [1024, 512], rates: [0.2, 0.5] };
    let test = Test { device, seed };
    Ok(vec![
        test.compare("SimpleNet", simple, simple_hidden)?,
        test.compare("VariableDropoutNet", VariableDropoutNet::new, variable_hidden)?,
        test.compare_texts()?,
    ])
}

/// Tokens of the longest text, of texts of all lengths.
const TOKENS: usize = 5;
const WORDS: usize = 35;

/// Widths of a network's hidden layers and rates of the dropout behind them.
#[derive(Clone, Copy)]
struct Hidden {
    widths: [usize; 2],
    rates: [f32; 2],
}

struct Test<'a> {
    device: &'a Device,
    seed: Seed,
}

/// A layer so wide that the largest tiles are used, forward and backward. It takes a GPU milliseconds
/// and the simulated one many minutes.
///
/// # Errors
/// As [`networks()`].
pub fn wide_layer(device: &Device) -> Result<Check> {
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
    let (got, expected) = (run(device.clone())?, by_reference(device, run)?);
    let mut worst = 0.0;
    for (got, expected) in got.iter().zip(&expected) {
        worst = largest(worst, difference(got, expected)?);
    }
    let what = format!("linear of {WIDTH} features");
    Ok(Check { what, worst, tolerance: tolerance(device, TOLERANCE) })
}

impl Test<'_> {
    fn compare<M: Module>(
        &self,
        what: &str,
        make: fn(&Scope) -> M,
        hidden: Hidden,
    ) -> Result<Check> {
        let x = numbers(4, [SAMPLES, FEATURES])?;
        let widths = [FEATURES, hidden.widths[0], hidden.widths[1]];
        let biases = by_reference(self.device, |cpu| {
            margin::biases(&cpu, self.seed, &widths, &hidden.rates, &x)
        })?;
        let net = |device: &Device| -> Result<Net<M>> {
            let mut net = Net::new(device.clone(), self.seed, make)?;
            for (name, bias) in &biases {
                net.set_parameter(name, bias)?;
            }
            Ok(net)
        };
        let y = labels(SAMPLES, CLASSES)?;
        let run = |device: &Device| step(net(device)?, |fit: &mut Trainer<M>| fit.step(&x, &y));
        self.check(what, &run(self.device)?, &by_reference(self.device, |cpu| run(&cpu))?)
    }

    /// The recurrent classifier, whose two layers take texts of several lengths.
    fn compare_texts(&self) -> Result<Check> {
        let tokens = (0..SAMPLES * TOKENS).map(|index| (index * 11 % WORDS) as i32).collect();
        let tokens = Tensor::labels([SAMPLES, TOKENS], tokens)?;
        let lengths = (0..SAMPLES).map(|sample| (1 + sample * 3 % TOKENS) as i32).collect();
        let (lengths, y) = (Tensor::labels([SAMPLES], lengths)?, labels(SAMPLES, CLASSES)?);
        let make = |p: &Scope| RnnClassifier::new(p, WORDS, 24, 96, CLASSES, 0.3);
        let run = |device: &Device| {
            let net = Net::new(device.clone(), self.seed, make)?;
            step(net, |fit: &mut Trainer<RnnClassifier, (Var, Var)>| {
                fit.step((&tokens, &lengths), &y)
            })
        };
        self.check(
            "RnnClassifier",
            &run(self.device)?,
            &by_reference(self.device, |cpu| run(&cpu))?,
        )
    }

    fn check(&self, what: &str, got: &[Tensor], reference: &[Tensor]) -> Result<Check> {
        let mut worst = 0.0;
        for (got, reference) in got.iter().zip(reference) {
            worst = largest(worst, difference(got, reference)?);
        }
        let what = format!("a training step of {what}");
        Ok(Check { what, worst, tolerance: tolerance(self.device, TOLERANCE) })
    }
}

/// The loss and what the step changed of every parameter: the parameters alone would hide it.
fn step<M: Module<In>, In: Values>(
    mut net: Net<M>,
    train: impl FnOnce(&mut Trainer<M, In>) -> Result<StepLoss>,
) -> Result<Vec<Tensor>> {
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let mut before = Vec::with_capacity(names.len());
    for name in &names {
        before.push(net.parameter(name)?);
    }
    // With PyTorch's eps the first step takes the sign of gradients that are only rounding.
    let adam = Adam { eps: 1e-2, ..Adam::new(1e-2) };
    let mut fit = Trainer::new(net, CrossEntropy::default(), adam)?;
    let loss = train(&mut fit)?;
    let mut results = vec![Tensor::new([1], vec![loss.value()?])?];
    for (name, before) in names.iter().zip(&before) {
        let after = fit.net().parameter(name)?;
        let pairs = after.values()?.iter().zip(before.values()?);
        let change = pairs.map(|(after, before)| after - before).collect();
        results.push(Tensor::new(after.shape().clone(), change)?);
    }
    Ok(results)
}
