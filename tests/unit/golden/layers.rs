// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of layers: output, input gradient and parameter gradients.

use kiln::nn::{
    Bias, Flatten, Gelu, GeluApproximation, LeakyRelu, Linear, LogSoftmax, Module, Relu, Scope,
    Sequential, Sigmoid, Silu, Softmax, Tanh,
};
use kiln::{DType, Device, Net, Seed};

use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;
use crate::common::zoo::Residual;

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    let make = |p: &Scope| build(fixture, p);
    let mut net = Net::new(device.clone(), Seed(7), make).expect("a network");
    for (name, value) in fixture.below("param.") {
        net.set_parameter(name, &value.tensor()).expect("a parameter of this shape");
    }
    let x = fixture.tensor("input");
    let output = net.eval().forward(&x).expect("a forward pass");
    let gradients = net.eval().gradients(&x, &fixture.tensor("cotangent")).expect("gradients");

    let t = tolerance(fixture);
    let expected = |name: &str| &fixture.get(name).values;
    let what = |part: &str| format!("{}: {part}", fixture.stem);
    assert_eq!(output.shape().dims(), fixture.get("output").shape, "{}", fixture.stem);
    let mut worst = assert_close(&what("output"), &output, expected("output"), t);
    let again = assert_close(&what("output again"), &gradients.output, expected("output"), t);
    let input = gradients.input.expect("the input has a gradient");
    worst = worst.max(again);
    // Where windows overlap, an element's gradient is a sum.
    let of_input = match fixture.option("name") {
        "max_pool" => Tolerance::strict(DType::F32),
        _ => t,
    };
    let what_input = what("input gradient");
    worst = worst.max(assert_close(&what_input, &input, expected("grad.input"), of_input));
    let mut compared = 0;
    for (name, gradient) in &gradients.parameters {
        let expected = expected(&format!("grad.param.{name}"));
        worst = worst.max(assert_close(&what(name), gradient, expected, t));
        compared += 1;
    }
    assert_eq!(compared, fixture.below("grad.param.").count(), "{}", fixture.stem);
    worst
}

fn build(fixture: &Fixture, p: &Scope) -> Box<dyn Module> {
    match fixture.option("name") {
        "linear" => {
            let bias = match fixture.option("bias") {
                "true" => Bias::Added,
                _ => Bias::Absent,
            };
            let [inputs, outputs] =
                ["in_features", "out_features"].map(|name| fixture.number(name));
            Box::new(Linear::with_bias(p, inputs, outputs, bias))
        }
        "relu" => Box::new(Relu),
        "leaky_relu" => Box::new(LeakyRelu { slope: fixture.number("slope") }),
        "gelu" => Box::new(Gelu {
            approximation: match fixture.option("approximate") {
                "none" => GeluApproximation::None,
                "tanh" => GeluApproximation::Tanh,
                other => panic!("{}: approximate = {other}", fixture.stem),
            },
        }),
        "silu" => Box::new(Silu),
        "tanh" => Box::new(Tanh),
        "sigmoid" => Box::new(Sigmoid),
        "softmax" => Box::new(Softmax),
        "log_softmax" => Box::new(LogSoftmax),
        "flatten" => Box::new(Flatten { start: fixture.number("start_dim") }),
        "sequential" => {
            assert_eq!(fixture.option("layers"), "linear,relu,linear");
            let sizes: Vec<usize> = fixture.list("sizes");
            let linear = |p: &Scope, at: usize| Linear::new(p, sizes[at], sizes[at + 1]);
            let sequence = Sequential::new(p).with(|p| linear(p, 0)).with(|_| Relu);
            Box::new(sequence.with(|p| linear(p, 1)))
        }
        "residual" => {
            let features = fixture.number("features");
            Box::new(Residual(Linear::new(&p.at("linear"), features, features)))
        }
        other => super::images::build(fixture, p)
            .or_else(|| super::more_layers::build(fixture, p))
            .unwrap_or_else(|| panic!("{}: nothing builds a layer {other}", fixture.stem)),
    }
}

fn tolerance(fixture: &Fixture) -> Tolerance {
    match fixture.option("name") {
        "linear" | "sequential" | "residual" | "conv" | "conv_transpose" | "batch_norm"
        | "layer_norm" | "group_norm" | "instance_norm" => Tolerance::balanced(DType::F32),
        "relu" | "flatten" | "max_pool" | "zero_pad" => Tolerance::EXACT,
        _ => Tolerance::strict(DType::F32),
    }
}
