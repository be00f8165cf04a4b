// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chosen steps of a plan as work to repeat.

use std::num::NonZeroUsize;

use kiln::plan::Plan;

use super::case::Pick;
use super::isolated::Isolated;
use super::subject::Subject;
use crate::peers::workload::{Amount, Workload};
use crate::Result;

/// A plan whose steps can be launched one by one.
pub(super) struct Planned {
    pub(super) subject: Subject,
    plan: Plan,
    isolated: Isolated,
}

/// Some of its steps, launched one after the other.
pub(super) struct Chosen<'a> {
    isolated: &'a mut Isolated,
    steps: Vec<usize>,
    amount: Amount,
    /// Bytes of a step, on average.
    pub(super) moved: usize,
}

impl Planned {
    pub(super) fn new(subject: Subject, threads: NonZeroUsize) -> Result<Self> {
        let (plan, inputs) = subject.plan()?;
        Ok(Planned { subject, isolated: Isolated::new(plan.clone(), inputs, threads)?, plan })
    }

    pub(super) fn choose(&mut self, picks: &[Pick]) -> Result<Chosen<'_>> {
        let Planned { plan, isolated, .. } = self;
        let is_chosen =
            |index: &usize| picks.iter().any(|pick| pick.takes(plan, &plan.steps[*index]));
        let steps: Vec<usize> = (0..plan.steps.len()).filter(is_chosen).collect();
        if steps.is_empty() {
            return Err(format!("{picks:?}: expected steps of the plan, found none").into());
        }
        let flops: usize = steps.iter().map(|&index| plan.steps[index].flops).sum();
        let bytes: usize = steps.iter().map(|&index| plan.steps[index].bytes).sum();
        let amount = match flops {
            0 => Amount::Bytes(bytes),
            flops => Amount::Flops(flops),
        };
        let moved = bytes / steps.len();
        Ok(Chosen { isolated, steps, amount, moved })
    }
}

impl Workload for Chosen<'_> {
    fn step(&mut self) -> kiln::Result<()> {
        self.steps.iter().try_for_each(|&index| self.isolated.launch(index))
    }

    fn amount(&mut self) -> kiln::Result<Amount> {
        Ok(self.amount)
    }
}
