// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of training steps of the article's convolutional networks, with fewer channels: masks, loss,
//! gradients, parameters and running statistics. The masks are kiln's own, drawn from the fixture's seed.

use kiln::loss::CrossEntropy;
use kiln::mask::Mask;
use kiln::models::ResidualBlock;
use kiln::nn::{
    AvgPool2d, Conv2d, ConvOptions, Dropout, Dropout2d, Linear, MaxPool2d, Module, Padding, Scope,
};
use kiln::{DType, Device, Net, Seed, Tensor, Var};

use super::trajectory;
use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

const CLASSES: usize = 5;

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    check_masks(fixture);
    trajectory(fixture, device).max(gradients(fixture, device))
}

fn trajectory(fixture: &Fixture, device: &Device) -> f64 {
    trajectory::agree(fixture, net(fixture, device), |fit, step| {
        let (x, target) = batch(fixture, step);
        fit.step(&x, &target)
    })
}

/// Gradients of the first step, from the parameters that PyTorch had then.
fn gradients(fixture: &Fixture, device: &Device) -> f64 {
    let mut net = net(fixture, device);
    let (x, target) = batch(fixture, 0);
    let t = Tolerance::balanced(DType::F32);
    let found = net.train().loss_gradients(&CrossEntropy::default(), &x, &target);
    let found = found.expect("gradients").parameters;
    let mut worst = 0.0f64;
    for (name, gradient) in &found {
        let expected = &fixture.get(&format!("gradient.0.{name}")).values;
        let what = format!("{}: gradient of {name}", fixture.stem);
        worst = worst.max(assert_close(&what, gradient, expected, t));
    }
    assert_eq!(found.len(), fixture.below("param.").count(), "{}", fixture.stem);
    worst
}

fn net(fixture: &Fixture, device: &Device) -> Net<Box<dyn Module>> {
    let rates: Vec<f32> = fixture.list("rates");
    let make = |p: &Scope| -> Box<dyn Module> {
        match fixture.option("name") {
            "cnn" => Box::new(Cnn::new(p, rates[0], rates[1])),
            "spatial_cnn" => Box::new(SpatialDropoutCnn::new(p, rates[0])),
            "residual" => Box::new(Residual::new(p, rates[0])),
            other => panic!("{}: nothing builds a network {other}", fixture.stem),
        }
    };
    let mut net = Net::new(device.clone(), Seed(fixture.number("seed")), make).expect("a network");
    for (name, value) in fixture.below("param.") {
        net.set_parameter(name, &value.tensor()).expect("a parameter of this shape");
    }
    net
}

fn batch(fixture: &Fixture, step: usize) -> (Tensor, Tensor) {
    (fixture.tensor(&format!("input.{step}")), fixture.tensor(&format!("target.{step}")))
}

fn check_masks(fixture: &Fixture) {
    let (sites, rates): (Vec<String>, Vec<f32>) = (fixture.list("sites"), fixture.list("rates"));
    for step in 0..fixture.number::<u32>("steps") {
        for (site, &rate) in sites.iter().zip(&rates) {
            let keep = fixture.get(&format!("mask.{step}.{site}"));
            let mask = Mask::new(fixture.number("seed"), &format!("{site}#0"), rate);
            for (index, &bit) in keep.values.iter().enumerate() {
                let [sample, element] = [index / keep.shape[1], index % keep.shape[1]];
                let kept = mask.keeps(step, sample as u32, element as u32);
                assert_eq!(kept, bit == 1.0, "{}: {site} [{sample}, {element}]", fixture.stem);
            }
        }
    }
}

fn conv(p: &Scope, inputs: usize, outputs: usize, stride: usize) -> Conv2d {
    let padding = Padding::Zeros([1, 1]);
    let options = ConvOptions { stride: [stride; 2], padding, ..ConvOptions::default() };
    Conv2d::with_options(p, inputs, outputs, [3, 3], options)
}

struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    dropout_conv: Dropout2d,
    fc1: Linear,
    dropout_fc: Dropout,
    fc2: Linear,
}

impl Cnn {
    fn new(p: &Scope, of_maps: f32, of_features: f32) -> Self {
        Cnn {
            conv1: conv(&p.at("conv1"), 3, 4, 1),
            conv2: conv(&p.at("conv2"), 4, 6, 1),
            dropout_conv: Dropout2d::new(&p.at("dropout_conv"), of_maps),
            fc1: Linear::new(&p.at("fc1"), 6 * 2 * 2, 9),
            dropout_fc: Dropout::new(&p.at("dropout_fc"), of_features),
            fc2: Linear::new(&p.at("fc2"), 9, CLASSES),
        }
    }
}

impl Module for Cnn {
    fn forward(&self, x: &Var) -> Var {
        let pool = MaxPool2d::new([2, 2]);
        let x = pool.forward(&self.conv1.forward(x).relu());
        let x = pool.forward(&self.conv2.forward(&x).relu());
        // PyTorch's order of features: its weights are loaded unchanged.
        let x = self.dropout_conv.forward(&x).flatten(1);
        self.fc2.forward(&self.dropout_fc.forward(&self.fc1.forward(&x).relu()))
    }
}

struct SpatialDropoutCnn {
    conv1: Conv2d,
    spatial_dropout: Dropout2d,
    conv2: Conv2d,
    fc: Linear,
}

impl SpatialDropoutCnn {
    fn new(p: &Scope, rate: f32) -> Self {
        SpatialDropoutCnn {
            conv1: conv(&p.at("conv1"), 3, 4, 1),
            spatial_dropout: Dropout2d::new(&p.at("spatial_dropout"), rate),
            conv2: conv(&p.at("conv2"), 4, 7, 1),
            fc: Linear::new(&p.at("fc"), 7 * 3 * 3, CLASSES),
        }
    }
}

impl Module for SpatialDropoutCnn {
    fn forward(&self, x: &Var) -> Var {
        let x = self.spatial_dropout.forward(&self.conv1.forward(x).relu());
        let x = self.conv2.forward(&x).relu();
        self.fc.forward(&AvgPool2d::new([2, 2]).forward(&x).flatten(1))
    }
}

struct Residual {
    stem: Conv2d,
    block: ResidualBlock,
    fc: Linear,
}

impl Residual {
    fn new(p: &Scope, rate: f32) -> Self {
        Residual {
            stem: conv(&p.at("stem"), 3, 6, 2),
            block: ResidualBlock::new(p, 6, rate),
            fc: Linear::new(&p.at("fc"), 6 * 2 * 2, CLASSES),
        }
    }
}

impl Module for Residual {
    fn forward(&self, x: &Var) -> Var {
        let x = self.block.forward(&self.stem.forward(x));
        self.fc.forward(&AvgPool2d::new([2, 2]).forward(&x).flatten(1))
    }
}
