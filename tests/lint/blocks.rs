// SPDX-License-Identifier: MIT OR Apache-2.0
//! What networks of the corpus are built of.

use kiln::nn::{
    BatchNorm, Bias, Conv2d, ConvOptions, Dropout, Init, Keep, Linear, Module, Padding, Param,
    Scope,
};
use kiln::Var;

/// A convolution that keeps the size of images.
pub(crate) fn conv(p: &Scope, name: &str, inputs: usize, outputs: usize, side: usize) -> Conv2d {
    with_bias(p, name, inputs, outputs, side, Bias::Added)
}

/// The same without a bias.
pub(crate) fn bare(p: &Scope, name: &str, inputs: usize, outputs: usize, side: usize) -> Conv2d {
    with_bias(p, name, inputs, outputs, side, Bias::Absent)
}

fn with_bias(
    p: &Scope,
    name: &str,
    inputs: usize,
    outputs: usize,
    side: usize,
    bias: Bias,
) -> Conv2d {
    let options =
        ConvOptions { padding: Padding::Zeros([side / 2; 2]), bias, ..ConvOptions::default() };
    Conv2d::with_options(&p.at(name), inputs, outputs, [side; 2], options)
}

/// A convolution without a bias that halves the size of images.
pub(crate) fn halving(p: &Scope, name: &str, inputs: usize, outputs: usize) -> Conv2d {
    let options = ConvOptions {
        stride: [2; 2],
        padding: Padding::Zeros([1; 2]),
        bias: Bias::Absent,
        ..ConvOptions::default()
    };
    Conv2d::with_options(&p.at(name), inputs, outputs, [3; 2], options)
}

pub(crate) fn linear(p: &Scope, name: &str, inputs: usize, outputs: usize) -> Linear {
    Linear::new(&p.at(name), inputs, outputs)
}

pub(crate) fn norm(p: &Scope, name: &str, channels: usize) -> BatchNorm {
    BatchNorm::new(&p.at(name), channels)
}

pub(crate) fn dropout(p: &Scope, name: &str, rate: f32) -> Dropout {
    Dropout::new(&p.at(name), rate)
}

/// Means over the pixels of feature maps.
pub(crate) fn means(x: &Var) -> Var {
    x.mean_over([2, 3], Keep::Nothing)
}

/// Layer norm, put together of operations.
pub(crate) struct Norm {
    weight: Param,
    bias: Param,
}

impl Norm {
    pub(crate) fn new(p: &Scope, name: &str, width: usize) -> Self {
        let p = p.at(name);
        let bias = p.parameter("bias", [width], Init::Constant(0.0));
        Norm { weight: p.parameter("weight", [width], Init::Ones), bias }
    }
}

impl Module for Norm {
    fn forward(&self, x: &Var) -> Var {
        let centred = x - x.mean_over([-1], Keep::Extents);
        let variance = centred.square().mean_over([-1], Keep::Extents);
        centred * (variance + 1e-5).rsqrt() * x.parameter(&self.weight) + x.parameter(&self.bias)
    }
}

/// Attention of several heads, its probabilities dropped.
pub(crate) struct Attention {
    qkv: [Linear; 3],
    out: Linear,
    dropout: Dropout,
    heads: usize,
}

impl Attention {
    pub(crate) fn new(p: &Scope, name: &str, width: usize, heads: usize, rate: f32) -> Self {
        let p = p.at(name);
        let qkv = ["q", "k", "v"].map(|name| linear(&p, name, width, width));
        let out = linear(&p, "out", width, width);
        Attention { qkv, out, dropout: dropout(&p, "dropout", rate), heads }
    }
}

impl Module for Attention {
    fn forward(&self, x: &Var) -> Var {
        let dims = x.shape().expect("a known shape").dims().to_vec();
        let [samples, steps, width] = dims[..] else { panic!("{dims:?}") };
        let head = width / self.heads;
        let [q, k, v] = self.qkv.each_ref().map(|layer| {
            layer.forward(x).reshape([samples, steps, self.heads, head]).transpose(1, 2)
        });
        let scores = q.matmul_transposed(&k).scale(1.0 / (head as f32).sqrt());
        let weights = self.dropout.forward(&scores.softmax());
        let read = weights.matmul(&v).transpose(1, 2).reshape([samples, steps, width]);
        self.out.forward(&read)
    }
}

/// Where a Transformer's block normalises.
#[derive(Clone, Copy)]
pub(crate) enum Normed {
    /// Before each branch.
    Before,
    /// Behind each sum.
    After,
}

/// A block of a Transformer.
pub(crate) struct Block {
    attention: Attention,
    norms: [Norm; 2],
    dropouts: [Dropout; 2],
    fc1: Linear,
    fc2: Linear,
    inner: Dropout,
    normed: Normed,
}

impl Block {
    pub(crate) fn new(p: &Scope, name: &str, width: usize, rate: f32, normed: Normed) -> Self {
        let p = p.at(name);
        Block {
            attention: Attention::new(&p, "attention", width, 4, rate),
            norms: ["norm1", "norm2"].map(|name| Norm::new(&p, name, width)),
            dropouts: ["dropout1", "dropout2"].map(|name| dropout(&p, name, rate)),
            fc1: linear(&p, "fc1", width, 4 * width),
            fc2: linear(&p, "fc2", 4 * width, width),
            inner: dropout(&p, "dropout", rate),
            normed,
        }
    }

    fn feed_forward(&self, x: &Var) -> Var {
        self.fc2.forward(&self.inner.forward(&self.fc1.forward(x).gelu()))
    }
}

impl Module for Block {
    fn forward(&self, x: &Var) -> Var {
        let [norm1, norm2] = &self.norms;
        let [dropout1, dropout2] = &self.dropouts;
        match self.normed {
            Normed::Before => {
                let x = x + dropout1.forward(&self.attention.forward(&norm1.forward(x)));
                &x + dropout2.forward(&self.feed_forward(&norm2.forward(&x)))
            }
            Normed::After => {
                let x = norm1.forward(&(x + dropout1.forward(&self.attention.forward(x))));
                norm2.forward(&(&x + dropout2.forward(&self.feed_forward(&x))))
            }
        }
    }
}
