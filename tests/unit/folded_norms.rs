// SPDX-License-Identifier: MIT OR Apache-2.0
//! In evaluation a convolution normalises its own results.

use kiln::nn::{BatchNorm, Conv2d, ConvOptions, Module, Padding, Scope};
use kiln::{Device, Mode, Net, Precision, Seed, Tensor, Var};

/// A convolution, batch norm and ReLU.
struct Layer {
    conv: Conv2d,
    norm: BatchNorm,
}

/// The same with the convolution's results beside, which are therefore stored.
struct Apart(Layer);

/// Channels, groups and extent: by sums, by squares, depthwise.
const SHAPES: [([usize; 2], usize, usize); 3] =
    [([3, 20], 1, 9), ([40, 48], 1, 12), ([24, 24], 24, 7)];

impl Layer {
    fn new(p: &Scope, [inputs, outputs]: [usize; 2], groups: usize) -> Self {
        let padding = Padding::Same;
        let options = ConvOptions { padding, groups, ..ConvOptions::default() };
        Layer {
            conv: Conv2d::with_options(&p.at("conv"), inputs, outputs, [3, 3], options),
            norm: BatchNorm::new(&p.at("norm"), outputs),
        }
    }
}

impl Module for Layer {
    fn forward(&self, x: &Var) -> Var {
        self.norm.forward(&self.conv.forward(x)).relu()
    }
}

impl Module<Var, (Var, Var)> for Apart {
    fn forward(&self, x: &Var) -> (Var, Var) {
        let y = self.0.conv.forward(x);
        let normalized = self.0.norm.forward(&y).relu();
        (y, normalized)
    }
}

fn wave(shape: impl Into<kiln::Shape>, least: f32) -> Tensor {
    let shape = shape.into();
    let wave = |index: usize| least + 1.0 + (index as f32 * 0.7 + (index / 9) as f32).sin();
    let values = (0..shape.elements()).map(wave).collect();
    Tensor::new(shape, values).expect("as many numbers as the shape has")
}

/// Statistics and an affine map as a training leaves them.
fn train<M>(net: &mut Net<M>, channels: usize) {
    for (name, least) in [
        ("norm.running_mean", -1.0),
        ("norm.running_var", 0.1),
        ("norm.weight", -1.0),
        ("norm.bias", -1.0),
        ("conv.bias", -1.0),
    ] {
        net.set_parameter(name, &wave([channels], least)).expect("a parameter");
    }
}

/// Not a bit differs, and one that is set later is seen: nothing is kept from run to run.
#[test]
fn convolutions_normalize_what_they_yield_as_batch_norm_does() {
    for precision in [Precision::F32, Precision::Tf32] {
        for (channels, groups, extent) in SHAPES {
            let device = Device::cpu().with_precision(precision);
            let x = wave([3, channels[0], extent, extent + 1], -1.0);
            let layer = |p: &Scope| Layer::new(p, channels, groups);
            let mut folded = Net::new(device.clone(), Seed(3), layer).expect("a network");
            let mut apart = Net::new(device, Seed(3), |p| Apart(layer(p))).expect("a network");
            for round in 0..2 {
                if round == 1 {
                    train(&mut folded, channels[1]);
                    train(&mut apart, channels[1]);
                }
                let got = folded.eval().forward(&x).expect("a pass");
                let (_, expected) = apart.eval().forward(&x).expect("a pass");
                assert_eq!(got, expected, "{precision} {channels:?} {round}");
            }
        }
    }
}

#[test]
fn plans_show_it() {
    let kernels = |channels, groups, mode| -> Vec<&'static str> {
        let layer = |p: &Scope| Layer::new(p, channels, groups);
        let mut net = Net::new(Device::cpu(), Seed(3), layer).expect("a network");
        let x = wave([3, channels[0], 12, 12], -1.0).ty();
        let plan = net.plan(mode, &[x]).expect("a plan");
        plan.steps.iter().map(|step| step.kernel.name()).collect()
    };
    for (channels, groups, _) in SHAPES {
        let name = match channels {
            [40, _] => "conv_normalize_winograd",
            _ => "conv_normalize",
        };
        let eval = kernels(channels, groups, Mode::Eval);
        assert!(eval.contains(&name) && !eval.contains(&"normalize"), "{eval:?}");
        let train = kernels(channels, groups, Mode::Train);
        assert!(train.contains(&"normalize") && !train.contains(&name), "{train:?}");
    }
}
