// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions and batch norm as training computes them, each layer by itself.

use std::num::NonZeroUsize;

use kiln::loss::CrossEntropy;
use kiln::nn::{
    AvgPool2d, BatchNorm, Conv2d, ConvOptions, Flatten, MaxPool2d, Module, Padding, Relu, Scope,
    Sequential,
};
use kiln::optim::Sgd;
use kiln::plan::Plan;
use kiln::{Convolutions, Device, Net, Result, Seed, Tensor, Trainer};

use crate::common::random_values;

/// Samples of a batch.
const BATCH: usize = 32;

/// A convolution under measurement.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    inputs: usize,
    outputs: usize,
    image: usize,
    kernel: usize,
    stride: usize,
    convolutions: Convolutions,
}

/// Layers of digits, of small colour images and of photographs; those by squares also by sums.
pub(crate) const SUBJECTS: [Subject; 8] = [
    subject("3x3", [32, 64, 28], 3, 1, Convolutions::Fast),
    subject("3x3 precise", [32, 64, 28], 3, 1, Convolutions::Precise),
    subject("3x3", [64, 128, 14], 3, 1, Convolutions::Fast),
    subject("3x3 precise", [64, 128, 14], 3, 1, Convolutions::Precise),
    subject("3x3", [3, 32, 32], 3, 1, Convolutions::Fast),
    subject("1x1", [64, 64, 28], 1, 1, Convolutions::Fast),
    subject("3x3 stride 2", [64, 128, 28], 3, 2, Convolutions::Fast),
    subject("7x7 stride 2", [3, 64, 64], 7, 2, Convolutions::Fast),
];

const fn subject(
    name: &'static str,
    [inputs, outputs, image]: [usize; 3],
    kernel: usize,
    stride: usize,
    convolutions: Convolutions,
) -> Subject {
    Subject { name, inputs, outputs, image, kernel, stride, convolutions }
}

impl Subject {
    /// A training step of the layer, between one that makes its input's gradient needed and a mean, and
    /// what the step takes.
    pub(crate) fn plan(self) -> Result<(Plan, [Tensor; 2])> {
        let device = Device::cpu_with_threads(NonZeroUsize::MIN);
        let device = device.with_convolutions(self.convolutions);
        let places = (self.image - 1) / self.stride + 1;
        let padding = Padding::Zeros([self.kernel / 2; 2]);
        let make = move |p: &Scope| -> Box<dyn Module> {
            let options =
                ConvOptions { stride: [self.stride; 2], padding, ..ConvOptions::default() };
            let (kernel, inputs) = ([self.kernel; 2], self.inputs);
            let layers = Sequential::new(p)
                .with(|p| Conv2d::new(p, inputs, inputs, [1, 1]))
                .with(|p| Conv2d::with_options(p, inputs, self.outputs, kernel, options));
            Box::new(layers.with(|_| AvgPool2d::new([places; 2])).with(|_| Flatten::default()))
        };
        step(Net::new(device, Seed(7), make)?, [self.inputs, self.image])
    }

    /// Path of the layer in the plan.
    pub(crate) const LAYER: &str = "1";
}

/// A training step of what surrounds convolutions: batch norm, ReLU and pooling of 64 channels.
pub(crate) fn surroundings() -> Result<(Plan, [Tensor; 2])> {
    let make = |p: &Scope| -> Box<dyn Module> {
        let layers = Sequential::new(p)
            .with(|p| Conv2d::new(p, 64, 64, [1, 1]))
            .with(|p| BatchNorm::new(p, 64))
            .with(|_| Relu)
            .with(|_| MaxPool2d::new([2, 2]));
        Box::new(layers.with(|_| AvgPool2d::new([16; 2])).with(|_| Flatten::default()))
    };
    step(Net::new(Device::cpu(), Seed(7), make)?, [64, 32])
}

fn step(net: Net<Box<dyn Module>>, [channels, image]: [usize; 2]) -> Result<(Plan, [Tensor; 2])> {
    let mut trainer = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.01))?;
    let shape = [BATCH, channels, image, image];
    let x = Tensor::new(shape, random_values(shape.iter().product()))?;
    let labels = Tensor::labels([BATCH], (0..BATCH as i32).map(|label| label % 10).collect())?;
    let plan = trainer.plan(&x.ty(), &labels.ty())?.clone();
    Ok((plan, [x, labels]))
}
