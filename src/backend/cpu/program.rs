// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plan made ready: what of its steps is the same in every run is looked up once.

use super::exchange::Readers;
use super::operands::Located;
use crate::backend::{Layout, Memory};
use crate::graph::ParamId;
use crate::kernel::{Kernel, Sink};
use crate::plan::{Place, Plan, Step};
use crate::{DType, Result};

/// A plan's steps, ready.
#[derive(Debug)]
pub(super) struct Program {
    steps: Vec<Ready>,
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
        Ok(Program { steps: steps.collect::<Result<_>>()? })
    }

    pub(super) fn step(&self, index: usize) -> &Ready {
        &self.steps[index]
    }
}

impl Ready {
    fn new(plan: &Plan, memory: &Memory, step: &Step, read: &Read) -> Result<Self> {
        let rounded = |&id: &_| matches!(plan.buffer(id).rounded, DType::Bf16 | DType::F16);
        let rounds = step.writes.iter().any(rounded);
        if has_no_loop(&step.kernel) || reads_foreign_layout(plan, memory, step) {
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
            readers: read.readers(plan, step),
            rounds,
        })
    }
}

/// Parameters and gradients that steps read in full, whichever thread wrote them: all do but forward
/// passes, which read the panels of a weight that the same thread wrote.
struct Read {
    parameters: Vec<bool>,
    gradients: Vec<bool>,
}

impl Read {
    fn of(plan: &Plan) -> Self {
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
    fn readers(&self, plan: &Plan, step: &Step) -> Readers {
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

/// Whether a kernel is interpreted: plain ones, and those that plans for the CPU do not contain.
fn has_no_loop(kernel: &Kernel) -> bool {
    matches!(
        kernel,
        Kernel::Plain
            | Kernel::WeightGradients(_)
            | Kernel::LinearCrossEntropy(_)
            | Kernel::ClipNorm { .. }
    )
}

/// Whether a step reads a parameter in a layout that its kernel does not know: all expect row-major
/// but for the weight and the bias of linear layers, and numbers of channels, which may have padding
/// behind. What such a layer is applied to may be a parameter too.
fn reads_foreign_layout(plan: &Plan, memory: &Memory, step: &Step) -> bool {
    let layout = |&buffer: &_| match plan.buffer(buffer).place {
        Place::Parameter(parameter) => memory.slots[parameter.index()].layout,
        _ => Layout::RowMajor,
    };
    let knows = |index, layout| match (layout, &step.kernel) {
        (Layout::RowMajor, _) => true,
        (_, Kernel::Linear { .. }) => index >= 1,
        (_, Kernel::InputGradient { .. }) => index == 1,
        (Layout::Padded(_), Kernel::Conv { .. }) => index == 2,
        (Layout::Padded(_), Kernel::Normalize(_)) => index >= 1,
        (Layout::Padded(_), Kernel::NormalizeGradient(_)) => index >= 2,
        (Layout::Padded(_), Kernel::StatisticsGradient(_)) => index >= 1,
        _ => false,
    };
    let mut reads = step.reads.iter().enumerate();
    reads.any(|(index, read)| read.as_ref().is_some_and(|read| !knows(index, layout(read))))
}
