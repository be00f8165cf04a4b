// SPDX-License-Identifier: MIT OR Apache-2.0
//! Schedules: lanes are used, and events order what touches the same memory.

use std::collections::BTreeSet;

use kiln::backend::{HostMemory, UpdatePlace};
use kiln::Mode;

use super::networks::{all_facts, cases, goals};
use crate::common::hazards::faults;
use crate::common::reference::facts;

#[test]
fn events_are_recorded_before_they_are_waited_for() {
    for case in cases() {
        for (name, goal) in goals() {
            for facts in all_facts() {
                let plan = case.plan(Mode::Train, goal.clone(), &facts);
                let what = format!("{} {name}, {} lanes", case.name, facts.lanes);
                let mut recorded = BTreeSet::new();
                for step in &plan.steps {
                    assert!(step.lane.index() < facts.lanes, "{what}");
                    assert!(step.waits.iter().all(|event| recorded.contains(event)), "{what}");
                    if let Some(event) = step.records {
                        assert!(recorded.insert(event), "{what}: {event:?} recorded twice");
                        assert!(event.index() < plan.events, "{what}");
                    }
                }
                let waited: BTreeSet<_> = plan.steps.iter().flat_map(|s| s.waits.clone()).collect();
                assert_eq!(waited, recorded, "{what}: events nobody waits for");
                assert!(facts.lanes > 1 || plan.events == 0, "{what}: one lane needs no events");
            }
        }
    }
}

/// Each wait is needed: without it, some two steps race. And lanes are not there for show.
#[test]
fn independent_steps_use_several_lanes_and_every_wait_is_needed() {
    let three = facts(3, HostMemory::Copied, UpdatePlace::Flat);
    let mut waits = 0;
    for case in cases().into_iter().filter(|case| case.name != "linear") {
        let plan = case.plan(Mode::Train, goals()[2].1.clone(), &three);
        let lanes: BTreeSet<usize> = plan.steps.iter().map(|step| step.lane.index()).collect();
        assert!(lanes.len() >= 2, "{} runs on {lanes:?}", case.name);
        for (step, index) in plan
            .steps
            .iter()
            .enumerate()
            .flat_map(|(step, s)| (0..s.waits.len()).map(move |index| (step, index)))
        {
            let mut racing = plan.clone();
            racing.steps[step].waits.remove(index);
            let found = faults(&racing);
            assert!(!found.is_empty(), "{}: wait {index} of step {step} is idle", case.name);
            waits += 1;
        }
    }
    assert!(waits >= 4, "{waits} waits");
}
