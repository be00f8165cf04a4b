// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole training steps of a small classifier, one comparison per optimiser.

use super::{by_reference, difference, labels, largest, numbers, tolerance, Check};
use crate::graph::Var;
use crate::loss::CrossEntropy;
use crate::nn::{Dropout, Linear, Module, Scope};
use crate::op::Nesterov;
use crate::optim::{Adam, AdamW, Average, Group, Optimizer, Sgd};
use crate::{Device, Net, Result, Seed, Tensor, Trainer};

/// Issued, captured and replayed.
const STEPS: usize = 4;
/// Rounding grows from step to step.
const TOLERANCE: f32 = 3e-4;

/// A classifier without kinks: over several steps no margin would keep signs from flipping.
struct Smooth {
    fc1: Linear,
    dropout: Dropout,
    fc2: Linear,
    fc3: Linear,
}

impl Smooth {
    fn new(p: &Scope, inputs: usize, hidden: usize, classes: usize) -> Self {
        Smooth {
            fc1: Linear::new(&p.at("fc1"), inputs, hidden),
            dropout: Dropout::new(&p.at("dropout"), 0.5),
            fc2: Linear::new(&p.at("fc2"), hidden, hidden),
            fc3: Linear::new(&p.at("fc3"), hidden, classes),
        }
    }
}

impl Module for Smooth {
    fn forward(&self, x: &Var) -> Var {
        let x = self.dropout.forward(&self.fc1.forward(x).tanh());
        self.fc3.forward(&self.fc2.forward(&x).gelu())
    }
}

/// How a step is made.
#[derive(Clone, Copy)]
struct Setting {
    what: &'static str,
    optimizer: Optimizer,
    max_norm: Option<f64>,
    micro_batches: usize,
    parameters: Parameters,
}

/// How parameters are trained.
#[derive(Clone, Copy, PartialEq)]
enum Parameters {
    Alike,
    /// In groups, a layer frozen at first, and averages kept.
    Apart,
}

pub(super) fn compare(device: &Device, size: usize) -> Result<Vec<Check>> {
    settings().into_iter().map(|setting| compare_setting(device, size, setting)).collect()
}

fn settings() -> Vec<Setting> {
    let setting = |what, optimizer| {
        let (max_norm, micro_batches, parameters) = (None, 1, Parameters::Alike);
        Setting { what, optimizer, max_norm, micro_batches, parameters }
    };
    let momentum = Sgd { weight_decay: 0.01, ..Sgd::new(0.05).momentum(0.9) };
    // With PyTorch's eps the first steps of Adam take the sign of gradients that are only rounding.
    let adam = Adam { eps: 1e-2, ..Adam::new(1e-3) };
    vec![
        setting("SGD", Sgd::new(0.1).into()),
        setting("SGD with momentum", momentum.into()),
        setting("SGD, Nesterov", Sgd { nesterov: Nesterov::On, ..momentum }.into()),
        setting("Adam", Adam { weight_decay: 0.01, ..adam }.into()),
        setting("AdamW", AdamW { eps: 1e-2, ..AdamW::new(1e-3) }.into()),
        Setting { max_norm: Some(0.5), ..setting("Adam with clipping", adam.into()) },
        Setting {
            max_norm: Some(0.5),
            parameters: Parameters::Apart,
            ..setting("Adam of groups, with averages", Adam { weight_decay: 0.01, ..adam }.into())
        },
        Setting { micro_batches: 3, ..setting("SGD of micro-batches", Sgd::new(0.1).into()) },
    ]
}

fn compare_setting(device: &Device, size: usize, setting: Setting) -> Result<Check> {
    let (got, reference) =
        (train(device, size, setting)?, by_reference(device, |cpu| train(&cpu, size, setting))?);
    let mut worst = 0.0;
    for (got, reference) in got.iter().zip(&reference) {
        worst = largest(worst, difference(got, reference)?);
    }
    let what = format!("training steps: {} ({size})", setting.what);
    Ok(Check { what, worst, tolerance: tolerance(device, TOLERANCE) })
}

/// Losses, norms and the parameters at the end.
fn train(device: &Device, size: usize, setting: Setting) -> Result<Vec<Tensor>> {
    let (inputs, hidden, classes) = (size + 3, 2 * size + 1, 10);
    let net = Net::new(device.clone(), Seed(7), |p| Smooth::new(p, inputs, hidden, classes))?;
    let mut fit = Trainer::new(net, CrossEntropy::default(), setting.optimizer)?;
    if let Some(max_norm) = setting.max_norm {
        fit = fit.with_clipping(max_norm)?;
    }
    fit = fit.with_micro_batches(setting.micro_batches)?;
    if setting.parameters == Parameters::Apart {
        let fast = Group::of("fc3.*").rate_factor(2.0).weight_decay(0.1);
        fit = fit.with_groups([fast])?.without_decay_for_biases_and_norms();
        fit = fit.with_average(Average::new(0.75))?;
        fit.freeze("fc2.*")?;
    }
    let mut results = Vec::new();
    for step in 0..STEPS {
        let samples = size + 2;
        if setting.parameters == Parameters::Apart && step == STEPS / 2 {
            fit.unfreeze("fc2.*")?;
        }
        let loss =
            fit.step(&numbers(step as u64, [samples, inputs])?, &labels(samples, classes)?)?;
        results.push(Tensor::new([1], vec![loss.value()?])?);
        if let Some(norm) = loss.gradient_norm()? {
            results.push(Tensor::new([1], vec![norm])?);
        }
    }
    if setting.parameters == Parameters::Apart {
        let last = numbers(STEPS as u64, [size + 2, inputs])?;
        results.push(fit.averaged()?.forward(&last)?);
    }
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    for name in names {
        results.push(net.parameter(&name)?);
    }
    Ok(results)
}
