// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks of images in few launches: how many there are, and that they compute what more would.

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::loss::CrossEntropy;
use kiln::models::{Cnn, ResidualBlock, ResidualNet};
use kiln::nn::{
    AdaptiveAvgPool2d, AvgPool2d, BatchNorm, Conv2d, ConvOptions, Corners, Dropout2d, Linear,
    MaxPool2d, Module, Padding, Scope, Upsample, UpsampleMode,
};
use kiln::optim::Sgd;
use kiln::plan::Plan;
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer, Var};

use crate::common::*;

/// The kernels of a run: those before the first step, and those of each.
fn kernels(plan: &Plan, precision: Precision) -> (Vec<String>, Vec<Vec<String>>) {
    let work = work(plan, Architecture::SM_90, precision).expect("the plan's work");
    let names = |items: &[WorkItem]| -> Vec<String> {
        let name = |item: &WorkItem| match item {
            WorkItem::Launch(launch) => Some(launch.kernel.clone()),
            WorkItem::Host { .. } => panic!("a step is left to the host"),
            _ => None,
        };
        items.iter().filter_map(name).collect()
    };
    (names(&work.before), work.steps.iter().map(|items| names(items)).collect())
}

/// The plan of a training step on images of 32 x 32.
fn step<M: Module>(batch: usize, make: impl FnOnce(&Scope) -> M) -> Plan {
    let net = Net::new(Device::on_paper(Architecture::SM_90), Seed(7), make).expect("a network");
    let mut fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1)).expect("a trainer");
    let (x, y) = (numbers(1, [1, 3, 32, 32]).ty(), labels(1, 1, 10).ty());
    let of_batch = |ty: &kiln::op::TensorType| {
        let mut dims = ty.shape.dims().to_vec();
        dims[0] = batch;
        kiln::op::TensorType { shape: dims.into(), dtype: ty.dtype }
    };
    fit.plan(&of_batch(&x), &of_batch(&y)).expect("a plan").clone()
}

/// Ten launches compute, and one updates.
#[test]
fn a_step_of_the_convolutional_network_takes_eleven_launches() {
    let plan = step(128, |p| Cnn::new(p, 10));
    let (before, steps) = kernels(&plan, Precision::F32);
    assert_eq!(before, Vec::<String>::new());
    let launched: Vec<&str> = steps.iter().flatten().map(String::as_str).collect();
    let products = |name: &str| launched.iter().filter(|kernel| kernel.starts_with(name)).count();
    assert_eq!([products("conv_pool"), products("conv_unpool")], [2, 1], "{launched:?}");
    assert_eq!(products("conv_weight_gradient"), 1, "{launched:?}");
    assert_eq!(launched.len(), 11, "{launched:?}");
    assert_eq!(plan.totals().mask_bytes, 0);
}

/// Forward, convolutions that sum up for the batch norms behind them; the end of the network and the beginning of its gradient
/// in one; backward, convolutions that sum up for the batch norms before them, the last of which is worked out with the
/// gradients of weights.
#[test]
fn a_step_of_the_residual_network_takes_twelve_launches() {
    let plan = step(64, |p| ResidualNet::new(p, 10, 0.1));
    let (before, steps) = kernels(&plan, Precision::F32);
    assert_eq!(before, Vec::<String>::new());
    let launched: Vec<&str> = steps.iter().flatten().map(String::as_str).collect();
    let expected = [
        "conv_statistics_thin_f32",
        "batch_apply_f32",
        "conv_statistics_f32",
        "batch_apply_f32",
        "conv_statistics_f32",
        "classifier_head_f32",
        "batch_gradient_f32",
        "conv_input_gradient_sums_f32",
        "batch_gradient_f32",
        "conv_input_gradient_sums_f32",
        "conv_weight_gradient_thin_f32",
        "sgd",
    ];
    assert_eq!(launched, expected);
    assert_eq!(plan.totals().mask_bytes, 0);
}

