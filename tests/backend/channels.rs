// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout of whole channels: one decision for each sample and channel, wherever the layer stands.

use kiln::mask::Mask;
use kiln::nn::{
    ChannelDropout, Conv2d, ConvOptions, Dropout1d, Dropout2d, Dropout3d, Module, Padding, Scope,
    Sequential,
};
use kiln::op::{Dropout, Drops, Op};
use kiln::{Device, Gradients, Mode, Net, Seed, Tensor, Var};

use crate::common::targets::targets;
use crate::common::zoo::SEED;
use crate::common::Numbers;

const P: f32 = 0.5;

fn net<M: Module>(device: Device, make: impl FnOnce(&Scope) -> M) -> Net<M> {
    Net::new(device, Seed(SEED), make).expect("a network")
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::new(shape, vec![1.0; shape.iter().product()]).expect("ones")
}

/// What a pass over ones gives is the mask, in results and in gradients.
fn is_the_mask(found: &[f32], shape: &[usize], site: &str, pass: u32) {
    let mask = Mask::new(SEED, site, P);
    let spatial: usize = shape[2..].iter().product();
    for (index, &y) in found.iter().enumerate() {
        let (map, channels) = (index / spatial, shape[1]);
        let kept = mask.keeps(pass, (map / channels) as u32, (map % channels) as u32);
        let expected = if kept { mask.scale() } else { 0.0 };
        assert_eq!(y, expected, "{shape:?} pass {pass} element {index}");
    }
}

fn passes(device: Device, shape: &[usize], make: impl FnOnce(&Scope) -> Box<dyn Module>) {
    let mut net = net(device, make);
    let x = ones(shape);
    is_the_mask(net.train().forward(&x).expect("a pass").values().expect("f32"), shape, "d#0", 0);
    let Gradients { output, input, .. } = net.train().gradients(&x, &x).expect("a pass");
    for found in [output, input.expect("a gradient")] {
        is_the_mask(found.values().expect("f32"), shape, "d#0", 1);
    }
    assert_eq!(net.eval().forward(&x).expect("a pass"), x);
}

#[test]
fn a_channel_of_a_sample_is_kept_or_dropped_as_a_whole() {
    for target in targets() {
        let device = || target.device();
        for shape in [[5, 31, 7], [3, 1, 40], [2, 64, 1]] {
            passes(device(), &shape, |p| Box::new(Dropout1d::new(&p.at("d"), P)));
        }
        for shape in [[2, 3, 5, 7], [3, 40, 2, 3], [1, 130, 1, 1], [4, 1, 9, 9]] {
            passes(device(), &shape, |p| Box::new(Dropout2d::new(&p.at("d"), P)));
        }
        passes(device(), &[2, 9, 3, 2, 5], |p| Box::new(Dropout3d::new(&p.at("d"), P)));
    }
}

/// The layer between moves, after which memory may lie in another order.
struct Moved<const N: usize> {
    dropout: ChannelDropout<N>,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// Channels were innermost.
    Permuted,
    /// Pixels were one extent.
    Reshaped,
    /// Behind both, rows and columns exchanged.
    Both,
}

impl<const N: usize> Module for Moved<N> {
    fn forward(&self, x: &Var) -> Var {
        let drop = |x: &Var| self.dropout.forward(x);
        match self.way {
            Way::Permuted => drop(&x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]),
            Way::Reshaped => drop(&x.reshape([4, 6, 5, 3])).reshape([4, 6, 15]),
            Way::Both => {
                drop(&x.permute([0, 2, 1]).reshape([4, 6, 5, 3]).permute([0, 1, 3, 2])).flatten(1)
            }
        }
    }
}

#[test]
fn masks_behind_permutations_and_reshapes_are_the_same_forward_and_back() {
    for target in targets() {
        for (way, shape) in [
            (Way::Permuted, vec![4, 3, 5, 6]),
            (Way::Reshaped, vec![4, 6, 15]),
            (Way::Both, vec![4, 15, 6]),
        ] {
            let make = |p: &Scope| Moved { dropout: Dropout2d::new(&p.at("d"), P), way };
            let mut net = net(target.device(), make);
            let x = ones(&shape);
            let y = net.eval().forward(&x).expect("a pass");
            let found = net.train().gradients(&x, &ones(y.shape().dims())).expect("a pass");
            let input = found.input.expect("a gradient");
            let mask = Mask::new(SEED, "d#0", P);
            let keeps = |sample: usize, channel: usize| match mask.keeps(
                0,
                sample as u32,
                channel as u32,
            ) {
                true => mask.scale(),
                false => 0.0,
            };
            let (outer, inner) = match way {
                Way::Permuted => (15, 6),
                Way::Reshaped => (6, 15),
                Way::Both => (15, 6),
            };
            for (index, &dx) in input.values().expect("f32").iter().enumerate() {
                let (sample, rest) = (index / (outer * inner), index % (outer * inner));
                let channel = match way {
                    Way::Permuted | Way::Both => rest % inner,
                    Way::Reshaped => rest / inner,
                };
                assert_eq!(dx, keeps(sample, channel), "{way:?} on {}: {index}", target.name);
            }
            let forward: f32 = found.output.values().expect("f32").iter().sum();
            let back: f32 = input.values().expect("f32").iter().sum();
            assert_eq!(forward, back, "{way:?} on {}", target.name);
        }
    }
}

/// Behind a convolution and ReLU, where backends with kernels of images fuse them.
#[test]
fn fused_into_a_convolution_the_mask_is_the_same() {
    let block = |p: &Scope, rate| {
        let padded = ConvOptions { padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
        Sequential::new(p)
            .with(|p| Conv2d::with_options(p, 3, 40, [3, 3], padded))
            .with(|_| kiln::nn::Relu)
            .with(|p| Dropout2d::new(p, rate))
    };
    for target in targets() {
        for side in [5, 12] {
            let x = Numbers::new(3).tensor(&[3, 3, side, side]);
            let mut plain = net(target.device(), |p| block(p, 0.0));
            let mut dropped = net(target.device(), |p| block(p, P));
            let whole = plain.train().forward(&x).expect("a pass");
            let found = dropped.train().forward(&x).expect("a pass");
            let mask = Mask::new(SEED, "2#0", P);
            let pixels = side * side;
            let pairs = whole.values().expect("f32").iter().zip(found.values().expect("f32"));
            for (index, (&whole, &found)) in pairs.enumerate() {
                let map = index / pixels;
                let kept = mask.keeps(0, (map / 40) as u32, (map % 40) as u32);
                assert_eq!(found, if kept { 2.0 * whole } else { 0.0 }, "{} {index}", target.name);
            }
        }
    }
}

/// A mask that takes no memory: no step but dropout's own, or that of the convolution before it, and
/// in eval mode none at all.
#[test]
fn plans_hold_no_masks() {
    for target in targets() {
        let mut net = net(target.device(), |p| Dropout2d::new(&p.at("d"), P));
        let x = ones(&[2, 8, 4, 4]);
        let plan = net.plan(Mode::Train, &[x.ty()]).expect("a plan");
        let is_ours = |op: &Op| matches!(op, Op::Dropout(Dropout { drops: Drops::Channels, .. }));
        assert_eq!(plan.graph.nodes().filter(|(_, node)| is_ours(&node.op)).count(), 1);
        let values = plan.graph.nodes().map(|(_, node)| node.ty.shape.elements()).max();
        assert_eq!(values, Some(x.shape().elements()));
        let plan = net.plan(Mode::Eval, &[x.ty()]).expect("a plan");
        assert!(!plan.graph.nodes().any(|(_, node)| is_ours(&node.op)));
    }
}
