// SPDX-License-Identifier: MIT OR Apache-2.0
//! A training step of networks of images: the article's convolutional network and its residual block, small,
//! and depthwise convolutions.
//!
//! Factors of convolutions are small integers, so that sums are the same in any order and of equal elements
//! under a window every device takes the first; batch norm ends far from 0, where ReLU has its kink.

use super::{by_reference, difference, largest, numbers, Check};
use crate::graph::Var;
use crate::loss::CrossEntropy;
use crate::models::ResidualBlock;
use crate::nn::{
    AvgPool2d, BatchNorm, Conv2d, ConvOptions, Dropout, Dropout2d, Linear, MaxPool2d, Module,
    Padding, Scope,
};
use crate::optim::Sgd;
use crate::{Device, LossScale, Net, Precision, Result, Seed, Tensor, Trainer};

const SEED: u64 = 13;
const SAMPLES: usize = 3;
const CLASSES: usize = 5;
const CHANNELS: usize = 8;
/// So large that no change is small beside the parameter it is read from, whose last bit would count for more.
const RATE: f64 = 128.0;
/// Sums of some hundred products in another order.
const TOLERANCE: f32 = 1e-4;
/// Factors are cut off behind ten bits. One so near to a cut that two devices see different sides of it differs by up to
/// 2^-10 of itself, and so does a sum that is mainly one product with it: a gradient of the classifier has three terms, a
/// sample each. In sums of many terms it is less, and few seeds have such a factor at all.
const TOLERANCE_TF32: f32 = 1.0 / 1024.0;
/// The CPU rounds values that a GPU keeps in registers: the simulated device is 2.8e-2 from it.
const TOLERANCE_BF16: f32 = 8e-2;
/// The same: 2.3e-3.
const TOLERANCE_F16: f32 = 8e-3;

/// As [`crate::models::Cnn`], of fewer channels and features. With rates of a half what is kept is doubled.
struct SmallCnn {
    convs: [Conv2d; 2],
    pool: MaxPool2d,
    dropout_conv: Dropout2d,
    fc1: Linear,
    dropout_fc: Dropout,
    fc2: Linear,
}

impl SmallCnn {
    fn new(p: &Scope) -> Self {
        SmallCnn {
            convs: [padded(p, "conv1", 3, CHANNELS), padded(p, "conv2", CHANNELS, 2 * CHANNELS)],
            pool: MaxPool2d::new([2, 2]),
            dropout_conv: Dropout2d::new(&p.at("dropout_conv"), 0.5),
            fc1: Linear::new(&p.at("fc1"), 2 * CHANNELS * 4, 9),
            dropout_fc: Dropout::new(&p.at("dropout_fc"), 0.5),
            fc2: Linear::new(&p.at("fc2"), 9, CLASSES),
        }
    }
}

impl Module for SmallCnn {
    fn forward(&self, x: &Var) -> Var {
        let [conv1, conv2] = &self.convs;
        let x = self.pool.forward(&conv1.forward(x).relu());
        let x = self.pool.forward(&conv2.forward(&x).relu());
        let x = self.dropout_conv.forward(&x).flatten(1);
        self.fc2.forward(&self.dropout_fc.forward(&self.fc1.forward(&x).relu()))
    }
}

/// A residual block behind a convolution, and a classifier of what it yields.
struct SmallResidual {
    stem: Conv2d,
    norm: BatchNorm,
    block: ResidualBlock,
    pool: AvgPool2d,
    fc: Linear,
}

impl SmallResidual {
    fn new(p: &Scope) -> Self {
        SmallResidual {
            stem: padded(p, "stem", 3, CHANNELS),
            norm: BatchNorm::new(&p.at("norm"), CHANNELS),
            block: ResidualBlock::new(&p.at("block"), CHANNELS, 0.5),
            pool: AvgPool2d::new([4, 4]),
            fc: Linear::new(&p.at("fc"), CHANNELS * 4, CLASSES),
        }
    }
}

impl Module for SmallResidual {
    fn forward(&self, x: &Var) -> Var {
        let x = self.norm.forward(&self.stem.forward(x)).relu();
        self.fc.forward(&self.pool.forward(&self.block.forward(&x)).flatten(1))
    }
}

/// Depthwise convolutions behind another, the first with two results for each channel.
struct SmallDepthwise {
    first: Conv2d,
    doubled: Conv2d,
    own: Conv2d,
    pool: MaxPool2d,
    fc: Linear,
}

impl SmallDepthwise {
    fn new(p: &Scope) -> Self {
        let (channels, outputs) = (CHANNELS / 2, CHANNELS);
        SmallDepthwise {
            first: padded(p, "first", 3, channels),
            doubled: in_groups(p, "doubled", [channels, outputs], channels),
            own: in_groups(p, "own", [outputs; 2], outputs),
            pool: MaxPool2d::new([2, 2]),
            fc: Linear::new(&p.at("fc"), outputs * 16, CLASSES),
        }
    }
}

