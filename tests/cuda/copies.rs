// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of parameters that products read in another order or type: updates keep them, and whatever
//! else changes parameters makes them anew.

use kiln::backend::cuda::{work, Architecture, WorkItem};
use kiln::loss::CrossEntropy;
use kiln::nn::{Conv2d, ConvOptions, Linear, MaxPool2d, Module, Padding, Scope};
use kiln::optim::{Adam, Sgd};
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer, Var};

use crate::common::*;

/// A convolution whose weights are read as they lie, and two whose weights are not.
struct Small {
    convs: [Conv2d; 3],
    head: Linear,
}

impl Small {
    fn new(p: &Scope) -> Self {
        let same = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        let conv = |name: &str, [inputs, outputs]: [usize; 2], options| {
            Conv2d::with_options(&p.at(name), inputs, outputs, [3, 3], options)
        };
        let grouped = ConvOptions { groups: 2, ..same };
        Small {
            convs: [
                conv("first", [3, 10], same),
                conv("second", [10, 12], same),
                conv("third", [12, 16], grouped),
            ],
            head: Linear::new(&p.at("head"), 16 * 2 * 3, 5),
        }
    }
}

impl Module for Small {
    fn forward(&self, x: &Var) -> Var {
        let [first, second, third] = &self.convs;
        let x = MaxPool2d::new([2, 2]).forward(&first.forward(x).relu());
        let x = third.forward(&second.forward(&x).tanh()).relu();
        self.head.forward(&MaxPool2d::new([2, 2]).forward(&x).flatten(1))
    }
}

fn images(seed: u64, samples: usize) -> (Tensor, Tensor) {
    (numbers(seed, [samples, 3, 8, 12]), labels(seed, samples, 5))
}

const WEIGHT: &str = "second.weight";

/// What a training comes to in which plans take turns, the host sets a parameter, and scores are asked for in
/// between: the scores, then all parameters.
fn train(device: Device, micro_batches: usize) -> Vec<(String, Tensor)> {
    let net = Net::new(device, Seed(7), Small::new).expect("a network");
    let fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.05).momentum(0.5));
    let mut fit = fit.expect("a trainer").with_micro_batches(micro_batches).expect("some");
    let mut all = Vec::new();
    let batches = [6, 6, 6, 4, 4, 4, 6, 6];
    for (step, samples) in batches.into_iter().enumerate() {
        if [3, 7].contains(&step) {
            let weight = fit.net().parameter(WEIGHT).expect("known by name");
            let other = numbers(step as u64, weight.shape().clone());
            let third = other.values().expect("f32").iter().map(|x| x / 3.0).collect();
            let other = Tensor::new(weight.shape().clone(), third).expect("of its shape");
            fit.net().set_parameter(WEIGHT, &other).expect("another weight");
        }
        let (x, y) = images(step as u64, samples);
        fit.step(&x, &y).expect("a step");
        if step % 2 == 1 {
            let scores = fit.net().eval().forward(&images(9, 3).0).expect("a pass");
            all.push((format!("scores behind step {step}"), scores));
        }
    }
    let names: Vec<String> = fit.net().parameter_names().into_iter().map(str::to_owned).collect();
    all.extend(names.into_iter().map(|name| {
        let value = fit.net().parameter(&name).expect("known by name");
        (name, value)
    }));
    all
}

#[test]
fn products_read_the_values_of_the_moment() {
    let driver = driver();
    for (precision, tolerance) in [
        (Precision::F32, 1e-3),
        (Precision::Tf32, 1e-2),
        (Precision::Bf16, 8e-2),
        (Precision::F16, 2e-2),
    ] {
        for micro_batches in [1, 2] {
            let [got, reference] =
                [gpu(), cpu()].map(|device| train(device.with_precision(precision), micro_batches));
            for ((name, got), (_, reference)) in got.iter().zip(&reference) {
                assert_close(&format!("{precision}, {name}"), got, reference, tolerance);
            }
        }
    }
    driver.assert_clean();
}

/// Steps that are not captured do the same.
#[test]
fn copies_do_not_depend_on_captures() {
    let driver = driver();
    assert_eq!(train(gpu(), 1), train(eager_gpu(), 1));
    driver.assert_clean();
}

/// In no precision does a step begin with copies of parameters: the optimiser makes them, whichever it is.
#[test]
fn steps_copy_no_parameters() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        let device = Device::on_paper(Architecture::SM_90).with_precision(precision);
        let net = Net::new(device, Seed(7), Small::new).expect("a network");
        let mut fit =
            Trainer::new(net, CrossEntropy::default(), Adam::new(0.1)).expect("a trainer");
        let (x, y) = images(1, 6);
        let plan = fit.plan(&x.ty(), &y.ty()).expect("a plan").clone();
        let work = work(&plan, Architecture::SM_90, precision).expect("the plan's work");
        let names = |items: &[WorkItem]| -> Vec<String> {
            let name = |item: &WorkItem| match item {
                WorkItem::Launch(launch) => Some(launch.kernel.clone()),
                _ => None,
            };
            items.iter().filter_map(name).collect()
        };
        let (once, before) = match precision {
            Precision::F32 | Precision::Tf32 => (vec!["copy_pieces_32".to_owned()], vec![]),
            low => (
                vec![format!("cast_f32_{low}"), "copy_pieces_16".to_owned()],
                vec![format!("cast_f32_{low}")], // the images
            ),
        };
        assert_eq!((names(&work.once), names(&work.before)), (once, before), "{precision}");
    }
}
