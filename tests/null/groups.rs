// SPDX-License-Identifier: MIT OR Apache-2.0
//! What plans compute for parameters in groups, frozen ones and averaged ones, and what they do not.

use kiln::backend::{Facts, Fusion, HostMemory, UpdatePlace};
use kiln::graph::ParamId;
use kiln::op::{GroupOptions, Groups, Op, Store, Training};
use kiln::optim::{Adam, Optimizer};
use kiln::passes::{Averages, Goal, StepGoal, UpdateGoal};
use kiln::plan::Plan;
use kiln::{LossScale, Mode};

use super::networks::{all_facts, cases, simple_net, step};
use crate::common::hazards::faults;
use crate::common::reference::{facts, one_lane};

fn adam() -> Optimizer {
    Adam::new(1e-3).into()
}

fn goal(groups: Groups, max_norm: Option<f64>, averages: Averages) -> Goal {
    let update = Some(UpdateGoal { rule: adam().rule, max_norm, averages });
    Goal::Step(StepGoal { store: Store::Overwrite, update, groups, scale: LossScale::Off })
}

/// SimpleNet's parameters: weight and bias of `fc1`, `fc2` and `fc3`.
fn groups(training: impl Fn(usize) -> Training) -> Groups {
    Groups::new((0..6).map(training).collect())
}

fn frozen(frozen: &[usize]) -> Groups {
    let plain = Training::Trained(GroupOptions::default());
    groups(|index| if frozen.contains(&index) { Training::Frozen } else { plain })
}

fn plan(groups: Groups, max_norm: Option<f64>, averages: Averages, facts: &Facts) -> Plan {
    simple_net().plan(Mode::Train, goal(groups, max_norm, averages), facts)
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.kernel.name()).collect()
}

fn count(plan: &Plan, name: &str) -> usize {
    names(plan).iter().filter(|own| **own == name).count()
}

/// Parameters with a gradient, and those with an update.
fn trained(plan: &Plan) -> [Vec<usize>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for (_, node) in plan.graph.nodes() {
        match node.op {
            Op::Gradient(parameter, _) => found[0].push(parameter.index()),
            Op::Update(parameter, _) => found[1].push(parameter.index()),
            _ => {}
        }
    }
    found
}

#[test]
fn nothing_is_computed_below_the_first_layer_that_is_trained() {
    for facts in all_facts() {
        let head = plan(frozen(&[0, 1, 2, 3]), None, Averages::None, &facts);
        assert_eq!(trained(&head), [vec![4, 5], vec![4, 5]]);
        assert_eq!(count(&head, "linear_input_gradient"), 0, "{:?}", names(&head));
        assert_eq!(count(&head, "mask_nonzero"), 0, "{:?}", names(&head));
        let all = plan(Groups::default(), None, Averages::None, &facts).totals();
        // The products of the head's forward and backward, and the forward ones of the body.
        let rows = 256;
        let forward = 2 * rows * (784 * 64 + 64 * 64 + 64 * 10);
        assert_eq!(head.totals().flops, forward + 2 * rows * 64 * 10, "{all:?}");
    }
}

#[test]
fn gradients_pass_through_what_is_frozen_above() {
    let body = plan(frozen(&[2, 3, 4, 5]), None, Averages::None, &one_lane());
    assert_eq!(trained(&body), [vec![0, 1], vec![0, 1]]);
    let kinds = ["linear", "cross_entropy", "linear_input_gradient", "linear_weight_gradient"];
    assert_eq!(kinds.map(|kind| count(&body, kind)), [3, 1, 2, 1], "{:?}", names(&body));
    assert_eq!(body.steps.len(), 7);
}

/// Only biases, as BitFit trains them: no product of any weight's gradient.
#[test]
fn a_frozen_weight_leaves_its_bias_alone() {
    let biases = plan(frozen(&[0, 2, 4]), None, Averages::None, &one_lane());
    assert_eq!(trained(&biases), [vec![1, 3, 5], vec![1, 3, 5]]);
    assert_eq!(count(&biases, "linear_weight_gradient"), 0, "{:?}", names(&biases));
    assert_eq!((count(&biases, "column_sum"), count(&biases, "flat_update")), (3, 1));
}

