// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a network tells of itself.

use kiln::nn::{Conv2d, Dropout, Init, Linear, Module, Param, Scope};
use kiln::op::TensorType;
use kiln::{Device, Net, Seed, Var};

/// A convolution, a linear layer called twice, a dropout, and a parameter of its own.
struct Mixed {
    conv: Conv2d,
    fc: Linear,
    drop: Dropout,
    gain: Param,
}

impl Mixed {
    fn new(p: &Scope) -> Self {
        Mixed {
            conv: Conv2d::new(&p.at("body.conv"), 3, 4, [3, 3]),
            fc: Linear::new(&p.at("body.fc"), 36, 36),
            drop: Dropout::new(&p.at("drop"), 0.5),
            gain: p.at("norm").parameter("gain", [36], Init::Ones),
        }
    }
}

impl Module for Mixed {
    fn forward(&self, x: &Var) -> Var {
        let x = self.conv.forward(x).relu().flatten(1);
        let x = self.fc.forward(&self.fc.forward(&x));
        let gram = x.unsqueeze(1).matmul_transposed(&x.unsqueeze(1).expand([2, 5, 36]));
        self.drop.forward(&(&x * x.parameter(&self.gain) + gram.sum()))
    }
}

#[test]
fn layers_are_listed_with_shapes_parameters_and_work() {
    let mut net = Net::new(Device::cpu(), Seed(1), Mixed::new).expect("a network");
    let summary = net.summary(&[TensorType::f32([2, 3, 5, 5].into())]).expect("a summary");
    let expected = "\
layer      kind     output        parameters  multiply-adds
body.conv  Conv     [2, 4, 3, 3]         112          1,944
body.fc    Linear   [2, 36]            1,332          5,184
(network)  Network  [2, 36]                0            360
drop       Dropout  [2, 36]                0              0
norm                                      36              0
all                                    1,480          7,488
";
    let shown: Vec<String> =
        summary.to_string().lines().map(|line| line.trim_end().to_string()).collect();
    assert_eq!(shown, expected.lines().collect::<Vec<_>>());
    assert_eq!(summary.parameters(), net.parameter_count());
    assert_eq!(net.pass(), 0, "nothing has run");
}
