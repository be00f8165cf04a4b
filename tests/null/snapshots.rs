// SPDX-License-Identifier: MIT OR Apache-2.0
//! Graphs and plans as text: a change to tracing, fusion, order or memory shows in the review.

use std::fmt::Write;

use kiln::backend::{Facts, HostMemory, UpdatePlace};
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::op::{GroupOptions, Groups, Store, TensorType, Training};
use kiln::optim::{Adam, Optimizer};
use kiln::passes::{Averages, Goal, StepGoal, UpdateGoal};
use kiln::plan::{Place, Plan, Step};
use kiln::{Device, LossScale, Mode, Net, Seed};

use super::networks::step;
use crate::common::reference::{compiled, facts, one_lane, record, Parameters};

const BATCH: usize = 256;

fn inputs() -> [TensorType; 2] {
    [TensorType::f32([BATCH, 784].into()), TensorType::i32([BATCH].into())]
}

/// The article's network with its loss.
fn traced() -> kiln::graph::Traced {
    let make = |p: &kiln::nn::Scope| SimpleNet::new(p, 784, 512, 10, 0.5);
    let mut net = Net::new(Device::cpu(), Seed(7), make).expect("a network");
    let specs = Parameters::of(&mut net, &inputs()[0]).specs;
    record(net.module(), Some(&CrossEntropy::default()), &specs, &inputs())
}

fn adam(max_norm: Option<f64>) -> Goal {
    step(Store::Overwrite, Some(Adam::new(1e-3).into()), max_norm)
}

#[test]
fn simple_net_traced() {
    insta::assert_snapshot!(traced().graph);
}

#[test]
fn simple_net_step_graph() {
    insta::assert_snapshot!(compiled(traced(), Mode::Train, adam(None), &one_lane()).graph);
}

#[test]
fn simple_net_eval_graph() {
    insta::assert_snapshot!(compiled(traced(), Mode::Eval, Goal::Forward, &one_lane()).graph);
}

#[test]
fn simple_net_step_plan() {
    insta::assert_snapshot!(text(&compiled(traced(), Mode::Train, adam(None), &one_lane())));
}

#[test]
fn simple_net_eval_plan() {
    insta::assert_snapshot!(text(&compiled(traced(), Mode::Eval, Goal::Forward, &one_lane())));
}

/// The body is frozen, and moving averages of all are kept.
#[test]
fn simple_net_frozen_step_plan() {
    let trained = Training::Trained(GroupOptions { rate_factor: 10.0, ..GroupOptions::default() });
    let table = [[Training::Frozen; 4].as_slice(), &[trained; 2]].concat();
    let (rule, max_norm) = (Optimizer::from(Adam::new(1e-3)).rule, None);
    let update = Some(UpdateGoal { rule, max_norm, averages: Averages::Parameters });
    let (store, groups) = (Store::Overwrite, Groups::new(table));
    let goal = Goal::Step(StepGoal { store, update, groups, scale: LossScale::Off });
    insta::assert_snapshot!(text(&compiled(traced(), Mode::Train, goal, &one_lane())));
}

#[test]
fn simple_net_clipped_step_plan_on_three_lanes() {
    let gpu: Facts = facts(3, HostMemory::Copied, UpdatePlace::Flat);
    insta::assert_snapshot!(text(&compiled(traced(), Mode::Train, adam(Some(1.0)), &gpu)));
}

/// A plan as text: a line per step, then the sums.
fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let lane = step.lane.index();
        let layer = &step.layer;
        let _ = writeln!(text, "{index} lane {lane} {} [{layer}]", step.kernel.name());
        let ops: Vec<&str> =
            step.nodes.iter().map(|&node| plan.graph.node(node).op.name()).collect();
        let _ = writeln!(text, "    computes {}", ops.join(" + "));
        let read = |(&node, buffer): (&_, &Option<_>)| match buffer {
            Some(buffer) => format!("{node:?} {}", place(plan, plan.buffer(*buffer).place)),
            None => format!("{node:?}"),
        };
        let reads: Vec<String> = step.inputs.iter().zip(&step.reads).map(read).collect();
        let write = |(&node, &buffer): (&_, &_)| {
            let (ty, at) = (&plan.graph.node(node).ty, place(plan, plan.buffer(buffer).place));
            format!("{node:?} {ty} {at}")
        };
        let writes: Vec<String> = step.outputs.iter().zip(&step.writes).map(write).collect();
        let _ = writeln!(text, "    reads  {}", reads.join(", "));
        let _ = writeln!(text, "    writes {}", writes.join(", "));
        let _ = writeln!(text, "    {} bytes, {} flops{}", step.bytes, step.flops, events(step));
    }
    let _ = writeln!(text, "{:#?}", plan.totals());
    text
}

fn events(step: &Step) -> String {
    let waits: Vec<usize> = step.waits.iter().map(|event| event.index()).collect();
    let waits = if waits.is_empty() { String::new() } else { format!(", waits for {waits:?}") };
    let records = step.records.map_or(String::new(), |e| format!(", records {}", e.index()));
    waits + &records
}

fn place(plan: &Plan, place: Place) -> String {
    let name = |parameter: kiln::graph::ParamId| &plan.graph.parameters()[parameter.index()].name;
    match place {
        Place::Arena(start) => format!("@{}", start.0),
        Place::Input(input) => format!("input {}", input.index()),
        Place::Uploaded(input, start) => format!("input {} @{}", input.index(), start.0),
        Place::Output(slot) => format!("output {slot}"),
        Place::Parameter(parameter) => name(parameter).clone(),
        Place::Gradient(parameter) => format!("gradient of {}", name(parameter)),
        Place::Average(parameter) => format!("average of {}", name(parameter)),
    }
}
