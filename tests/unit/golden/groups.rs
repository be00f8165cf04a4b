// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of parameter groups, freezing and moving averages.

use kiln::loss::Mse;
use kiln::nn::{BatchNorm, Linear, Module, Scope};
use kiln::optim::{Average, Group, Schedule};
use kiln::{DType, Device, Net, Seed, Tensor, Trainer, Var};

use super::optimizers;
use crate::common::close::{assert_close, doubles, Tolerance};
use crate::common::golden::{Fixture, Golden};

/// What `groups.py` trains.
struct Tuned {
    norm: BatchNorm,
    body: Linear,
    head: Linear,
}

impl Tuned {
    fn new(p: &Scope) -> Self {
        Tuned {
            norm: BatchNorm::new(&p.at("norm"), 6),
            body: Linear::new(&p.at("body"), 6, 5),
            head: Linear::new(&p.at("head"), 5, 3),
        }
    }
}

impl Module for Tuned {
    fn forward(&self, x: &Var) -> Var {
        self.head.forward(&self.body.forward(&self.norm.forward(x)).tanh())
    }
}

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    let mut net = Net::new(device.clone(), Seed(7), Tuned::new).expect("a network");
    for (name, value) in fixture.below("param.") {
        net.set_parameter(name, &value.tensor()).expect("a parameter of this shape");
    }
    let mut fit = trainer(fixture, net);
    let t = Tolerance::balanced(DType::F32);
    let mut worst = 0.0f64;
    let mut close = |what: &str, got: &Tensor, expected: &[f64]| {
        worst = worst.max(assert_close(&format!("{}: {what}", fixture.stem), got, expected, t));
    };
    let mut last = None;
    for step in 0..fixture.number("steps") {
        happen(fixture, &mut fit, step);
        let batch = ["input", "target"].map(|name| row(fixture.get(name), step));
        let [x, target] = batch.map(|(shape, values)| {
            let values = values.iter().map(|&value| value as f32).collect();
            Tensor::new(&shape[..], values).expect("as many values as the shape has elements")
        });
        let loss = fit.step(&x, &target).expect("a step");
        let norm = loss.gradient_norm().expect("a norm");
        let numbers = [("loss", Some(loss.value().expect("a loss"))), ("norm", norm)];
        for (name, number) in numbers {
            if let Some(number) = number {
                let got = Tensor::new([], vec![number]).expect("a scalar");
                close(&format!("{name} of step {step}"), &got, row(fixture.get(name), step).1);
            }
        }
        let values = state(fit.net());
        close(&format!("values after step {step}"), &values, row(fixture.get("values"), step).1);
        last = Some(x);
    }
    if let (Some(x), true) = (last, fixture.tensors.contains_key("averaged")) {
        let output = fit.averaged().expect("averages").forward(&x).expect("a batch");
        close("averaged output", &output, &fixture.get("averaged").values);
        let steps: usize = fixture.number("steps");
        let averages = state(&mut fit.into_averaged().expect("averages"));
        close("averages", &averages, row(fixture.get("averages"), steps - 1).1);
    }
    worst
}

fn trainer(fixture: &Fixture, net: Net<Tuned>) -> Trainer<Tuned> {
    let mut fit = Trainer::new(net, Mse::default(), optimizers::build(fixture)).expect("a trainer");
    fit = fit.with_groups(groups(fixture)).expect("groups");
    if fixture.option("bare") == "true" {
        fit = fit.without_decay_for_biases_and_norms();
    }
    fit = match fixture.option("schedule") {
        "constant" => fit,
        "step" => fit.with_schedule(Schedule::Step { size: 2, gamma: 0.5 }).expect("in range"),
        "one_cycle" => {
            let cycle = Schedule::one_cycle(0.1, fixture.number("steps"));
            fit.with_schedule(cycle).expect("in range")
        }
        other => panic!("{}: no schedule {other}", fixture.stem),
    };
    let (max_norm, decay) = (fixture.number("max_norm"), fixture.number("average"));
    if max_norm > 0.0 {
        fit = fit.with_clipping(max_norm).expect("a norm above 0");
    }
    if decay >= 0.0 {
        let average = match fixture.option("use_buffers") {
            "true" => Average::new(decay).with_buffers(),
            _ => Average::new(decay),
        };
        fit = fit.with_average(average).expect("a decay in [0, 1]");
    }
    fit
}

/// `pattern=factor/decay`, with no decay where it is the optimiser's.
fn groups(fixture: &Fixture) -> Vec<Group> {
    let texts = fixture.option("groups").split(',').filter(|text| !text.is_empty());
    let group = |text: &str| {
        let (pattern, options) = text.split_once('=')?;
        let (factor, decay) = options.split_once('/')?;
        let group = Group::of(pattern).rate_factor(factor.parse().ok()?);
        match decay {
            "" => Some(group),
            decay => Some(group.weight_decay(decay.parse().ok()?)),
        }
    };
    let read = |text| group(text).unwrap_or_else(|| panic!("{}: {text}", fixture.stem));
    texts.map(read).collect()
}

/// `step:freeze:pattern` and `step:unfreeze:pattern`, before a step.
fn happen(fixture: &Fixture, fit: &mut Trainer<Tuned>, step: usize) {
    for event in fixture.option("events").split(',').filter(|text| !text.is_empty()) {
        let words: Vec<&str> = event.split(':').collect();
        let [at, what, pattern] = words[..] else { panic!("{}: {event}", fixture.stem) };
        if at.parse() != Ok(step) {
            continue;
        }
        match what {
            "freeze" => fit.freeze(pattern).expect("names"),
            "unfreeze" => fit.unfreeze(pattern).expect("names"),
            other => panic!("{}: nothing does {other}", fixture.stem),
        }
    }
}

/// Parameters and running statistics in a row; no counters.
fn state(net: &mut Net<Tuned>) -> Tensor {
    let names: Vec<String> = net.parameter_names().into_iter().map(String::from).collect();
    let mut all: Vec<f32> = Vec::new();
    for name in names.iter().filter(|name| !name.ends_with("num_batches_tracked")) {
        let value = net.parameter(name).expect("its own name");
        all.extend(doubles(&value).into_iter().map(|value| value as f32));
    }
    Tensor::new([all.len()], all).expect("one extent")
}

/// The shape of a row, and its values.
fn row(all: &Golden, index: usize) -> (Vec<usize>, &[f64]) {
    let shape = all.shape[1..].to_vec();
    let length: usize = shape.iter().product();
    (shape, &all.values[index * length..][..length])
}
