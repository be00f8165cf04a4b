// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of whole training steps with dropout: masks, loss, gradients and parameters. The masks
//! are kiln's own, drawn from the fixture's seed.

use kiln::loss::CrossEntropy;
use kiln::mask::Mask;
use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::{DType, Device, Net, Seed, Tensor, Var};

use super::trajectory;
use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

/// The article's SimpleNet with layers of any width.
struct SimpleNet {
    fc1: Linear,
    dropout1: Dropout,
    fc2: Linear,
    dropout2: Dropout,
    fc3: Linear,
}

impl SimpleNet {
    fn new(p: &Scope, sizes: [usize; 4], rate: f32) -> Self {
        SimpleNet {
            fc1: Linear::new(&p.at("fc1"), sizes[0], sizes[1]),
            dropout1: Dropout::new(&p.at("dropout1"), rate),
            fc2: Linear::new(&p.at("fc2"), sizes[1], sizes[2]),
            dropout2: Dropout::new(&p.at("dropout2"), rate),
            fc3: Linear::new(&p.at("fc3"), sizes[2], sizes[3]),
        }
    }
}

impl Module for SimpleNet {
    fn forward(&self, x: &Var) -> Var {
        let x = self.dropout1.forward(&self.fc1.forward(x).relu());
        let x = self.dropout2.forward(&self.fc2.forward(&x).relu());
        self.fc3.forward(&x)
    }
}

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    assert_eq!(fixture.option("name"), "simple_net");
    assert_eq!(fixture.option("loss"), "cross_entropy");
    check_masks(fixture);
    trajectory(fixture, device).max(gradients(fixture, device))
}

fn net(fixture: &Fixture, device: &Device) -> Net<SimpleNet> {
    let sizes: Vec<usize> = fixture.list("sizes");
    let sizes = sizes.try_into().expect("four sizes");
    let make = |p: &Scope| SimpleNet::new(p, sizes, fixture.number("p"));
    let seed = Seed(fixture.number("seed"));
    let mut net = Net::new(device.clone(), seed, make).expect("a network");
    set(&mut net, fixture, "param.");
    net
}

fn set(net: &mut Net<SimpleNet>, fixture: &Fixture, prefix: &str) {
    let mut count = 0;
    for (name, value) in fixture.below(prefix) {
        net.set_parameter(name, &value.tensor()).expect("a parameter of this shape");
        count += 1;
    }
    assert_eq!(count, 6, "{}: parameters below {prefix}", fixture.stem);
}

fn batch(fixture: &Fixture, step: usize) -> (Tensor, Tensor) {
    (fixture.tensor(&format!("input.{step}")), fixture.tensor(&format!("target.{step}")))
}

fn trajectory(fixture: &Fixture, device: &Device) -> f64 {
    trajectory::agree(fixture, net(fixture, device), |fit, step| {
        let (x, target) = batch(fixture, step);
        fit.step(&x, &target)
    })
}

/// Gradients of each step, from the parameters that PyTorch had then.
fn gradients(fixture: &Fixture, device: &Device) -> f64 {
    let mut net = net(fixture, device);
    let t = Tolerance::strict(DType::F32);
    let mut worst = 0.0f64;
    for step in 0..fixture.number("steps") {
        if step > 0 {
            set(&mut net, fixture, &format!("value.{}.", step - 1));
        }
        let (x, target) = batch(fixture, step);
        let found = net.train().loss_gradients(&CrossEntropy::default(), &x, &target);
        for (name, gradient) in found.expect("gradients").parameters {
            let expected = &fixture.get(&format!("gradient.{step}.{name}")).values;
            let what = format!("{}: gradient of {name} in step {step}", fixture.stem);
            worst = worst.max(assert_close(&what, &gradient, expected, t));
        }
    }
    worst
}

fn check_masks(fixture: &Fixture) {
    let sites: Vec<String> = fixture.list("sites");
    for (step, site) in
        (0..fixture.number::<u32>("steps")).flat_map(|s| sites.iter().map(move |n| (s, n)))
    {
        let layer = site.trim_end_matches("#0");
        let keep = fixture.get(&format!("mask.{step}.{layer}"));
        let mask = Mask::new(fixture.number("seed"), site, fixture.number("p"));
        for (index, &bit) in keep.values.iter().enumerate() {
            let [sample, element] = [index / keep.shape[1], index % keep.shape[1]];
            let kept = mask.keeps(step, sample as u32, element as u32);
            assert_eq!(kept, bit == 1.0, "{}: {site} [{sample}, {element}]", fixture.stem);
        }
    }
}
