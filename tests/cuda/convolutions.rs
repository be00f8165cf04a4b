// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks of images: the device computes all of them, and training follows the CPU.

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::loss::CrossEntropy;
use kiln::nn::{
    AvgPool, BatchNorm, Conv2d, ConvOptions, Divisor, Dropout, Embedding, EmbeddingOptions, Linear,
    MaxPool, Module, Padding, Rounding, Scope,
};
use kiln::optim::Sgd;
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer, Var};

use crate::common::*;

/// Convolutions of few and many channels, in groups, with strides; every kind of pooling; dropout
/// that fits into a convolution's tail and such that does not.
struct Images {
    convs: [Conv2d; 4],
    norms: [BatchNorm; 2],
    dropout: Dropout,
    head: Linear,
}

const SHAPE: [usize; 4] = [9, 3, 12, 10];

impl Images {
    fn new(p: &Scope) -> Self {
        let same = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
        let conv = |name: &str, channels: [usize; 2], kernel, options| {
            Conv2d::with_options(&p.at(name), channels[0], channels[1], kernel, options)
        };
        let strided = ConvOptions {
            stride: [2, 1],
            padding: Padding::Zeros([1, 0]),
            dilation: [1, 2],
            ..ConvOptions::default()
        };
        Images {
            convs: [
                conv("conv1", [3, 16], [3, 3], same),
                conv("conv2", [16, 12], [3, 3], ConvOptions { groups: 2, ..same }),
                conv("conv3", [12, 12], [3, 2], ConvOptions { groups: 12, ..strided }),
                conv("conv4", [12, 72], [1, 1], ConvOptions::default()),
            ],
            norms: [BatchNorm::new(&p.at("norm1"), 12), BatchNorm::new(&p.at("norm2"), 72)],
            dropout: Dropout::new(&p.at("dropout"), 0.3),
            head: Linear::new(&p.at("head"), 72 * 2, 10),
        }
    }
}

impl Module for Images {
    fn forward(&self, x: &Var) -> Var {
        let [conv1, conv2, conv3, conv4] = &self.convs;
        let x = self.dropout.forward(&conv1.forward(x).relu());
        let x = MaxPool::new([2, 2]).forward(&x);
        let x = self.norms[0].forward(&self.dropout.forward(&conv2.forward(&x).relu()));
        let average = AvgPool {
            stride: [1, 1],
            padding: [1, 1],
            divisor: Divisor::Valid,
            ..AvgPool::new([3, 3])
        };
        let x = conv3.forward(&average.forward(&x)).relu();
        let x = self.norms[1].forward(&conv4.forward(&x)).relu();
        let overlapping =
            MaxPool { stride: [2, 2], rounding: Rounding::Ceil, ..MaxPool::new([2, 3]) };
        self.head.forward(&overlapping.forward(&x).flatten(1))
    }
}

fn trainer(device: Device) -> Trainer<Images> {
    let net = Net::new(device, Seed(7), Images::new).expect("a network");
    Trainer::new(net, CrossEntropy::default(), Sgd::new(0.05).momentum(0.9)).expect("a trainer")
}

fn train(device: Device, steps: u64) -> (Vec<f32>, Vec<(String, Tensor)>) {
    let mut fit = trainer(device);
    let mut losses = Vec::new();
    for step in 0..steps {
        let (x, y) = (numbers(step, SHAPE), labels(step, SHAPE[0], 10));
        losses.push(fit.step(&x, &y).expect("a step").value().expect("a loss"));
    }
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let read = |name: String| {
        let value = net.parameter(&name).expect("known by name");
        (name, value)
    };
    (losses, names.into_iter().map(read).collect())
}

/// Where factors are rounded, another element may be the largest of a window in later steps. The biases of
/// batch norm begin at 0: behind one step they are a single gradient, with all of its rounding.
#[test]
fn networks_of_images_follow_the_cpu() {
    let driver = driver();
    for (precision, steps, tolerance) in [
        (Precision::F32, 4, 1e-3),
        (Precision::Tf32, 2, 2e-2),
        (Precision::Bf16, 1, 2e-1),
        (Precision::F16, 1, 5e-2),
    ] {
        let (losses, parameters) = train(gpu().with_precision(precision), steps);
        let (expected, reference) = train(cpu().with_precision(precision), steps);
        for (loss, expected) in losses.iter().zip(&expected) {
            let error = (loss - expected).abs();
            assert!(error <= tolerance * expected.abs(), "{precision}: {loss}, {expected}");
        }
        for ((name, got), (_, reference)) in parameters.iter().zip(&reference) {
            let (Ok(got), Ok(reference)) = (got.values(), reference.values()) else { continue };
            let size = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
            let apart = size(&mut got.iter().zip(reference).map(|(got, want)| got - want));
            let error = (apart / size(&mut reference.iter().copied()).max(1e-6)).sqrt();
            assert!(error <= tolerance, "{precision} {name}: {error}");
        }
    }
    driver.assert_clean();
}

/// Neither in training nor in eval mode, in any precision.
#[test]
fn no_step_of_a_network_of_images_is_left_to_the_host() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        let device = Device::on_paper(Architecture::SM_90).with_precision(precision);
        let mut fit = trainer(device);
        let (x, y) = (numbers(1, SHAPE), labels(1, SHAPE[0], 10));
        let plan = fit.plan(&x.ty(), &y.ty()).expect("a plan").clone();
        let eval = fit.net().plan(kiln::Mode::Eval, &[x.ty()]).expect("a plan").clone();
        for plan in [plan, eval] {
            let work = work(&plan, Architecture::SM_90, precision).expect("the plan's work");
            for (step, items) in plan.steps.iter().zip(&work.steps) {
                let on_host = items.iter().any(|item| matches!(item, WorkItem::Host { .. }));
                assert!(!on_host, "{} of {:?}", step.kernel.name(), step.layer);
            }
        }
    }
}

/// A table with a row for padding, which has no gradient though many tokens name it.
struct Padded {
    table: Embedding,
    head: Linear,
}

impl Module for Padded {
    fn forward(&self, tokens: &Var) -> Var {
        self.head.forward(&self.table.forward(tokens).flatten(1))
    }
}

#[test]
fn the_row_of_the_padding_stays_as_it_is() {
    let driver = driver();
    let train = |device: Device| {
        let make = |p: &Scope| {
            let options = EmbeddingOptions { padding: Some(2), ..EmbeddingOptions::default() };
            Padded {
                table: Embedding::with_options(&p.at("table"), 5, 3, options),
                head: Linear::new(&p.at("head"), 4 * 3, 6),
            }
        };
        let mut net = Net::new(device, Seed(7), make).expect("a network");
        net.set_parameter("table.weight", &numbers(1, [5, 3])).expect("a table");
        let mut fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.5)).expect("a trainer");
        let tokens = (0..7 * 4).map(|index| [2, 0, 2, 4, 1][index % 5]).collect();
        let tokens = Tensor::labels([7, 4], tokens).expect("an integer for each place");
        for _ in 0..3 {
            fit.step(&tokens, &labels(3, 7, 6)).expect("a step");
        }
        fit.net().parameter("table.weight").expect("a table")
    };
    let (got, reference) = (train(gpu()), train(cpu()));
    assert_close("the table", &got, &reference, 1e-4);
    let (got, first) = (got.values().expect("f32"), numbers(1, [5, 3]));
    let first = first.values().expect("f32");
    let kept = |row: usize| got[3 * row..][..3] == first[3 * row..][..3];
    // No token names the row behind the padding's.
    assert_eq!([0, 1, 2, 3, 4].map(kept), [false, false, true, true, false]);
    driver.assert_clean();
}