/// Statistics are known in evaluation: each convolution normalises what it yields.
#[test]
fn an_evaluated_residual_network_takes_five_launches() {
    let make = |p: &Scope| ResidualNet::new(p, 10, 0.1);
    let mut net =
        Net::new(Device::on_paper(Architecture::SM_90), Seed(7), make).expect("a network");
    let plan =
        net.plan(kiln::Mode::Eval, &[numbers(1, [4, 3, 32, 32]).ty()]).expect("a plan").clone();
    let (before, steps) = kernels(&plan, Precision::F32);
    let launched: Vec<&str> = steps.iter().flatten().map(String::as_str).collect();
    let convolutions = ["conv_thin_f32", "conv_f32", "conv_f32", "avg_pool_f32"];
    assert_eq!(launched[..4], convolutions, "{launched:?}");
    assert_eq!((before.len(), launched.len()), (0, 5), "{launched:?}");
}

/// Pieces of unequal sizes, and images that are stretched between their elements.
struct Blended {
    conv: Conv2d,
    head: Linear,
}

impl Module for Blended {
    fn forward(&self, x: &Var) -> Var {
        let x = AdaptiveAvgPool2d::new(5, 4).forward(&self.conv.forward(x).tanh());
        let linear = UpsampleMode::Linear(Corners::default());
        let x = Upsample::by([2.0, 1.5], linear).forward(&x).tanh();
        self.head.forward(&AdaptiveAvgPool2d::new(3, 4).forward(&x).flatten(1))
    }
}

#[test]
fn weighted_sums_along_extents_have_a_kernel() {
    let driver = driver();
    let run = |device: Device| {
        let make = |p: &Scope| Blended {
            conv: Conv2d::new(&p.at("conv"), 3, 6, [2, 2]),
            head: Linear::new(&p.at("head"), 6 * 12, 5),
        };
        let mut net = Net::new(device, Seed(7), make).expect("a network");
        let (x, dy) = (numbers(1, [4, 3, 9, 8]), numbers(2, [4, 5]));
        net.eval().gradients(&x, &dy).expect("gradients")
    };
    let (got, reference) = (run(gpu()), run(cpu()));
    assert_close("output", &got.output, &reference.output, 1e-5);
    for ((name, got), (_, reference)) in got.parameters.iter().zip(&reference.parameters) {
        assert_close(name, got, reference, 1e-4);
    }
    driver.assert_clean();
}

/// A pool behind a convolution in groups, windows that leave a row over, a block with a skip connection, an
/// image that two layers read.
struct Small {
    convs: [Conv2d; 2],
    dropout: Dropout2d,
    norm: BatchNorm,
    block: ResidualBlock,
    head: Linear,
}

impl Small {
    fn new(p: &Scope) -> Self {
        let padded = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        let grouped = ConvOptions { groups: 2, ..padded };
        let conv = |name, [inputs, outputs]: [usize; 2], options| {
            Conv2d::with_options(&p.at(name), inputs, outputs, [3, 3], options)
        };
        Small {
            convs: [conv("conv1", [3, 16], padded), conv("conv2", [16, 16], grouped)],
            dropout: Dropout2d::new(&p.at("dropout"), 0.3),
            norm: BatchNorm::new(&p.at("norm"), 16),
            block: ResidualBlock::new(&p.at("block"), 16, 0.25),
            head: Linear::new(&p.at("head"), 16 * 2, 5),
        }
    }
}

impl Module for Small {
    fn forward(&self, x: &Var) -> Var {
        let [conv1, conv2] = &self.convs;
        let pool = MaxPool2d::new([2, 2]);
        let x = pool.forward(&conv1.forward(x).relu());
        let x = self.dropout.forward(&pool.forward(&conv2.forward(&x)));
        let x = self.norm.forward(&x).relu();
        let x = self.block.forward(&x) + &x;
        self.head.forward(&AvgPool2d::new([2, 2]).forward(&x).flatten(1))
    }
}

/// A stem, a block with a skip connection and a classifier, as [`ResidualNet`], of any number of channels.
struct Classified {
    stem: Conv2d,
    norm: BatchNorm,
    block: ResidualBlock,
    head: Linear,
}