impl Module for SmallDepthwise {
    fn forward(&self, x: &Var) -> Var {
        let x = self.doubled.forward(&self.first.forward(x).relu()).relu();
        self.fc.forward(&self.pool.forward(&self.own.forward(&x)).flatten(1))
    }
}

fn padded(p: &Scope, name: &str, inputs: usize, outputs: usize) -> Conv2d {
    in_groups(p, name, [inputs, outputs], 1)
}

fn in_groups(p: &Scope, name: &str, [inputs, outputs]: [usize; 2], groups: usize) -> Conv2d {
    let padding = Padding::Zeros([1, 1]);
    let options = ConvOptions { padding, groups, ..ConvOptions::default() };
    Conv2d::with_options(&p.at(name), inputs, outputs, [3, 3], options)
}

/// Compares a training step of each of a few networks of images, whose numbers belong to a seed; [`super::kernels`] takes 0.
///
/// # Errors
/// [`crate::Error::Device`] if the device fails rather than computes something else.
pub fn images(device: &Device, seed: Seed) -> Result<Vec<Check>> {
    Ok(vec![
        compare_step(device, seed, "the convolutional network", SmallCnn::new)?,
        compare_step(device, seed, "the residual block", SmallResidual::new)?,
        compare_step(device, seed, "depthwise convolutions", SmallDepthwise::new)?,
    ])
}

fn compare_step<M: Module>(
    device: &Device,
    seed: Seed,
    what: &str,
    make: fn(&Scope) -> M,
) -> Result<Check> {
    let of_reference = by_reference(device, |cpu| step(&cpu, seed, make))?;
    let (got, reference) = (step(device, seed, make)?, of_reference);
    let mut worst = 0.0;
    for (got, reference) in got.iter().zip(&reference) {
        worst = largest(worst, difference(got, reference)?);
    }
    let tolerance = match device.precision() {
        Precision::F32 => TOLERANCE,
        Precision::Tf32 => TOLERANCE_TF32,
        Precision::Bf16 => TOLERANCE_BF16,
        Precision::F16 => TOLERANCE_F16,
    };
    Ok(Check { what: format!("a training step of {what}"), worst, tolerance })
}

/// The loss and what the step changed of every parameter and state.
fn step<M: Module>(device: &Device, seed: Seed, make: fn(&Scope) -> M) -> Result<Vec<Tensor>> {
    let Seed(first) = seed;
    let mut net = Net::new(device.clone(), Seed(SEED + first), make)?;
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let mut before = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let value = net.parameter(name)?;
        if let Some(value) = exact(name, SEED * first + index as u64, &value)? {
            net.set_parameter(name, &value)?;
        }
        before.push(net.parameter(name)?);
    }
    let fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(RATE))?;
    // A step that overflows at the first scale would change nothing.
    let mut fit = fit.with_loss_scale(LossScale::Off)?;
    let x = integers(SEED * first + 1, &Tensor::zeros([SAMPLES, 3, 8, 8]), 2.0)?;
    let labels = Tensor::labels([SAMPLES], vec![1, 4, 2])?;
    let mut results = vec![Tensor::new([1], vec![fit.step(&x, &labels)?.value()?])?];
    for (name, before) in names.iter().zip(&before) {
        let after = fit.net().parameter(name)?;
        // Behind a bias that batch norm takes away again its gradient is rounding alone; counters are
        // no numbers.
        let is_rounding =
            name.ends_with(".bias") && (name.contains("stem") || name.contains("block.conv"));
        let (Ok(values), false) = (after.values(), is_rounding) else { continue };
        let pairs = values.iter().zip(before.values()?);
        let change = pairs.map(|(after, before)| after - before).collect();
        results.push(Tensor::new(after.shape().clone(), change)?);
    }
    Ok(results)
}

/// What a parameter begins with, if not with what it is given.
fn exact(name: &str, seed: u64, value: &Tensor) -> Result<Option<Tensor>> {
    let is_norm = ["norm.", ".bn1.", ".bn2."].iter().any(|part| name.contains(part));
    let elements = value.shape().elements();
    if is_norm {
        // Batches of 192 values: none is further than 14 deviations from the mean.
        let far = |index: usize| if index.is_multiple_of(2) { 4.0 } else { -4.0 };
        return match name.rsplit('.').next() {
            Some("weight") => Tensor::new([elements], vec![0.25; elements]).map(Some),
            Some("bias") => Tensor::new([elements], (0..elements).map(far).collect()).map(Some),
            _ => Ok(None),
        };
    }
    let keeps = name.starts_with("fc2") || name == "fc.weight" || name == "fc.bias";
    if keeps {
        Ok(None)
    } else {
        integers(seed, value, 1.0).map(Some)
    }
}

/// Integers of at most a size, most of them 0 where it is 1.
fn integers(seed: u64, like: &Tensor, size: f32) -> Result<Tensor> {
    let uniform = numbers(seed + 100, like.shape().clone())?;
    let integer = |x: &f32| if size > 1.0 { (x * (size + 0.5)).round() } else { (x * 0.7).round() };
    Tensor::new(like.shape().clone(), uniform.values()?.iter().map(integer).collect())
}
