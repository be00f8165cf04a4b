// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which operations on elements become one step.

use std::sync::Arc;

use kiln::backend::Facts;
use kiln::graph::{trace, MemoryFormat, Var};
use kiln::kernel::chain::{MOST_KEPT, MOST_LINKS, MOST_OPERANDS, MOST_RESULTS};
use kiln::kernel::{Chain, Kernel};
use kiln::op::TensorType;
use kiln::passes::{Goal, Seed};
use kiln::plan::Plan;
use kiln::Mode;

use crate::common::reference::{compiled, one_lane};

/// The plan of a function of values of these shapes.
fn plan(shapes: &[&[usize]], function: impl FnMut(&[Var]) -> Vec<Var>) -> Plan {
    plan_for(shapes, Goal::Forward, &one_lane(), function)
}

fn plan_for(
    shapes: &[&[usize]],
    goal: Goal,
    facts: &Facts,
    mut function: impl FnMut(&[Var]) -> Vec<Var>,
) -> Plan {
    let types: Vec<TensorType> =
        shapes.iter().map(|&shape| TensorType::f32(shape.into())).collect();
    let traced = trace(Arc::new(vec![]), &types, |inputs: &[Var]| function(inputs));
    compiled(traced.expect("a function that traces"), Mode::Eval, goal, facts)
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.kernel.name()).collect()
}

