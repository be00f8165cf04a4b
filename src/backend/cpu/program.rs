// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plan made ready: what of its steps is the same in every run is looked up once.

use super::exchange::Readers;
use super::layouts::{foreign, Foreign};
use super::operands::Located;
use super::path::is_interpreted;
use crate::backend::{notice, Memory};
use crate::graph::ParamId;
use crate::kernel::{Kernel, Sink};
use crate::op::Op;
use crate::plan::{Place, Plan, Step};
use crate::{DType, Result};

/// A plan's steps, ready.
#[derive(Debug)]
pub(super) struct Program {
    steps: Vec<Ready>,
    /// Whether it ends in an update of parameters, which is counted.
    pub(super) updates: bool,
}

/// A step, ready.
#[derive(Debug)]
pub(super) enum Ready {
    /// It is computed by the plain meaning of its nodes.
    Interpreted {
        /// Whether what it wrote is to be rounded.
        rounds: bool,
    },
    /// It has a loop of its own.
    Loop {
        operands: Located,
        /// Parameters that are brought to another layout first.
        foreign: Vec<Foreign>,
        /// Which threads read what it writes first.
        readers: Readers,
        /// As for [`Ready::Interpreted`].
        rounds: bool,
    },
}

impl Program {
    pub(super) fn new(plan: &Plan, memory: &Memory) -> Result<Self> {
        let read = Read::of(plan);
        let steps = plan.steps.iter().map(|step| Ready::new(plan, memory, step, &read));
        let updates = plan.graph.nodes().any(|(_, node)| matches!(node.op, Op::Update(..)));
        Ok(Program { steps: steps.collect::<Result<_>>()?, updates })
    }

    pub(super) fn step(&self, index: usize) -> &Ready {
        &self.steps[index]
    }
}

impl Ready {
    fn new(plan: &Plan, memory: &Memory, step: &Step, read: &Read) -> Result<Self> {
        let rounded = |&id: &_| matches!(plan.buffer(id).rounded, DType::Bf16 | DType::F16);
        let rounds = step.writes.iter().any(rounded);
        if is_interpreted(&step.kernel) {
            notice::of_plain_step("cpu", plan, step);
            return Ok(Ready::Interpreted { rounds });
        }
        let rule = match &step.kernel {
            Kernel::WeightGradient { sink: Sink::Update(rule), .. } => Some(rule),
            Kernel::ConvWeightGradient { sink: Some(Sink::Update(rule)), .. } => Some(rule),
            Kernel::FlatUpdate { rule, .. } => Some(rule),
            _ => None,
        };
        let moments = rule.map_or(0, |rule| rule.moments());
        Ok(Ready::Loop {
            operands: Located::new(plan, memory, step, moments)?,
            foreign: foreign(plan, step),
            readers: read.readers(plan, step),
            rounds,
        })
    }
}

/// Parameters and gradients that steps read in full, whichever thread wrote them: all do but forward
/// passes, which read the panels of a weight that the same thread wrote.
pub(super) struct Read {
    parameters: Vec<bool>,
    gradients: Vec<bool>,
}

impl Read {
    pub(super) fn of(plan: &Plan) -> Self {
        let count = plan.graph.parameters().len();
        let mut read = Read { parameters: vec![false; count], gradients: vec![false; count] };
        for step in &plan.steps {
            if matches!(step.kernel, Kernel::Linear { .. }) {
                continue;
            }
            for &buffer in step.reads.iter().flatten() {
                if let Some(read) = read.at(plan.buffer(buffer).place) {
                    *read = true;
                }
            }
        }
        read
    }

    fn at(&mut self, place: Place) -> Option<&mut bool> {
        let index = ParamId::index;
        match place {
            Place::Parameter(id) => self.parameters.get_mut(index(id)),
            Place::Gradient(id) => self.gradients.get_mut(index(id)),
            _ => None,
        }
    }

    /// Which threads read what a step writes first. The updated parameter is another value than the
    /// one that is read, at the same place.
    pub(super) fn readers(&self, plan: &Plan, step: &Step) -> Readers {
        let read = match step.writes.first().map(|&id| plan.buffer(id).place) {
            Some(Place::Parameter(id)) => self.parameters[id.index()],
            Some(Place::Gradient(id)) => self.gradients[id.index()],
            _ => true,
        };
        match read {
            true => Readers::All,
            false => Readers::Writer,
        }
    }
}
