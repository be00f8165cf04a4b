// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks of convolutions.

use kiln::lint::{Case, Use};
use kiln::models::{Cnn, ImageClassifier, ResidualNet, ResnetSmall, SpatialDropoutCnn};
use kiln::nn::{
    AvgPool2d, BatchNorm, Conv2d, ConvOptions, DropBlock2d, Dropout, Dropout2d, Flatten, GroupNorm,
    Linear, MaxPool2d, Module, Padding, Relu, Scope, Sequential, StochasticDepth,
};
use kiln::op::TensorType;
use kiln::Var;

use super::Network;
use crate::blocks::{bare, conv, dropout, halving, linear, means, norm, Block, Normed};
use crate::{batch, classifier, found, found_in, Times};

fn photo() -> TensorType {
    batch(&[3, 32, 32])
}

/// A classifier that is a module.
fn of<M: Module + 'static>(name: &'static str, make: fn(&Scope) -> M) -> Network {
    (
        name,
        Box::new(move || {
            classifier(photo(), |p| {
                let net = make(p);
                move |x: &Var| net.forward(x)
            })
        }),
    )
}

pub(super) fn networks() -> Vec<Network> {
    vec![
        of("CNN", |p| Cnn::new(p, 10)),
        of("SpatialDropoutCNN", |p| {
            ImageClassifier::new(p, SpatialDropoutCnn::new(p, 0.2), [128, 32], 4, 10)
        }),
        of("ResidualBlock", |p| ResidualNet::new(p, 10, 0.1)),
        of("ResNet-20", |p| ResnetSmall::new(p, 10, 0.1)),
        of("VGG", |p| vgg(p, Norms::None)),
        of("VGG with batch norm", |p| vgg(p, Norms::Batch)),
        of("AlexNet", alexnet),
        of("LeNet", lenet),
        of("Network in Network", network_in_network),
        of("All convolutional", all_convolutional),
        ("Wide ResNet", Box::new(|| classifier(photo(), |p| wide_resnet(p, 2, 0.3)))),
        (
            "stochastic depth",
            Box::new(|| {
                classifier(photo(), |p| {
                    residual(p, |p, block| StochasticDepth::new(p, 0.25 * (1 + block) as f32))
                })
            }),
        ),
        (
            "DropBlock",
            Box::new(|| classifier(photo(), |p| residual(p, |p, _| DropBlock2d::new(p, 0.1, 5)))),
        ),
        ("DenseNet", Box::new(|| classifier(photo(), dense_net))),
        ("SqueezeNet", Box::new(|| classifier(photo(), squeeze_net))),
        ("MobileNetV2", Box::new(|| classifier(photo(), mobile_net))),
        ("Inception", Box::new(|| classifier(photo(), inception))),
        ("Squeeze and excite", Box::new(|| classifier(photo(), squeeze_and_excite))),
        ("U-Net", Box::new(|| found(photo(), u_net))),
        ("Vision Transformer", Box::new(|| classifier(photo(), vision_transformer))),
        (
            "Monte Carlo head on features",
            Box::new(|| {
                let case = Case { used: Use::MonteCarlo, ..Case::default() };
                found_in(&case, photo(), |p| {
                    let (a, b) = (conv(p, "a", 3, 32, 3), conv(p, "b", 32, 64, 3));
                    let (drop, fc) = (dropout(p, "drop", 0.5), linear(p, "fc", 64, 10));
                    move |x: &Var| {
                        let x = b.forward(&a.forward(x).relu()).relu();
                        fc.forward(&drop.forward(&means(&x)))
                    }
                })
            }),
        ),
    ]
}

pub(super) fn timed() -> (&'static str, Times) {
    ("a wide residual network of 28 layers", crate::timed(&photo(), |p| wide_resnet(p, 12, 0.3)))
}

fn padded() -> ConvOptions<2> {
    ConvOptions { padding: Padding::Zeros([1; 2]), ..ConvOptions::default() }
}

/// Whether convolutions are followed by batch norm.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Norms {
    None,
    Batch,
}

/// Simonyan & Zisserman 2014, arXiv:1409.1556, as torchvision has it for small images.
fn vgg(p: &Scope, norms: Norms) -> Sequential {
    let mut layers = Sequential::new(p);
    for (inputs, outputs) in [(3, 64), (64, 128), (128, 256)] {
        layers = layers.with(|p| Conv2d::with_options(p, inputs, outputs, [3; 2], padded()));
        if norms == Norms::Batch {
            layers = layers.with(|p| BatchNorm::new(p, outputs));
        }
        layers = layers.with(|_| Relu).with(|_| MaxPool2d::new([2; 2]));
    }
    head(layers, 256 * 16, 1024)
}

