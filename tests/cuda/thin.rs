// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions whose results see few channels each: depthwise ones and a first layer have kernels of their
//! own, which compute what the CPU does.

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::loss::CrossEntropy;
use kiln::nn::{BatchNorm, Conv2d, ConvOptions, Linear, MaxPool2d, Module, Padding, Scope};
use kiln::optim::Sgd;
use kiln::{Device, Mode, Net, Precision, Seed, Tensor, Trainer, Var};

use crate::common::*;

/// A first layer whose results are pooled, then depthwise convolutions: with two results for each channel,
/// strides and dilation, and with whole chunks of channels behind another pool.
struct Separable {
    first: Conv2d,
    doubled: Conv2d,
    point: Conv2d,
    own: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

const SHAPE: [usize; 4] = [5, 3, 23, 22];

impl Separable {
    fn new(p: &Scope) -> Self {
        let same = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        let conv = |name: &str, [inputs, outputs]: [usize; 2], kernel, options| {
            Conv2d::with_options(&p.at(name), inputs, outputs, kernel, options)
        };
        let doubled =
            ConvOptions { groups: 10, stride: [2, 1], dilation: [1, 2], ..ConvOptions::default() };
        Separable {
            first: conv("first", [3, 10], [3, 3], same),
            doubled: conv("doubled", [10, 20], [3, 2], doubled),
            point: conv("point", [20, 16], [1, 1], ConvOptions::default()),
            own: conv("own", [16, 16], [3, 3], ConvOptions { groups: 16, ..same }),
            norm: BatchNorm::new(&p.at("norm"), 16),
            head: Linear::new(&p.at("head"), 16 * 2 * 4, 5),
        }
    }
}

impl Module for Separable {
    fn forward(&self, x: &Var) -> Var {
        let pool = MaxPool2d::new([2, 2]);
        let x = pool.forward(&self.first.forward(x).relu());
        let x = pool.forward(&self.point.forward(&self.doubled.forward(&x)).relu());
        let x = self.norm.forward(&self.own.forward(&x)).relu();
        self.head.forward(&x.flatten(1))
    }
}

type Named = Vec<(String, Tensor)>;

/// Output and all gradients, of the input too.
fn gradients(device: Device) -> Named {
    let mut net = Net::new(device, Seed(7), Separable::new).expect("a network");
    let (x, dy) = (numbers(1, SHAPE), numbers(2, [SHAPE[0], 5]));
    let gradients = net.train().gradients(&x, &dy).expect("gradients");
    let mut all = vec![("output".to_owned(), gradients.output)];
    all.extend(gradients.input.map(|input| ("input".to_owned(), input)));
    all.extend(gradients.parameters);
    all
}

/// The parameters behind a training step.
fn step(device: Device) -> Named {
    let net = Net::new(device, Seed(7), Separable::new).expect("a network");
    let mut fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.05)).expect("a trainer");
    fit.step(&numbers(1, SHAPE), &labels(1, SHAPE[0], 5)).expect("a step");
    let names: Vec<String> = fit.net().parameter_names().into_iter().map(str::to_owned).collect();
    let read = |name: String| {
        let value = fit.net().parameter(&name).expect("known by name");
        (name, value)
    };
    names.into_iter().map(read).collect()
}

/// Fails where all elements of a tensor together are too far from the reference's.
fn assert_near(what: &str, got: &Named, reference: &Named, tolerance: f32) {
    assert_eq!(got.len(), reference.len());
    for ((name, got), (_, reference)) in got.iter().zip(reference) {
        // What a bias adds in front of batch norm is taken away again: its gradient is rounding alone.
        // Counters are no numbers.
        let (Ok(got), Ok(reference)) = (got.values(), reference.values()) else { continue };
        if name == "own.bias" {
            continue;
        }
        let size = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
        let apart = size(&mut got.iter().zip(reference).map(|(got, want)| got - want));
        let error = (apart / size(&mut reference.iter().copied()).max(1e-6)).sqrt();
        assert!(error <= tolerance, "{what} {name}: {error}");
    }
}

#[test]
fn depthwise_networks_compute_what_the_cpu_does() {
    let driver = driver();
    assert_near("gradient of", &gradients(gpu()), &gradients(cpu()), 1e-3);
    for (precision, tolerance) in [
        (Precision::F32, 1e-3),
        (Precision::Tf32, 2e-2),
        (Precision::Bf16, 2e-1),
        (Precision::F16, 5e-2),
    ] {
        let [got, reference] = [gpu(), cpu()].map(|device| step(device.with_precision(precision)));
        assert_near(&format!("{precision}, behind a step,"), &got, &reference, tolerance);
    }
    driver.assert_clean();
}

/// In training and in evaluation, in every precision; nothing is left to the host.
#[test]
fn depthwise_layers_and_first_layers_have_kernels_of_their_own() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        let device = Device::on_paper(Architecture::SM_90).with_precision(precision);
        let mut net = Net::new(device, Seed(7), Separable::new).expect("a network");
        let kernels = |net: &mut Net<Separable>, mode| -> Vec<String> {
            let plan = net.plan(mode, &[numbers(1, SHAPE).ty()]).expect("a plan").clone();
            let work = work(&plan, Architecture::SM_90, precision).expect("the plan's work");
            let name = |item: &WorkItem| match item {
                WorkItem::Launch(launch) => Some(launch.kernel.clone()),
                WorkItem::Host { .. } => panic!("a step is left to the host"),
                _ => None,
            };
            work.steps.iter().flatten().filter_map(name).collect()
        };
        for mode in [Mode::Train, Mode::Eval] {
            let all = kernels(&mut net, mode);
            let of = |family: &str| {
                let name = format!("{family}_{precision}");
                all.iter().filter(|kernel| **kernel == name).count()
            };
            let counts = ["conv_pool_thin", "conv_pool", "conv_thin", "conv"].map(of);
            // One sums up for the batch norm behind it, unless its statistics are known.
            let with_statistics = of("conv_statistics_thin");
            assert_eq!(with_statistics, usize::from(mode == Mode::Train), "{all:?}");
            assert_eq!(counts, [1, 1, 2 - with_statistics, 0], "{mode:?} {all:?}");
        }
    }
}
