// SPDX-License-Identifier: MIT OR Apache-2.0
//! An eval plan holds nothing random; a train plan does.

use kiln::graph::Node;
use kiln::{Draws, Mode};

use super::networks::{all_facts, cases, goals};
use crate::common::reference::one_lane;

#[test]
fn eval_plans_draw_nothing() {
    for case in cases() {
        for (goal_name, goal) in goals() {
            for facts in all_facts() {
                let plan = case.plan(Mode::Eval, goal.clone(), &facts);
                let what = format!("{} {goal_name} {facts:?}", case.name);
                assert_eq!(plan.totals().random_steps, 0, "{what}");
                assert!(!plan.graph.nodes().any(|(_, node)| node.op.is_random()), "{what}");
            }
        }
    }
}

#[test]
fn train_and_monte_carlo_plans_draw_at_every_site() {
    let sites = |name| match name {
        "linear" | "residuals" => 0,
        _ => 2,
    };
    for case in cases() {
        for mode in [Mode::Train, Mode::MonteCarlo(Draws::ONE)] {
            let plan = case.forward_plan(mode, &one_lane());
            let random = |(_, node): &(_, &Node)| node.op.is_random();
            assert_eq!(
                plan.graph.nodes().filter(random).count(),
                sites(case.name),
                "{}",
                case.name
            );
        }
    }
}