/// Two hidden layers, both dropped.
fn head(layers: Sequential, inputs: usize, width: usize) -> Sequential {
    layers
        .with(|_| Flatten::default())
        .with(|p| Linear::new(p, inputs, width))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, 0.5))
        .with(|p| Linear::new(p, width, width))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, 0.5))
        .with(|p| Linear::new(p, width, 10))
}

/// Krizhevsky et al. 2012: dropout before each hidden layer of the head.
fn alexnet(p: &Scope) -> Sequential {
    Sequential::new(p)
        .with(|p| Conv2d::with_options(p, 3, 64, [3; 2], padded()))
        .with(|_| Relu)
        .with(|_| MaxPool2d::new([2; 2]))
        .with(|p| Conv2d::with_options(p, 64, 192, [3; 2], padded()))
        .with(|_| Relu)
        .with(|_| MaxPool2d::new([2; 2]))
        .with(|_| AvgPool2d::new([2; 2]))
        .with(|_| Flatten::default())
        .with(|p| Dropout::new(p, 0.5))
        .with(|p| Linear::new(p, 192 * 16, 1024))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, 0.5))
        .with(|p| Linear::new(p, 1024, 1024))
        .with(|_| Relu)
        .with(|p| Linear::new(p, 1024, 10))
}

/// PyTorch's example for MNIST, with dropout of maps and of features.
fn lenet(p: &Scope) -> Sequential {
    Sequential::new(p)
        .with(|p| Conv2d::new(p, 3, 32, [3; 2]))
        .with(|_| Relu)
        .with(|p| Conv2d::new(p, 32, 64, [3; 2]))
        .with(|_| Relu)
        .with(|_| MaxPool2d::new([2; 2]))
        .with(|p| Dropout2d::new(p, 0.25))
        .with(|_| Flatten::default())
        .with(|p| Linear::new(p, 64 * 14 * 14, 128))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, 0.5))
        .with(|p| Linear::new(p, 128, 10))
}

/// Lin et al. 2013, arXiv:1312.4400: dropout of pixels behind each pool.
fn network_in_network(p: &Scope) -> Sequential {
    let mut layers = Sequential::new(p);
    for inputs in [3, 96] {
        layers = layers
            .with(|p| Conv2d::with_options(p, inputs, 96, [3; 2], padded()))
            .with(|_| Relu)
            .with(|p| Conv2d::new(p, 96, 96, [1; 2]))
            .with(|_| Relu)
            .with(|_| MaxPool2d::new([2; 2]))
            .with(|p| Dropout::new(p, 0.5));
    }
    layers
        .with(|p| Conv2d::with_options(p, 96, 96, [3; 2], padded()))
        .with(|_| Relu)
        .with(|p| Conv2d::new(p, 96, 10, [1; 2]))
        .with(|_| Relu)
        .with(|_| AvgPool2d::new([8; 2]))
        .with(|_| Flatten::default())
}

/// Springenberg et al. 2014, arXiv:1412.6806: 0.2 of the input, 0.5 behind each halving.
fn all_convolutional(p: &Scope) -> Sequential {
    let halving = ConvOptions { stride: [2; 2], ..padded() };
    Sequential::new(p)
        .with(|p| Dropout::new(p, 0.2))
        .with(|p| Conv2d::with_options(p, 3, 96, [3; 2], padded()))
        .with(|_| Relu)
        .with(|p| Conv2d::with_options(p, 96, 96, [3; 2], halving))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, 0.5))
        .with(|p| Conv2d::with_options(p, 96, 192, [3; 2], halving))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, 0.5))
        .with(|p| Conv2d::new(p, 192, 10, [1; 2]))
        .with(|_| Relu)
        .with(|_| AvgPool2d::new([8; 2]))
        .with(|_| Flatten::default())
}

/// Zagoruyko & Komodakis 2016, arXiv:1605.07146: dropout of pixels between the convolutions of a block.
fn wide_resnet(p: &Scope, blocks: usize, rate: f32) -> impl Fn(&Var) -> Var + Send + Sync {
    const WIDTH: usize = 64;
    let stem = bare(p, "stem", 3, WIDTH, 3);
    let blocks: Vec<_> = (0..blocks)
        .map(|number| {
            let p = p.at(&format!("block{number}"));
            let norms = [norm(&p, "bn1", WIDTH), norm(&p, "bn2", WIDTH)];
            let convs = [bare(&p, "conv1", WIDTH, WIDTH, 3), bare(&p, "conv2", WIDTH, WIDTH, 3)];
            (norms, convs, dropout(&p, "dropout", rate))
        })
        .collect();
    let (bn, fc) = (norm(p, "bn", WIDTH), linear(p, "fc", WIDTH, 10));
    move |x: &Var| {
        let mut x = stem.forward(x);
        for ([bn1, bn2], [conv1, conv2], dropout) in &blocks {
            let y = conv1.forward(&bn1.forward(&x).relu());
            x = &x + conv2.forward(&dropout.forward(&bn2.forward(&y).relu()));
        }
        fc.forward(&means(&bn.forward(&x).relu()))
    }
}

