// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory plans: nothing that is needed is overwritten, and bytes are shared.

use kiln::backend::Fusion;
use kiln::plan::{Bytes, Place, Plan};
use kiln::Mode;

use super::networks::{all_facts, cases, goals, simple_net};
use crate::common::hazards::{faults, unwritten};
use crate::common::reference::one_lane;

/// Every plan of every network for every kind of backend, judged by what steps declare.
#[test]
fn live_buffers_never_overlap() {
    let mut plans = 0;
    for case in cases() {
        for (name, goal) in goals() {
            for facts in all_facts() {
                let classes = case.plan(Mode::Train, goal.clone(), &facts);
                let numbers = case.regression_plan(goal.clone(), &facts);
                let eval = case.plan(Mode::Eval, goal.clone(), &facts);
                for plan in [classes, numbers, eval] {
                    let what = format!("{} {name} {facts:?}", case.name);
                    assert_eq!(faults(&plan), Vec::<String>::new(), "{what}");
                    assert_eq!(unwritten(&plan), [], "{what}");
                    plans += 1;
                }
            }
        }
    }
    assert!(plans >= 200, "{plans}");
}

#[test]
fn buffers_are_aligned_and_share_bytes() {
    for facts in all_facts() {
        let plan = simple_net().plan(Mode::Train, goals()[2].1.clone(), &facts);
        let totals = plan.totals();
        for buffer in &plan.buffers {
            if let Place::Arena(Bytes(start)) = buffer.place {
                assert_eq!(start % facts.alignment, 0, "{buffer:?}");
            }
        }
        match (facts.fusion, facts.lanes) {
            (Fusion::WithinLayers, 1) => assert!(totals.arena_bytes < totals.unshared_bytes),
            // Other lanes may still be reading; and weight gradients that are computed last and
            // together read everything.
            _ => assert!(totals.arena_bytes <= totals.unshared_bytes),
        }
    }
}

/// The judge notices each kind of mistake when it is planted.
#[test]
fn the_judge_of_memory_plans_can_fail() {
    let plan = simple_net().plan(Mode::Train, goals()[2].1.clone(), &one_lane());
    assert!(faults(&plan).is_empty());

    let mut crowded = plan.clone();
    for buffer in &mut crowded.buffers {
        if let Place::Arena(start) = &mut buffer.place {
            *start = Bytes(0);
        }
    }
    let fits = |plan: &Plan| plan.buffers.iter().filter(|b| arena(b.place)).count() > 1;
    assert!(fits(&crowded));
    assert!(faults(&crowded).iter().any(|fault| fault.contains("gone")), "{:?}", faults(&crowded));

    let mut reversed = plan.clone();
    reversed.steps.reverse();
    assert!(!faults(&reversed).is_empty());
    assert!(!unwritten(&reversed).is_empty());
}

fn arena(place: Place) -> bool {
    matches!(place, Place::Arena(_))
}