impl Classified {
    fn new(p: &Scope, channels: usize) -> Self {
        let padding = Padding::Zeros([1, 1]);
        let halving = ConvOptions { stride: [2, 2], padding, ..ConvOptions::default() };
        Classified {
            stem: Conv2d::with_options(&p.at("stem"), 3, channels, [3, 3], halving),
            norm: BatchNorm::new(&p.at("norm"), channels),
            block: ResidualBlock::new(&p.at("block"), channels, 0.25),
            head: Linear::new(&p.at("head"), channels * 16, 5),
        }
    }
}

impl Module for Classified {
    fn forward(&self, x: &Var) -> Var {
        let x = self.norm.forward(&self.stem.forward(x)).relu();
        let x = self.block.forward(&x);
        self.head.forward(&AvgPool2d::new([4, 4]).forward(&x).flatten(1))
    }
}

const IMAGES: [usize; 4] = [6, 3, 8, 18];

fn trainer<M: Module>(device: Device, make: fn(&Scope) -> M, micro_batches: usize) -> Trainer<M> {
    let net = Net::new(device, Seed(7), make).expect("a network");
    let fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.05).momentum(0.9));
    fit.expect("a trainer").with_micro_batches(micro_batches).expect("a number of them")
}

fn train<M: Module>(mut fit: Trainer<M>, images: [usize; 4]) -> (Vec<f32>, Vec<(String, Tensor)>) {
    let mut losses = Vec::new();
    for step in 0..3 {
        let (x, y) = (numbers(step, images), labels(step, images[0], 5));
        losses.push(fit.step(&x, &y).expect("a step").value().expect("a loss"));
    }
    let names: Vec<String> = fit.net().parameter_names().into_iter().map(str::to_owned).collect();
    let read = |name: String| {
        let value = fit.net().parameter(&name).expect("known by name");
        (name, value)
    };
    (losses, names.into_iter().map(read).collect())
}

/// Gradients that are added to those of earlier micro-batches too. Running statistics, and how many batches
/// they have seen, are among what is compared.
fn trains_alike<M: Module>(make: fn(&Scope) -> M, images: [usize; 4]) {
    let driver = driver();
    for micro_batches in [1, 2] {
        let (losses, got) = train(trainer(gpu(), make, micro_batches), images);
        let (expected, reference) = train(trainer(cpu(), make, micro_batches), images);
        for (loss, expected) in losses.iter().zip(&expected) {
            assert!((loss - expected).abs() <= 1e-3 * expected, "{losses:?}, {expected:?}");
        }
        for ((name, got), (_, reference)) in got.iter().zip(&reference) {
            match got.values() {
                Ok(_) => assert_close(name, got, reference, 2e-3),
                Err(_) => assert_eq!(got, reference, "{name}"),
            }
        }
    }
    driver.assert_clean();
}

#[test]
fn few_launches_compute_what_the_cpu_does() {
    trains_alike(Small::new, IMAGES);
}

#[test]
fn the_few_launches_of_a_residual_network_compute_what_the_cpu_does() {
    let images = [6, 3, 32, 32];
    trains_alike(|p| Classified::new(p, 16), images);
    // Runs of eight channels are what a block's threads divide among themselves, and what dropout decides about.
    let launches = |channels: usize| {
        let plan = step(6, |p| Classified::new(p, channels));
        kernels(&plan, Precision::F32).1.concat()
    };
    let heads = |channels| launches(channels).iter().any(|name| name == "classifier_head_f32");
    assert_eq!((heads(16), heads(12)), (true, false));
    trains_alike(|p| Classified::new(p, 12), images);
}

/// In evaluation nothing is dropped and statistics are the running ones.
#[test]
fn few_launches_evaluate_as_the_cpu_does() {
    let driver = driver();
    let evaluate = |device: Device| {
        let mut fit = trainer(device, Small::new, 1);
        fit.step(&numbers(1, IMAGES), &labels(1, IMAGES[0], 5)).expect("a step");
        fit.net().eval().forward(&numbers(2, IMAGES)).expect("a pass")
    };
    assert_close("scores", &evaluate(gpu()), &evaluate(cpu()), 1e-3);
    driver.assert_clean();
}