/// Two blocks whose branches end with some dropout: of whole branches (Huang et al. 2016, arXiv:1603.09382) or
/// of squares of pixels (Ghiasi et al. 2018, arXiv:1810.12890).
fn residual<D: Module>(
    p: &Scope,
    drop: impl Fn(&Scope, usize) -> D,
) -> impl Fn(&Var) -> Var + Send + Sync {
    let stem = bare(p, "stem", 3, 64, 3);
    let blocks: Vec<_> = (0..2)
        .map(|number| {
            let p = p.at(&format!("block{number}"));
            let convs = [bare(&p, "conv1", 64, 64, 3), bare(&p, "conv2", 64, 64, 3)];
            let norms =
                [GroupNorm::new(&p.at("norm1"), 8, 64), GroupNorm::new(&p.at("norm2"), 8, 64)];
            (convs, norms, drop(&p.at("drop"), number))
        })
        .collect();
    let fc = linear(p, "fc", 64, 10);
    move |x: &Var| {
        let mut x = stem.forward(x).relu();
        for (convs, norms, drop) in &blocks {
            let y = norms[0].forward(&convs[0].forward(&x)).relu();
            x = (&x + drop.forward(&norms[1].forward(&convs[1].forward(&y)))).relu();
        }
        fc.forward(&means(&x))
    }
}

/// Huang et al. 2016, arXiv:1608.06993: 0.2 behind each convolution, whose result joins all before.
fn dense_net(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    const GROWTH: usize = 16;
    let stem = bare(p, "stem", 3, GROWTH, 3);
    let layers: Vec<_> = (1..4)
        .map(|number| {
            let p = p.at(&format!("layer{number}"));
            let channels = number * GROWTH;
            (
                norm(&p, "bn", channels),
                bare(&p, "conv", channels, GROWTH, 3),
                dropout(&p, "drop", 0.2),
            )
        })
        .collect();
    let (bn, fc) = (norm(p, "bn", 4 * GROWTH), linear(p, "fc", 4 * GROWTH, 10));
    move |x: &Var| {
        let mut x = stem.forward(x);
        for (bn, conv, drop) in &layers {
            let new = drop.forward(&conv.forward(&bn.forward(&x).relu()));
            x = Var::concat(&[x, new], 1);
        }
        fc.forward(&means(&bn.forward(&x).relu()))
    }
}

/// Iandola et al. 2016, arXiv:1602.07360: dropout before the convolution that yields the classes.
fn squeeze_net(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    let stem = conv(p, "stem", 3, 64, 3);
    let squeeze = conv(p, "squeeze", 64, 16, 1);
    let expand = [conv(p, "expand1", 16, 64, 1), conv(p, "expand3", 16, 64, 3)];
    let (drop, last) = (dropout(p, "drop", 0.5), conv(p, "last", 128, 10, 1));
    move |x: &Var| {
        let x = squeeze.forward(&stem.forward(x).relu()).relu();
        let x = Var::concat(&[expand[0].forward(&x).relu(), expand[1].forward(&x).relu()], 1);
        means(&last.forward(&drop.forward(&x)).relu())
    }
}

/// Sandler et al. 2018, arXiv:1801.04381: blocks that end narrow and linear, and 0.2 before the classifier.
fn mobile_net(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    let stem = halving(p, "stem", 3, 16);
    let first = norm(p, "bn", 16);
    let blocks: Vec<_> = (0..2)
        .map(|number| {
            let p = p.at(&format!("block{number}"));
            let depthwise = ConvOptions { groups: 96, bias: kiln::nn::Bias::Absent, ..padded() };
            let convs = [
                bare(&p, "expand", 16, 96, 1),
                Conv2d::with_options(&p.at("depthwise"), 96, 96, [3; 2], depthwise),
                bare(&p, "project", 96, 16, 1),
            ];
            let norms = [norm(&p, "bn1", 96), norm(&p, "bn2", 96), norm(&p, "bn3", 16)];
            (convs, norms)
        })
        .collect();
    let (last, bn) = (bare(p, "last", 16, 128, 1), norm(p, "bn_last", 128));
    let (drop, fc) = (dropout(p, "drop", 0.2), linear(p, "fc", 128, 10));
    move |x: &Var| {
        let mut x = first.forward(&stem.forward(x)).clamp(0.0, 6.0);
        for (number, (convs, norms)) in blocks.iter().enumerate() {
            let y = norms[0].forward(&convs[0].forward(&x)).clamp(0.0, 6.0);
            let y = norms[1].forward(&convs[1].forward(&y)).clamp(0.0, 6.0);
            let y = norms[2].forward(&convs[2].forward(&y));
            x = if number == 0 { y } else { x + y };
        }
        let x = bn.forward(&last.forward(&x)).clamp(0.0, 6.0);
        fc.forward(&drop.forward(&means(&x)))
    }
}

