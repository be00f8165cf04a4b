// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes one kernel, and what a mask costs.

use kiln::backend::{HostMemory, UpdatePlace};
use kiln::kernel::{Kernel, LossGradient, Sink};
use kiln::nn::Bias;
use kiln::op::{Op, Store, Unary};
use kiln::optim::Adam;
use kiln::passes::{Goal, Seed};
use kiln::plan::{Plan, Step};
use kiln::Mode;

use super::networks::{all_facts, cases, goals, simple_net, step};
use crate::common::reference::{facts, one_lane};

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.kernel.name()).collect()
}

fn ops(plan: &Plan, step: &Step) -> Vec<&'static str> {
    step.nodes.iter().map(|&node| plan.graph.node(node).op.name()).collect()
}

fn adam() -> Goal {
    step(Store::Overwrite, Some(Adam::new(1e-3).into()), None)
}

#[test]
fn linear_bias_relu_and_dropout_are_one_step() {
    let plan = simple_net().forward_plan(Mode::Train, &one_lane());
    assert_eq!(names(&plan), ["linear", "linear", "linear"]);
    let tails: Vec<_> = plan
        .steps
        .iter()
        .map(|step| match step.kernel {
            Kernel::Linear { tail } => (tail.bias, tail.activation, tail.dropout.is_some()),
            _ => panic!("{:?}", step.kernel),
        })
        .collect();
    let hidden = (Bias::Added, Some(Unary::Relu), true);
    assert_eq!(tails, [hidden, hidden, (Bias::Added, None, false)]);
    assert_eq!(plan.steps[0].outputs.len(), 1, "one tensor leaves the kernel, and no mask");
}

#[test]
fn eval_plans_are_the_same_kernels_without_dropout() {
    let plan = simple_net().forward_plan(Mode::Eval, &one_lane());
    assert_eq!(names(&plan), ["linear", "linear", "linear"]);
    assert!(plan.steps.iter().all(|step| !ops(&plan, step).contains(&"dropout")));
}

#[test]
fn softmax_cross_entropy_and_their_gradient_are_one_step() {
    let plan = simple_net().plan(Mode::Train, adam(), &one_lane());
    let losses: Vec<&Step> =
        plan.steps.iter().filter(|step| step.kernel.name() == "cross_entropy").collect();
    assert_eq!(losses.len(), 1);
    let Kernel::CrossEntropy { gradient, .. } = losses[0].kernel else { panic!("{losses:?}") };
    assert_eq!(gradient, LossGradient::Computed);
    assert_eq!(ops(&plan, losses[0]), ["log_softmax", "nll", "nll_grad", "log_softmax_grad"]);
    assert_eq!(losses[0].outputs.len(), 2, "the loss and the scores' gradient");

    let forward = simple_net().plan(Mode::Eval, Goal::Forward, &one_lane());
    assert_eq!(names(&forward), ["linear", "linear", "linear", "cross_entropy"]);
}

#[test]
fn a_training_step_is_nine_kernels() {
    let plan = simple_net().plan(Mode::Train, adam(), &one_lane());
    let count = |name| names(&plan).iter().filter(|&&n| n == name).count();
    assert_eq!(count("linear"), 3);
    assert_eq!(count("cross_entropy"), 1);
    assert_eq!(count("linear_weight_gradient"), 3);
    assert_eq!(count("linear_input_gradient"), 2);
    assert_eq!(plan.steps.len(), 9, "{:?}", names(&plan));
    for step in &plan.steps {
        if let Kernel::WeightGradient { sink, .. } = step.kernel {
            assert!(matches!(sink, Sink::Update(_)), "the optimiser runs in the tail");
        }
    }
}

