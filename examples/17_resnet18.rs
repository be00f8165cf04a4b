// SPDX-License-Identifier: MIT OR Apache-2.0
//! torchvision's ResNet-18, under its names, with the weights that PyTorch trained.
//!
//! `cargo run --release --example 17_resnet18 resnet18.safetensors`, where the file comes from
//!
//! ```python
//! from safetensors.torch import save_file
//! from torchvision.models import resnet18
//! save_file(resnet18(weights="DEFAULT").state_dict(), "resnet18.safetensors")
//! ```
//!
//! Without a file the weights are random.

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use kiln::nn::{
    AdaptiveAvgPool2d, BatchNorm, Bias, Conv2d, ConvOptions, Linear, MaxPool2d, Module, Padding,
    Scope,
};
use kiln::{checkpoint, Device, Net, Result, Seed, Tensor, Var};

/// A network for images of any size of `[samples, 3, height, width]`.
pub(crate) struct ResNet18 {
    conv1: Conv2d,
    bn1: BatchNorm,
    maxpool: MaxPool2d,
    blocks: Vec<BasicBlock>,
    fc: Linear,
}

struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<(Conv2d, BatchNorm)>,
}

impl ResNet18 {
    pub(crate) fn new(p: &Scope, classes: usize) -> Self {
        let mut blocks = Vec::new();
        let mut inputs = 64;
        for (layer, outputs) in [64, 128, 256, 512].into_iter().enumerate() {
            let p = p.at(&format!("layer{}", layer + 1));
            let stride = if inputs == outputs { 1 } else { 2 };
            blocks.push(BasicBlock::new(&p.at("0"), [inputs, outputs], stride));
            blocks.push(BasicBlock::new(&p.at("1"), [outputs, outputs], 1));
            inputs = outputs;
        }
        ResNet18 {
            conv1: conv(&p.at("conv1"), [3, 64], 7, 2),
            bn1: BatchNorm::new(&p.at("bn1"), 64),
            maxpool: MaxPool2d { stride: [2, 2], padding: [1, 1], ..MaxPool2d::new([3, 3]) },
            blocks,
            fc: Linear::new(&p.at("fc"), inputs, classes),
        }
    }
}

impl Module for ResNet18 {
    fn forward(&self, x: &Var) -> Var {
        let x = self.maxpool.forward(&self.bn1.forward(&self.conv1.forward(x)).relu());
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x));
        self.fc.forward(&AdaptiveAvgPool2d::new(1, 1).forward(&x).flatten(1))
    }
}

impl BasicBlock {
    fn new(p: &Scope, [inputs, outputs]: [usize; 2], stride: usize) -> Self {
        let downsample = (stride > 1).then(|| {
            let p = p.at("downsample");
            (conv(&p.at("0"), [inputs, outputs], 1, stride), BatchNorm::new(&p.at("1"), outputs))
        });
        BasicBlock {
            conv1: conv(&p.at("conv1"), [inputs, outputs], 3, stride),
            bn1: BatchNorm::new(&p.at("bn1"), outputs),
            conv2: conv(&p.at("conv2"), [outputs, outputs], 3, 1),
            bn2: BatchNorm::new(&p.at("bn2"), outputs),
            downsample,
        }
    }
}

impl Module for BasicBlock {
    fn forward(&self, x: &Var) -> Var {
        let out = self.bn1.forward(&self.conv1.forward(x)).relu();
        let out = self.bn2.forward(&self.conv2.forward(&out));
        match &self.downsample {
            Some((conv, norm)) => (out + norm.forward(&conv.forward(x))).relu(),
            None => (out + x).relu(),
        }
    }
}

/// A convolution without a bias, which the batch norm behind it would take away again.
fn conv(p: &Scope, [inputs, outputs]: [usize; 2], side: usize, stride: usize) -> Conv2d {
    let options = ConvOptions {
        stride: [stride; 2],
        padding: Padding::Zeros([side / 2; 2]),
        bias: Bias::Absent,
        ..ConvOptions::default()
    };
    Conv2d::with_options(p, inputs, outputs, [side; 2], options)
}

pub(crate) fn main() -> Result<()> {
    let mut net = Net::new(Device::best()?, Seed(7), |p| ResNet18::new(p, 1000))?;
    if let Some(file) = std::env::args_os().nth(1) {
        checkpoint::load_weights(&mut net, file)?;
    }
    let pixels = (0..3 * 224 * 224).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
    let scores = net.eval().forward(&Tensor::new([1, 3, 224, 224], pixels)?)?;
    let class = scores.argmax()?[0];
    println!("class {class}, score {:.3}", scores.values()?[class]);
    Ok(())
}
