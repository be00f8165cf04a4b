// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels of convolutional networks: what is one step, in which way it is computed, and what a backend
//! without such kernels gets.

use std::sync::Arc;

use kiln::backend::{Facts, ImageKernels};
use kiln::graph::MemoryFormat;
use kiln::kernel::{BiasGradient, ConvWay, Kernel, Sink};
use kiln::loss::CrossEntropy;
use kiln::nn::{
    Bias, Conv2d, ConvOptions, Dropout, Flatten, Linear, MaxPool2d, Padding, Relu, Scope,
    Sequential,
};
use kiln::op::{Op, Store, TensorType, Unary};
use kiln::optim::Sgd;
use kiln::plan::{Plan, Step};
use kiln::{Device, Mode, Net};

use super::networks::step;
use crate::common::reference::{compiled, one_lane, record};
use crate::common::zoo::SEED;

const IMAGE: [usize; 4] = [4, 3, 16, 16];

fn facts(images: ImageKernels) -> Facts {
    Facts { image_format: MemoryFormat::ChannelsLast, images, ..one_lane() }
}

fn same() -> ConvOptions<2> {
    ConvOptions { padding: Padding::Same, ..ConvOptions::default() }
}

/// Two convolutions with bias, ReLU and pooling, the second one wide, then a linear layer.
fn network(p: &Scope) -> Sequential {
    Sequential::new(p)
        .with(|p| Conv2d::with_options(p, 3, 32, [3, 3], same()))
        .with(|_| Relu)
        .with(|_| MaxPool2d::new([2, 2]))
        .with(|p| Conv2d::with_options(p, 32, 64, [3, 3], same()))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, 0.5))
        .with(|_| MaxPool2d::new([2, 2]))
        .with(|_| Flatten::default())
        .with(|p| Linear::new(p, 64 * 16, 10))
}

/// A training step of it.
fn plan(facts: &Facts) -> Plan {
    let mut net = Net::new(Device::cpu(), kiln::Seed(SEED), network).expect("a network");
    let x = TensorType::f32(IMAGE.into());
    let planned = net.plan(Mode::Eval, std::slice::from_ref(&x)).expect("a plan");
    let specs = Arc::new(planned.graph.parameters().to_vec());
    let inputs = [x, TensorType::i32([IMAGE[0]].into())];
    let traced = record(net.module(), Some(&CrossEntropy::default()), &specs, &inputs);
    compiled(traced, Mode::Train, step(Store::Overwrite, Some(Sgd::new(0.1).into()), None), facts)
}

fn with_op(plan: &Plan, is_ours: fn(&Op) -> bool) -> Vec<&Step> {
    let holds = |step: &&Step| step.nodes.iter().any(|&id| is_ours(&plan.graph.node(id).op));
    plan.steps.iter().filter(holds).collect()
}

fn ways(plan: &Plan) -> Vec<ConvWay> {
    let way = |step: &Step| match step.kernel {
        Kernel::Conv { way, .. }
        | Kernel::ConvInputGradient { way, .. }
        | Kernel::ConvWeightGradient { way, .. } => Some(way),
        _ => None,
    };
    plan.steps.iter().filter_map(way).collect()
}

#[test]
fn convolution_bias_relu_and_dropout_are_one_step() {
    let plan = plan(&facts(ImageKernels::Own));
    let tails: Vec<_> = with_op(&plan, |op| matches!(op, Op::Conv(_)))
        .into_iter()
        .map(|step| match step.kernel {
            Kernel::Conv { tail, .. } => (tail.bias, tail.activation, tail.dropout.is_some()),
            _ => panic!("{:?}", step.kernel),
        })
        .collect();
    let relu = Some(Unary::Relu);
    assert_eq!(tails, [(Bias::Added, relu, false), (Bias::Added, relu, true)]);
}

#[test]
fn gradients_of_weights_and_bias_meet_the_optimiser_in_one_step() {
    let plan = plan(&facts(ImageKernels::Own));
    let steps = with_op(&plan, |op| matches!(op, Op::ConvWeightGrad(..)));
    assert_eq!(steps.len(), 2);
    for step in steps {
        let Kernel::ConvWeightGradient { sink, bias, .. } = step.kernel else {
            panic!("{:?}", step.kernel)
        };
        assert!(matches!(sink, Some(Sink::Update(_))), "{sink:?}");
        assert_eq!((bias, step.outputs.len()), (BiasGradient::Computed, 2));
    }
}

/// A gradient goes to the largest elements, so their zeros are mask enough; and where the mask follows
/// a convolution's gradient it is applied there.
#[test]
fn masks_are_applied_to_what_pools_yield() {
    let plan = plan(&facts(ImageKernels::Own));
    let graph = &plan.graph;
    let masks = graph.nodes().filter(|(_, node)| matches!(node.op, Op::MaskNonZero(_)));
    let shapes: Vec<_> = masks.map(|(_, node)| node.ty.shape.dims().to_vec()).collect();
    // The second one's mask is dropout's: it drops among what was not pooled yet.
    assert_eq!(shapes, [vec![4, 64, 8, 8], vec![4, 32, 8, 8]]);
    let gradients = with_op(&plan, |op| matches!(op, Op::ConvInputGrad(..)));
    assert_eq!(gradients.len(), 1);
    let Kernel::ConvInputGradient { mask, .. } = gradients[0].kernel else { panic!() };
    assert_eq!(mask, Some(1.0));
}

#[test]
fn the_way_follows_from_the_shape_and_from_what_was_asked_for() {
    let fast = plan(&facts(ImageKernels::Own));
    // Three channels are too few; the second layer has all three of its products by squares.
    let by_squares = |way: &&ConvWay| **way == ConvWay::Winograd;
    assert_eq!((ways(&fast).len(), ways(&fast).iter().filter(by_squares).count()), (5, 3));
    let names: Vec<_> = fast.steps.iter().map(|step| step.kernel.name()).collect();
    for name in ["conv", "conv_winograd", "conv_weight_gradient_winograd"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let precise = plan(&facts(ImageKernels::Precise));
    assert_eq!(ways(&precise), [ConvWay::Direct; 5]);
}

#[test]
fn backends_without_kernels_of_images_get_plain_steps() {
    let plan = plan(&facts(ImageKernels::Absent));
    assert!(ways(&plan).is_empty());
    for step in with_op(&plan, |op| matches!(op, Op::Conv(_) | Op::MaxPool(_))) {
        assert_eq!((&step.kernel, step.nodes.len().min(2)), (&Kernel::Plain, step.outputs.len()));
    }
}