#[test]
fn nothing_is_left_of_backward_where_all_is_frozen() {
    for facts in all_facts() {
        let none = plan(frozen(&[0, 1, 2, 3, 4, 5]), Some(1.0), Averages::None, &facts);
        let forward = simple_net().plan(Mode::Train, Goal::Forward, &facts);
        assert!(trained(&none).iter().all(Vec::is_empty));
        assert_eq!(names(&none), names(&forward));
    }
}

/// Groups differ in numbers, and numbers cost no step.
#[test]
fn groups_and_averages_take_no_steps_of_their_own() {
    let own = |index: usize| {
        let weight_decay = (index % 2 == 1).then_some(0.25);
        let rate_factor = if index >= 4 { 10.0 } else { 1.0 };
        Training::Trained(GroupOptions { rate_factor, weight_decay, skipped: 3 })
    };
    for facts in all_facts() {
        for max_norm in [None, Some(1.0)] {
            let plain = simple_net().plan(
                Mode::Train,
                step(Store::Overwrite, Some(adam()), max_norm),
                &facts,
            );
            let grouped = plan(groups(own), max_norm, Averages::None, &facts);
            assert_eq!(names(&plain), names(&grouped));
            assert_eq!(plain.totals(), grouped.totals());
            let averaged = plan(groups(own), max_norm, Averages::ParametersAndState, &facts);
            assert_eq!(names(&plain), names(&averaged));
            // Each average is read and written.
            let numbers: usize =
                plain.graph.parameters().iter().map(|spec| spec.shape.elements()).sum();
            assert_eq!(averaged.totals().bytes, plain.totals().bytes + 2 * 4 * numbers);
            assert_eq!(averaged.totals().arena_bytes, plain.totals().arena_bytes);
        }
    }
}

/// A parameter has the options that were said, and no other has.
#[test]
fn updates_carry_their_group() {
    let own = GroupOptions { rate_factor: 2.0, weight_decay: Some(0.5), skipped: 7 };
    let of = |index| match index {
        2 => Training::Trained(own),
        _ => Training::Trained(GroupOptions::default()),
    };
    let plan = plan(groups(of), None, Averages::None, &one_lane());
    for (_, node) in plan.graph.nodes() {
        let Op::Update(parameter, update) = node.op else { continue };
        let expected = match parameter == ParamId::at(2) {
            true => (2.0, 7, 0.5),
            false => (1.0, 0, 0.0),
        };
        let got = (update.rate_factor, update.skipped, update.rule.weight_decay());
        assert_eq!(got, expected, "{parameter:?}");
    }
}

/// What is frozen is averaged as well, in one step for all.
#[test]
fn averages_of_frozen_parameters_are_one_step() {
    for facts in all_facts() {
        let plan = plan(frozen(&[0, 1, 2, 3]), Some(1.0), Averages::Parameters, &facts);
        assert_eq!(count(&plan, "average"), 1, "{:?}", names(&plan));
        let averaged: Vec<usize> = plan
            .graph
            .nodes()
            .filter_map(|(_, node)| match node.op {
                Op::Average(parameter) => Some(parameter.index()),
                _ => None,
            })
            .collect();
        assert_eq!(averaged, [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn no_step_races_where_parameters_are_frozen_and_averaged() {
    let gpu =
        Facts { fusion: Fusion::AcrossLayers, ..facts(3, HostMemory::Copied, UpdatePlace::Flat) };
    for case in cases() {
        for facts in [one_lane(), gpu.clone()] {
            for max_norm in [None, Some(1.0)] {
                let training = |index: usize| match index % 3 {
                    1 => Training::Frozen,
                    _ => Training::Trained(GroupOptions::default()),
                };
                let table = Groups::new((0..20).map(training).collect());
                let goal = goal(table, max_norm, Averages::ParametersAndState);
                let plan = case.plan(Mode::Train, goal, &facts);
                assert_eq!(faults(&plan), Vec::<String>::new(), "{}", case.name);
            }
        }
    }
}