/// Szegedy et al. 2014, arXiv:1409.4842: towers side by side, and 0.4 before the classifier.
fn inception(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    let stem = halving(p, "stem", 3, 64);
    let (a, b) = (conv(p, "a", 64, 32, 1), [conv(p, "b1", 64, 32, 1), conv(p, "b2", 32, 64, 3)]);
    let c = [conv(p, "c1", 64, 16, 1), conv(p, "c2", 16, 32, 5)];
    let (drop, fc) = (dropout(p, "drop", 0.4), linear(p, "fc", 128, 10));
    move |x: &Var| {
        let x = stem.forward(x).relu();
        let tower =
            |[first, second]: &[Conv2d; 2]| second.forward(&first.forward(&x).relu()).relu();
        let x = Var::concat(&[a.forward(&x).relu(), tower(&b), tower(&c)], 1);
        fc.forward(&drop.forward(&means(&x)))
    }
}

/// Hu et al. 2017, arXiv:1709.01507: channels weighed by a small network of their means.
fn squeeze_and_excite(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    let stem = bare(p, "stem", 3, 64, 3);
    let (bn1, conv1) = (norm(p, "bn1", 64), bare(p, "conv1", 64, 64, 3));
    let bn2 = norm(p, "bn2", 64);
    let (down, up) = (linear(p, "down", 64, 16), linear(p, "up", 16, 64));
    let (drop, fc) = (dropout(p, "drop", 0.3), linear(p, "fc", 64, 10));
    move |x: &Var| {
        let x = bn1.forward(&stem.forward(x)).relu();
        let y = bn2.forward(&conv1.forward(&x));
        let gates = up.forward(&down.forward(&means(&y)).relu()).sigmoid();
        let gates = gates.unsqueeze(-1).unsqueeze(-1);
        let x = (x + y * gates).relu();
        fc.forward(&drop.forward(&means(&x)))
    }
}

/// Ronneberger et al. 2015, arXiv:1505.04597: dropout where the image is smallest.
fn u_net(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    let down = [conv(p, "down1", 3, 32, 3), conv(p, "down2", 32, 64, 3)];
    let (bottom, drop) = (conv(p, "bottom", 64, 64, 3), Dropout2d::new(&p.at("drop"), 0.3));
    let up = [conv(p, "up1", 128, 32, 3), conv(p, "up2", 64, 32, 3)];
    let last = conv(p, "last", 32, 2, 1);
    let pool = MaxPool2d::new([2; 2]);
    move |x: &Var| {
        let a = down[0].forward(x).relu();
        let b = down[1].forward(&pool.forward(&a)).relu();
        let x = drop.forward(&bottom.forward(&pool.forward(&b)).relu());
        let x = up[0].forward(&Var::concat(&[twice(&x), b], 1)).relu();
        let x = up[1].forward(&Var::concat(&[twice(&x), a], 1)).relu();
        last.forward(&x)
    }
}

/// Each pixel four times.
fn twice(x: &Var) -> Var {
    let dims = x.shape().expect("a known shape").dims().to_vec();
    let [samples, channels, height, width] = dims[..] else { panic!("{dims:?}") };
    let wide = x.reshape([samples, channels, height, 1, width, 1]);
    let wide = wide.expand([samples, channels, height, 2, width, 2]);
    wide.reshape([samples, channels, 2 * height, 2 * width])
}

/// Dosovitskiy et al. 2020, arXiv:2010.11929: 0.1 of patches and of every branch.
fn vision_transformer(p: &Scope) -> impl Fn(&Var) -> Var + Send + Sync {
    let options = ConvOptions { stride: [8; 2], ..ConvOptions::default() };
    let patches = Conv2d::with_options(&p.at("patches"), 3, 64, [8; 2], options);
    let places = p.parameter("places", [1, 16, 64], kiln::nn::Init::Constant(0.1));
    let drop = dropout(p, "drop", 0.1);
    let blocks: Vec<_> =
        (0..3).map(|n| Block::new(p, &format!("block{n}"), 64, 0.1, Normed::Before)).collect();
    let (norm, head) = (crate::blocks::Norm::new(p, "norm", 64), linear(p, "head", 64, 10));
    move |x: &Var| {
        let x = patches.forward(x).flatten(2).transpose(1, 2);
        let x = drop.forward(&(&x + x.parameter(&places)));
        let x = blocks.iter().fold(x, |x, block| block.forward(&x));
        head.forward(&norm.forward(&x).mean_over([1], kiln::nn::Keep::Nothing))
    }
}