fn chains(plan: &Plan) -> Vec<&Chain> {
    let chain = |step: &'_ kiln::plan::Step| matches!(step.kernel, Kernel::Chain(_));
    let chains = plan.steps.iter().filter(|step| chain(step));
    chains
        .map(|step| match &step.kernel {
            Kernel::Chain(chain) => chain,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_run_of_operations_is_one_pass_over_memory() {
    let plan = plan(&[&[4, 5], &[5], &[4, 1]], |v| {
        let scaled = &v[0] * &v[1] + 1.5;
        vec![(scaled.tanh() - &v[2]).gt(0.0).where_(&v[0], scaled.exp())]
    });
    assert_eq!(names(&plan), ["chain"]);
    let step = &plan.steps[0];
    // Three tensors and a number in, one tensor out; the other number is part of its function.
    assert_eq!(step.bytes, 4 * (20 + 5 + 4 + 1 + 20));
    assert_eq!(chains(&plan)[0].operands.len(), 4);
}

#[test]
fn values_that_others_need_are_stored_on_the_way() {
    let plan = plan(&[&[4, 5]], |v| {
        let wave = v[0].sin();
        let both = &wave * &wave.exp();
        vec![wave.softmax(), both.square(), both]
    });
    assert_eq!(names(&plan), ["chain", "softmax"]);
    assert_eq!(plan.steps[0].outputs.len(), 3);
}

#[test]
fn branches_that_meet_again_are_one_chain() {
    let plan = plan(&[&[30]], |v| {
        let (a, b) = (v[0].sin(), v[0].cos());
        vec![&a.exp() + &(&a * &b.exp())]
    });
    assert_eq!(names(&plan), ["chain"]);
    assert!(chains(&plan)[0].links.iter().any(|link| link.keep.is_some()));
}

/// A chain does not wait for a step that waits for it.
#[test]
fn a_detour_parts_a_chain() {
    let plan = plan(&[&[6, 6]], |v| {
        let wave = v[0].sin();
        vec![&wave + &wave.softmax()]
    });
    assert_eq!(names(&plan), ["chain", "softmax", "chain"]);
}

/// Each joins what was recorded before it, though the two would wait for each other.
#[test]
fn two_chains_never_wait_for_each_other() {
    let plan = plan(&[&[6, 6], &[3, 3]], |v| {
        let (a, b) = (v[0].sin(), v[1].sin());
        let from_a = a.sum_over([0, 1], kiln::nn::Keep::Extents);
        let from_b = b.sum_over([0, 1], kiln::nn::Keep::Extents);
        vec![&b * &from_a, &a * &from_b]
    });
    let count = names(&plan).iter().filter(|&&name| name == "chain").count();
    assert!(count >= 3, "{:?}", names(&plan));
}

#[test]
fn what_is_too_long_is_cut() {
    let plan = plan(&[&[100]], |v| vec![(0..60).fold(v[0].clone(), |x, _| x.tanh())]);
    let lengths: Vec<usize> = chains(&plan).iter().map(|chain| chain.links.len()).collect();
    assert_eq!(lengths, [MOST_LINKS, MOST_LINKS, 12]);

    let shapes = [[50].as_slice(); 20];
    let plan =
        self::plan(&shapes, |v| vec![v[1..].iter().fold(v[0].clone(), |sum, next| &sum + next)]);
    assert!(chains(&plan).iter().all(|chain| chain.operands.len() <= MOST_OPERANDS));
    assert_eq!(chains(&plan).len(), 3);
}

/// Many values at a time, taken in the order in which they were made.
#[test]
fn few_values_are_kept_at_a_time() {
    let plan = plan(&[&[50]], |v| {
        let waves: Vec<Var> = (0..9).map(|k| (&v[0] * f64::from(k)).sin()).collect();
        let pairs = waves.iter().zip(waves.iter().rev());
        vec![pairs.map(|(a, b)| a * b).reduce(|sum, next| &sum + &next).expect("some")]
    });
    for chain in chains(&plan) {
        assert!(chain.links.iter().all(|link| link.keep.is_none_or(|place| place < MOST_KEPT)));
        let results = chain.links.iter().filter(|link| link.store.is_some()).count();
        assert!(results <= MOST_RESULTS);
    }
}

#[test]
fn broadcast_tensors_are_copied_only_for_what_needs_them_so() {
    let plan = plan(&[&[5], &[5, 3]], |v| {
        let wide = v[0].expand([4, 5]);
        vec![wide.matmul(&v[1]), &wide + 1.0, wide.exp()]
    });
    let copies = chains(&plan).iter().filter(|chain| chain.links.len() == 1).count();
    assert_eq!(names(&plan).iter().filter(|&&name| name == "matmul").count(), 1);
    assert_eq!(copies, 3, "the copy, and two functions of what it comes from");

    let plan = self::plan(&[&[5]], |v| vec![v[0].expand([4, 5]).unsqueeze(0).expand([2, 4, 5])]);
    assert_eq!(plan.steps.len(), 2, "a broadcast of a broadcast");
}

#[test]
fn reshapes_are_stepped_over() {
    let plan = plan(&[&[6, 4], &[4], &[2, 1, 4]], |v| {
        let matrix = (&v[0] * &v[1]).reshape([2, 3, 4]);
        vec![(&matrix + &v[2]).flatten(0).tanh()]
    });
    assert_eq!(names(&plan), ["chain"]);
}

/// What a broadcast repeats is read where it lies, in whatever order the image does.
#[test]
fn images_read_broadcasts_as_they_lie() {
    let facts = Facts { image_format: MemoryFormat::ChannelsLast, ..one_lane() };
    let shapes: [&[usize]; 3] = [&[2, 3, 4, 5], &[3, 1, 1], &[4, 5]];
    let scaled = |v: &[Var]| vec![v[0].relu() * &v[1] + &v[2]];
    assert_eq!(names(&plan_for(&shapes, Goal::Forward, &facts, scaled)), ["chain"]);
}

/// Forward and backward of what has no product between them.
#[test]
fn a_loss_and_its_gradient_are_few_steps() {
    let gradients = Goal::Gradients(Seed::One);
    let plan = plan_for(&[&[8, 5], &[8, 5]], gradients, &one_lane(), |v| {
        vec![(&v[0] - &v[1]).square().mean()]
    });
    let (large, numbers): (Vec<&Chain>, Vec<&Chain>) =
        chains(&plan).into_iter().partition(|chain| chain.elements > 1);
    assert_eq!(large.len(), 1, "{:?}", names(&plan));
    assert_eq!(large[0].links.iter().filter(|link| link.store.is_some()).count(), 2);
    assert_eq!(numbers.len(), 2, "the mean of the sum, and the share of each element in it");
}
