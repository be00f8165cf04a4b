// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of convolutional networks: what builds their layers, and batch norm in training.

use kiln::nn::{
    Affine, AvgPool, BatchNorm, BatchNormOptions, Bias, Conv, ConvOptions, Divisor, MaxPool,
    Module, Momentum, Padding, Rounding, Scope, Tracking,
};
use kiln::{DType, Device, Net, Seed};

use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

/// The layer of a fixture, if it is one of images.
pub(super) fn build(fixture: &Fixture, p: &Scope) -> Option<Box<dyn Module>> {
    let spatial = || fixture.list::<usize>("kernel").len();
    Some(match fixture.option("name") {
        "conv" => match spatial() {
            1 => Box::new(conv::<1>(fixture, p)),
            2 => Box::new(conv::<2>(fixture, p)),
            _ => Box::new(conv::<3>(fixture, p)),
        },
        "max_pool" => match spatial() {
            1 => Box::new(max_pool::<1>(fixture)),
            2 => Box::new(max_pool::<2>(fixture)),
            _ => Box::new(max_pool::<3>(fixture)),
        },
        "avg_pool" => match spatial() {
            1 => Box::new(avg_pool::<1>(fixture)),
            2 => Box::new(avg_pool::<2>(fixture)),
            _ => Box::new(avg_pool::<3>(fixture)),
        },
        "batch_norm" => {
            let options = BatchNormOptions { affine: affine(fixture), ..Default::default() };
            Box::new(BatchNorm::with_options(p, fixture.number("channels"), options))
        }
        _ => return None,
    })
}

/// Two passes in train mode: results, gradients and the state that they leave.
pub(super) fn agree_on_training(fixture: &Fixture, device: &Device) -> f64 {
    let options = BatchNormOptions {
        eps: fixture.number("eps"),
        momentum: match fixture.option("momentum") {
            "none" => Momentum::Cumulative,
            _ => Momentum::Exponential(fixture.number("momentum")),
        },
        affine: affine(fixture),
        tracking: match fixture.option("track") {
            "true" => Tracking::Running,
            _ => Tracking::Batch,
        },
    };
    let make = |p: &Scope| BatchNorm::with_options(p, fixture.number("channels"), options);
    let mut net = Net::new(device.clone(), Seed(7), make).expect("a network");
    for (name, value) in fixture.below("param.") {
        net.set_parameter(name, &value.tensor()).expect("a parameter of this shape");
    }
    let t = Tolerance::balanced(DType::F32);
    let mut worst: f64 = 0.0;
    for run in 0..2 {
        let [x, dy] = ["input", "cotangent"].map(|name| fixture.tensor(&format!("{run}.{name}")));
        let gradients = net.train().gradients(&x, &dy).expect("a pass in train mode");
        let mut agree = |name: &str, got| {
            let name = format!("{run}.{name}");
            let what = format!("{}: {name}", fixture.stem);
            worst = worst.max(assert_close(&what, got, &fixture.get(&name).values, t));
        };
        agree("output", &gradients.output);
        agree("grad.input", gradients.input.as_ref().expect("the input has a gradient"));
        for (name, gradient) in &gradients.parameters {
            agree(&format!("grad.param.{name}"), gradient);
        }
        let expected = fixture.below(&format!("{run}.grad.param.")).count();
        assert_eq!(gradients.parameters.len(), expected, "{}", fixture.stem);
    }
    for (name, expected) in fixture.below("after.") {
        let state = net.parameter(name).expect("state under PyTorch's name");
        let what = format!("{}: {name} afterwards", fixture.stem);
        match state.counters() {
            Ok(counters) => assert_eq!(counters[0] as f64, expected.values[0], "{what}"),
            Err(_) => worst = worst.max(assert_close(&what, &state, &expected.values, t)),
        }
    }
    let names = net.parameter_names().len();
    assert_eq!(names, fixture.below("param.").count() + fixture.below("after.").count());
    worst
}

fn conv<const N: usize>(fixture: &Fixture, p: &Scope) -> Conv<N> {
    let options = ConvOptions {
        stride: extents(fixture, "stride"),
        padding: match fixture.option("padding") {
            "same" => Padding::Same,
            _ => Padding::Zeros(extents(fixture, "padding")),
        },
        dilation: extents(fixture, "dilation"),
        groups: fixture.number("groups"),
        bias: match fixture.option("bias") {
            "true" => Bias::Added,
            _ => Bias::Absent,
        },
    };
    let [inputs, outputs] = ["inputs", "outputs"].map(|name| fixture.number(name));
    Conv::with_options(p, inputs, outputs, extents(fixture, "kernel"), options)
}

fn max_pool<const N: usize>(fixture: &Fixture) -> MaxPool<N> {
    MaxPool {
        stride: extents(fixture, "stride"),
        padding: extents(fixture, "padding"),
        dilation: extents(fixture, "dilation"),
        rounding: rounding(fixture),
        ..MaxPool::new(extents(fixture, "kernel"))
    }
}

fn avg_pool<const N: usize>(fixture: &Fixture) -> AvgPool<N> {
    AvgPool {
        stride: extents(fixture, "stride"),
        padding: extents(fixture, "padding"),
        rounding: rounding(fixture),
        divisor: match (fixture.number("divisor"), fixture.option("count_include_pad")) {
            (0, "true") => Divisor::Padded,
            (0, _) => Divisor::Valid,
            (divisor, _) => Divisor::Fixed(divisor),
        },
        ..AvgPool::new(extents(fixture, "kernel"))
    }
}

fn extents<const N: usize>(fixture: &Fixture, name: &str) -> [usize; N] {
    fixture.list(name).try_into().expect("a number per spatial extent")
}

fn rounding(fixture: &Fixture) -> Rounding {
    match fixture.option("ceil_mode") {
        "true" => Rounding::Ceil,
        _ => Rounding::Floor,
    }
}

fn affine(fixture: &Fixture) -> Affine {
    match fixture.option("affine") {
        "true" => Affine::Learned,
        _ => Affine::Absent,
    }
}
