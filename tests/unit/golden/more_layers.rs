// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of normalisation, resampling, transposed convolution, and random layers: what builds them, and
//! those in train mode.

use kiln::nn::{
    AdaptiveAvgPool2d, Affine, AlphaDropout, Bias, ConvTranspose, ConvTransposeOptions, Corners,
    DropBlock2d, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout, GroupNorm, GroupNormOptions,
    InstanceNorm2d, InstanceNormOptions, LayerNorm, LayerNormOptions, Module, Scope,
    StochasticDepth, Tracking, Upsample, UpsampleMode, ZeroPad2d,
};
use kiln::{DType, Device, Net, Seed};

use crate::common::close::{assert_close, Tolerance};
use crate::common::golden::Fixture;

/// The layer of a fixture, if it is one of these.
pub(super) fn build(fixture: &Fixture, p: &Scope) -> Option<Box<dyn Module>> {
    Some(match fixture.option("name") {
        "layer_norm" => {
            let features: Vec<usize> = fixture.list("features");
            let options = LayerNormOptions {
                eps: fixture.number("eps"),
                affine: affine(fixture),
                bias: bias(fixture),
            };
            Box::new(LayerNorm::with_options(p, features, options))
        }
        "group_norm" => {
            let options = GroupNormOptions { eps: fixture.number("eps"), affine: affine(fixture) };
            let [groups, channels] = ["groups", "channels"].map(|name| fixture.number(name));
            Box::new(GroupNorm::with_options(p, groups, channels, options))
        }
        "instance_norm" => {
            let tracking = match fixture.option("track") {
                "true" => Tracking::Running,
                _ => Tracking::Batch,
            };
            let affine = affine(fixture);
            let options = InstanceNormOptions { affine, tracking, ..Default::default() };
            Box::new(InstanceNorm2d::with_options(p, fixture.number("channels"), options))
        }
        "adaptive_avg_pool" => {
            let size: Vec<usize> = fixture.list("size");
            let kept = |extent: usize| (extent > 0).then_some(extent);
            Box::new(AdaptiveAvgPool2d::new(kept(size[0]), kept(size[1])))
        }
        "zero_pad" => Box::new(ZeroPad2d::new(extents(fixture, "padding"))),
        "upsample" => {
            let mode = match (fixture.option("mode"), fixture.option("align_corners")) {
                ("nearest", _) => UpsampleMode::Nearest,
                (_, "true") => UpsampleMode::Linear(Corners::Aligned),
                _ => UpsampleMode::Linear(Corners::Free),
            };
            match fixture.option("size") {
                "" => Box::new(Upsample::by(fixture.list::<f64>("factor"), mode)),
                _ => Box::new(Upsample::to(fixture.list::<usize>("size"), mode)),
            }
        }
        "conv_transpose" => match fixture.list::<usize>("kernel").len() {
            1 => Box::new(conv_transpose::<1>(fixture, p)),
            2 => Box::new(conv_transpose::<2>(fixture, p)),
            _ => Box::new(conv_transpose::<3>(fixture, p)),
        },
        _ => return None,
    })
}

/// A random layer's first pass in train mode, forward and back.
pub(super) fn agree_on_random(fixture: &Fixture, device: &Device) -> f64 {
    let rate = fixture.number("p");
    let x = fixture.tensor("input");
    let make = |p: &Scope| -> Box<dyn Module> {
        let p = &p.at("layer");
        match (fixture.option("name"), x.shape().rank()) {
            ("channel_dropout", 3) => Box::new(Dropout1d::new(p, rate)),
            ("channel_dropout", 4) => Box::new(Dropout2d::new(p, rate)),
            ("channel_dropout", _) => Box::new(Dropout3d::new(p, rate)),
            ("alpha_dropout", _) => Box::new(AlphaDropout::new(p, rate)),
            ("feature_alpha_dropout", _) => Box::new(FeatureAlphaDropout::new(p, rate)),
            ("stochastic_depth", _) => Box::new(StochasticDepth::new(p, rate)),
            ("drop_block", _) => Box::new(DropBlock2d::new(p, rate, fixture.number("side"))),
            (other, _) => panic!("{}: nothing builds a layer {other}", fixture.stem),
        }
    };
    let seed = Seed(fixture.number("seed"));
    let mut net = Net::new(device.clone(), seed, make).expect("a network");
    let found = net.train().gradients(&x, &fixture.tensor("cotangent")).expect("a pass");
    let t = Tolerance::strict(DType::F32);
    let input = found.input.expect("the input has a gradient");
    let mut worst = 0.0f64;
    for (name, got) in [("output", &found.output), ("grad.input", &input)] {
        let what = format!("{}: {name}", fixture.stem);
        worst = worst.max(assert_close(&what, got, &fixture.get(name).values, t));
    }
    // Nothing of it is there in eval mode.
    let same = net.eval().forward(&x).expect("a pass");
    assert_eq!(same.values().expect("f32"), x.values().expect("f32"), "{}", fixture.stem);
    worst
}

/// Two passes of instance norm in train mode, and the state that they leave.
pub(super) fn agree_on_state(fixture: &Fixture, device: &Device) -> f64 {
    let options = InstanceNormOptions {
        momentum: fixture.number("momentum"),
        tracking: Tracking::Running,
        ..Default::default()
    };
    let make = |p: &Scope| InstanceNorm2d::with_options(p, fixture.number("channels"), options);
    let mut net = Net::new(device.clone(), Seed(7), make).expect("a network");
    let t = Tolerance::balanced(DType::F32);
    let mut worst = 0.0f64;
    for run in 0..2 {
        let x = fixture.tensor(&format!("{run}.input"));
        let y = net.train().forward(&x).expect("a pass");
        let name = format!("{run}.output");
        let what = format!("{}: {name}", fixture.stem);
        worst = worst.max(assert_close(&what, &y, &fixture.get(&name).values, t));
    }
    for (name, expected) in fixture.below("after.") {
        let state = net.parameter(name).expect("state under PyTorch's name");
        let what = format!("{}: {name} afterwards", fixture.stem);
        match state.counters() {
            Ok(counters) => assert_eq!(counters[0] as f64, expected.values[0], "{what}"),
            Err(_) => worst = worst.max(assert_close(&what, &state, &expected.values, t)),
        }
    }
    worst
}

fn conv_transpose<const N: usize>(fixture: &Fixture, p: &Scope) -> ConvTranspose<N> {
    let options = ConvTransposeOptions {
        stride: extents(fixture, "stride"),
        padding: extents(fixture, "padding"),
        output_padding: extents(fixture, "output_padding"),
        dilation: extents(fixture, "dilation"),
        groups: fixture.number("groups"),
        bias: bias(fixture),
    };
    let [inputs, outputs] = ["inputs", "outputs"].map(|name| fixture.number(name));
    ConvTranspose::with_options(p, inputs, outputs, extents(fixture, "kernel"), options)
}

fn extents<const N: usize>(fixture: &Fixture, name: &str) -> [usize; N] {
    fixture.list(name).try_into().expect("a number per spatial extent")
}

fn affine(fixture: &Fixture) -> Affine {
    match fixture.option("affine") {
        "true" => Affine::Learned,
        _ => Affine::Absent,
    }
}

fn bias(fixture: &Fixture) -> Bias {
    match fixture.option("bias") {
        "true" => Bias::Added,
        _ => Bias::Absent,
    }
}
