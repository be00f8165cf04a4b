// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layout pass on a backend whose image kernels work channels-last: what is converted, and that
//! nothing is twice.

use std::sync::Arc;

use kiln::backend::Facts;
use kiln::graph::{MemoryFormat, NodeId};
use kiln::nn::{
    BatchNorm, Conv2d, Flatten, Init, Linear, MaxPool2d, Module, Param, Scope, Sequential,
};
use kiln::op::{Op, TensorType};
use kiln::passes::{Goal, Seed};
use kiln::plan::Plan;
use kiln::{Device, Mode, Net, Var};

use super::networks::{cases, goals};
use crate::common::reference::{compiled, one_lane, record};
use crate::common::zoo::SEED;

fn channels_last() -> Facts {
    Facts { image_format: MemoryFormat::ChannelsLast, ..one_lane() }
}

fn plan<M: Module + 'static>(
    image: &[usize],
    facts: &Facts,
    goal: Goal,
    make: impl Fn(&Scope) -> M,
) -> Plan {
    let x = TensorType::f32(image.into());
    let make = |p: &Scope| -> Box<dyn Module> { Box::new(make(p)) };
    let mut net = Net::new(Device::cpu(), kiln::Seed(SEED), make).expect("a network");
    let planned = net.plan(Mode::Eval, std::slice::from_ref(&x)).expect("a plan");
    let specs = Arc::new(planned.graph.parameters().to_vec());
    let y = TensorType::f32(planned.results[0].shape.clone());
    let mut inputs = vec![x];
    inputs.extend((goal != Goal::Forward).then_some(y));
    let traced = record(&**net.module(), None, &specs, &inputs);
    compiled(traced, Mode::Train, goal, facts)
}

/// The conversions of a plan: the layer of each and the operation whose value it converts.
fn conversions(plan: &Plan) -> Vec<String> {
    let graph = &plan.graph;
    let converts = |id: &NodeId| matches!(graph.node(*id).op, Op::ToFormat(_));
    let all = plan.steps.iter().flat_map(|step| &step.nodes).filter(|id| converts(id));
    all.map(|&id| {
        let from = graph.node(graph.node(id).inputs[0]);
        format!("{} {} to {:?}", from.op.name(), from.ty.shape, graph.node(id).format)
    })
    .collect()
}

fn two_convolutions(p: &Scope) -> Sequential {
    Sequential::new(p)
        .with(|p| Conv2d::new(p, 3, 4, [3, 3]))
        .with(|p| BatchNorm::new(p, 4))
        .with(|_| kiln::nn::Relu)
        .with(|_| MaxPool2d::new([2, 2]))
        .with(|p| Conv2d::new(p, 4, 5, [3, 3]))
}

#[test]
fn images_are_converted_where_they_come_in_and_where_they_leave() {
    let forward = plan(&[2, 3, 8, 8], &channels_last(), Goal::Forward, two_convolutions);
    // The last image has one pixel: its order is the same in both formats.
    assert_eq!(conversions(&forward), ["input [2, 3, 8, 8] to ChannelsLast"]);
}

#[test]
fn what_leaves_as_an_image_is_row_major_again() {
    let forward = plan(&[2, 3, 12, 12], &channels_last(), Goal::Forward, two_convolutions);
    let found = conversions(&forward);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("input") && found[1].ends_with("[2, 5, 3, 3] to Contiguous"));
    let (output, _) = forward.outputs[0];
    assert_eq!(forward.graph.node(output).format, MemoryFormat::Contiguous);
}

#[test]
fn flatten_keeps_the_row_major_order() {
    let forward = plan(&[2, 3, 12, 12], &channels_last(), Goal::Forward, |p| {
        Sequential::new(p)
            .with(|p| Conv2d::new(p, 3, 4, [3, 3]))
            .with(|_| Flatten::default())
            .with(|p| Linear::new(p, 400, 7))
    });
    let found = conversions(&forward);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].ends_with("[2, 4, 10, 10] to Contiguous"), "{found:?}");
}

/// A residual block: two users of one image, and a sum of two.
struct Block {
    first: Conv2d,
    second: Conv2d,
}

impl Module for Block {
    fn forward(&self, x: &Var) -> Var {
        let inner = self.second.forward(&self.first.forward(x).relu());
        (&inner + x).relu()
    }
}

#[test]
fn an_image_with_two_users_is_converted_once() {
    let same = |p: &Scope, name: &str| Conv2d::new(&p.at(name), 3, 3, [1, 1]);
    let block = |p: &Scope| Block { first: same(p, "first"), second: same(p, "second") };
    let forward = plan(&[2, 3, 6, 6], &channels_last(), Goal::Forward, block);
    let found = conversions(&forward);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("input") && found[1].starts_with("relu"), "{found:?}");
}

/// A convolution whose pixels are scaled, by their place and by their channel.
struct Scaled {
    conv: Conv2d,
    place: Param,
    channel: Param,
}

impl Module for Scaled {
    fn forward(&self, x: &Var) -> Var {
        let image = self.conv.forward(x);
        let placed = &image * x.parameter(&self.place);
        placed * x.parameter(&self.channel).reshape([4, 1, 1])
    }
}

#[test]
fn broadcasts_are_read_in_any_order() {
    let scaled = |p: &Scope| Scaled {
        conv: Conv2d::new(&p.at("conv"), 3, 4, [3, 3]),
        place: p.parameter("place", [5, 6], Init::Ones),
        channel: p.parameter("channel", [4], Init::Ones),
    };
    let forward = plan(&[2, 3, 7, 8], &channels_last(), Goal::Forward, scaled);
    let found = conversions(&forward);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("input") && found[1].starts_with("multiply"), "{found:?}");
}

/// Backward works in the format of forward: the gradients of parameters and of the input alone are
/// converted, and the gradient that comes in.
#[test]
fn backward_converts_at_the_edges_too() {
    let gradients = Goal::Gradients(Seed::Input);
    let step = plan(&[2, 3, 12, 12], &channels_last(), gradients, two_convolutions);
    let found = conversions(&step);
    let inner = |found: &&String| !found.starts_with("input") && found.ends_with("to ChannelsLast");
    assert_eq!(found.iter().filter(inner).count(), 0, "{found:?}");
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn a_backend_that_works_row_major_converts_nothing() {
    for goal in [Goal::Forward, Goal::Gradients(Seed::Input)] {
        let plan = plan(&[2, 3, 12, 12], &one_lane(), goal, two_convolutions);
        assert_eq!(conversions(&plan), Vec::<String>::new());
    }
}

#[test]
fn networks_without_images_are_planned_as_ever() {
    for case in cases() {
        for (name, goal) in goals() {
            let plain = case.plan(Mode::Train, goal.clone(), &one_lane());
            let images = case.plan(Mode::Train, goal, &channels_last());
            assert_eq!(plain, images, "{} {name}", case.name);
        }
    }
}