/// The zeros of the forward pass are the mask: nothing random happens after the loss.
#[test]
fn backward_draws_nothing_where_relu_comes_before_dropout() {
    for goal in [adam(), Goal::Gradients(Seed::One)] {
        let plan = simple_net().plan(Mode::Train, goal, &one_lane());
        let is_loss = |step: &Step| step.kernel.name() == "cross_entropy";
        let loss = plan.steps.iter().position(is_loss).expect("a loss");
        let backward = &plan.steps[loss + 1..];
        let draws = |step: &&Step| ops(&plan, step).contains(&"dropout");
        assert_eq!(backward.iter().filter(draws).count(), 0);
        let masked = backward.iter().filter(|step| ops(&plan, step).contains(&"mask_nonzero"));
        assert_eq!(masked.count(), 2, "one per hidden layer");
        let drawn = plan.graph.nodes().filter(|(_, node)| node.op.is_random()).count();
        assert_eq!((drawn, plan.totals().random_steps), (2, 2));
    }
}

/// Also where backward has to draw again (dropout after tanh, dropout called twice).
#[test]
fn masks_take_no_memory() {
    for case in cases() {
        for (name, goal) in goals() {
            for facts in all_facts() {
                let totals = case.plan(Mode::Train, goal.clone(), &facts).totals();
                assert_eq!(totals.mask_bytes, 0, "{} {name}", case.name);
            }
        }
    }
}

/// Dropout's backward costs no buffer: the arena of a network with it is no larger than without.
#[test]
fn dropout_takes_no_memory() {
    let case = simple_net();
    for facts in all_facts() {
        let train = case.plan(Mode::Train, adam(), &facts).totals();
        let eval = case.plan(Mode::Eval, adam(), &facts).totals();
        assert_eq!(train.arena_bytes, eval.arena_bytes, "{facts:?}");
        assert_eq!(train.unshared_bytes, eval.unshared_bytes, "{facts:?}");
        assert_eq!(train.bytes, eval.bytes, "no traffic either: {facts:?}");
        assert_eq!(train.steps, eval.steps, "{facts:?}");
    }
}

/// With clipping, every gradient is seen before any update, and all updates are one step.
#[test]
fn the_flat_optimiser_is_one_step() {
    let clipped = step(Store::Overwrite, Some(Adam::new(1e-3).into()), Some(1.0));
    let plan = simple_net().plan(Mode::Train, clipped, &one_lane());
    let flat: Vec<&Step> =
        plan.steps.iter().filter(|step| step.kernel.name() == "flat_update").collect();
    assert_eq!(flat.len(), 1);
    assert_eq!(flat[0].outputs.len(), 6, "all parameters");
    let norm = names(&plan).iter().position(|&name| name == "clip_norm").expect("a norm");
    let last = plan.steps.iter().rposition(|step| ops(&plan, step).contains(&"gradient"));
    assert!(last.expect("gradients") < norm && norm + 1 < plan.steps.len());
    assert_eq!(names(&plan).last(), Some(&"flat_update"));

    let flat_place = facts(1, HostMemory::Copied, UpdatePlace::Flat);
    let plan = simple_net().plan(Mode::Train, adam(), &flat_place);
    assert_eq!(names(&plan).iter().filter(|&&name| name == "flat_update").count(), 1);
}

/// Every node that needs computing is computed by one step, in every plan. Chains look behind
/// reshapes and broadcasts, each for itself.
#[test]
fn steps_cover_the_graph_once() {
    for case in cases() {
        for (name, goal) in goals() {
            for facts in all_facts() {
                let plan = case.plan(Mode::Train, goal.clone(), &facts);
                let mut count = vec![0; plan.graph.nodes().len()];
                for node in plan.steps.iter().flat_map(|step| &step.nodes) {
                    count[node.index()] += 1;
                }
                for (id, node) in plan.graph.nodes() {
                    let expected = match node.op {
                        Op::Input(_) | Op::Parameter(_) | Op::Constant(_) | Op::Scalar(_) => 0..1,
                        Op::Reshape(_) | Op::Broadcast(_) => 0..plan.steps.len() + 1,
                        _ => 1..2,
                    };
                    let found = count[id.index()];
                    assert!(expected.contains(&found), "{} {name}: {id:?} {found}", case.name);
                }
            }
        }
    }
}
