// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers over all steps.

use super::super::operands::{Operands, Read};
use super::super::simd::{RecurrentBackward, RecurrentForward, Sequences, Slopes, Weights};
use super::{internal, Launch};
use crate::backend::Layout;
use crate::graph::NodeId;
use crate::kernel::Kernel;
use crate::op::{Cell, Extents, Op, Operand, Recurrent, Slope, Upstream};
use crate::plan::Place;
use crate::Result;

/// Whether a recurrent kernel takes an operand in whatever layout a parameter has.
pub(in super::super) fn knows_layout(kernel: &Kernel, index: usize) -> bool {
    let operands = match kernel {
        Kernel::Recurrent(recurrent) => recurrent.operands(),
        Kernel::RecurrentGradient(recurrent, upstream) => recurrent.gradient_operands(*upstream),
        _ => return false,
    };
    matches!(operands.get(index), Some(Operand::Weight | Operand::Bias | Operand::Projection))
}

/// A step's operands by what they are.
struct Given<'a> {
    names: Vec<Operand>,
    reads: Vec<Read<'a>>,
    /// Which of them are parameters in panels.
    in_panels: Vec<bool>,
}

/// A step's results by their numbers.
struct Results<'a>(Vec<(usize, &'a mut [f32])>);

impl<'a> Launch<'a> {
    pub(super) fn recurrent(self, recurrent: &Recurrent) -> Result<()> {
        let extents = self.extents(recurrent, self.shape(self.step.inputs[0]).dims())?;
        let (engine, numbers) = (self.engine, self.result_numbers());
        let (given, mut results) = self.given(recurrent.operands(), numbers);
        let forward = RecurrentForward {
            sequences: sequences(recurrent, extents, given.lengths()),
            factors: recurrent.factors,
            projected: given.values(Operand::Projected)?,
            weight: given.weights(Operand::Weight)?,
            bias: given.optional(Operand::Bias)?,
            projection: given.projection()?,
            initial: [given.optional(Operand::Hidden)?, given.optional(Operand::Cell)?],
            output: results.needed(0)?,
            last: [
                results.take(1),
                if recurrent.cell == Cell::Lstm { results.take(2) } else { None },
            ],
            saved: match recurrent.cell.saved() {
                0 => None,
                _ => results.take(recurrent.place_of_saved()),
            },
        };
        forward.run(&engine.pool, engine.isa);
        Ok(())
    }

    pub(super) fn recurrent_gradient(
        self,
        recurrent: &Recurrent,
        upstream: Upstream,
    ) -> Result<()> {
        let extents = self.extents(recurrent, self.shape(self.step.outputs[0]).dims())?;
        let (engine, numbers) = (self.engine, self.result_numbers());
        let (given, mut results) = self.given(recurrent.gradient_operands(upstream), numbers);
        let slopes = recurrent.slopes();
        let mut slope = |of| {
            let place = slopes.iter().position(|&slope| slope == of)?;
            results.take(place)
        };
        let backward = RecurrentBackward {
            sequences: sequences(recurrent, extents, given.lengths()),
            factors: recurrent.factors,
            weight: given.weights(Operand::Weight)?,
            projection: given.projection()?,
            initial: [given.optional(Operand::Hidden)?, given.optional(Operand::Cell)?],
            output: given.values(Operand::Output)?,
            saved: given.optional(Operand::Saved)?.unwrap_or_default(),
            upstream: [
                given.optional(Operand::OutputGradient)?,
                given.optional(Operand::HiddenGradient)?,
                given.optional(Operand::CellGradient)?,
            ],
            slopes: Slopes {
                projected: slope(Slope::Projected)
                    .ok_or_else(|| internal("a recurrent gradient goes nowhere"))?,
                previous: slope(Slope::Previous),
                hidden: slope(Slope::Hidden),
                cell: slope(Slope::Cell),
                recurrent: slope(Slope::Recurrent),
                output: slope(Slope::Output),
                unprojected: slope(Slope::Unprojected),
            },
        };
        backward.run(&engine.pool, engine.isa);
        Ok(())
    }

    /// The extents of a pass whose products have these.
    fn extents(&self, recurrent: &Recurrent, products: &[usize]) -> Result<Extents> {
        let weight = match &self.step.kernel {
            Kernel::RecurrentGradient(..) => self.step.inputs[0],
            _ => self.step.inputs[1],
        };
        let extents = recurrent.extents(&products.into(), self.shape(weight));
        extents.ok_or_else(|| internal("a recurrent layer of other extents"))
    }

    /// The number of each result that the step writes.
    fn result_numbers(&self) -> Vec<usize> {
        let number = |&id: &NodeId| match self.plan.graph.node(id).op {
            Op::Result(number) => number,
            _ => 0,
        };
        self.step.outputs.iter().map(number).collect()
    }

    fn given(self, names: Vec<Operand>, numbers: Vec<usize>) -> (Given<'a>, Results<'a>) {
        let in_panels = |read: &Option<_>| match read.map(|id| self.plan.buffer(id).place) {
            Some(Place::Parameter(id)) => self.memory.slots[id.index()].layout == Layout::Panels,
            _ => false,
        };
        let in_panels = self.step.reads.iter().map(in_panels).collect();
        let Operands { reads, writes, .. } = self.operands;
        (Given { names, reads, in_panels }, Results(numbers.into_iter().zip(writes).collect()))
    }
}

impl<'a> Given<'a> {
    fn place(&self, operand: Operand) -> Option<usize> {
        self.names.iter().position(|&name| name == operand)
    }

    fn optional(&self, operand: Operand) -> Result<Option<&'a [f32]>> {
        self.place(operand).map(|place| self.reads[place].values()).transpose()
    }

    fn values(&self, operand: Operand) -> Result<&'a [f32]> {
        self.optional(operand)?.ok_or_else(|| internal("a recurrent layer lacks an operand"))
    }

    fn weights(&self, operand: Operand) -> Result<Weights<'a>> {
        let values = self.values(operand)?;
        Ok(match self.place(operand).is_some_and(|place| self.in_panels[place]) {
            true => Weights::Panels(values),
            false => Weights::Rows(values),
        })
    }

    fn projection(&self) -> Result<Option<Weights<'a>>> {
        match self.place(Operand::Projection) {
            Some(_) => self.weights(Operand::Projection).map(Some),
            None => Ok(None),
        }
    }

    fn lengths(&self) -> Option<&'a [i32]> {
        self.place(Operand::Lengths).map(|place| self.reads[place].indices())
    }
}

impl<'a> Results<'a> {
    fn take(&mut self, number: usize) -> Option<&'a mut [f32]> {
        let place = self.0.iter().position(|(of, _)| *of == number)?;
        Some(self.0.swap_remove(place).1)
    }

    fn needed(&mut self, number: usize) -> Result<&'a mut [f32]> {
        self.take(number).ok_or_else(|| internal("a recurrent layer goes nowhere"))
    }
}

fn sequences<'a>(
    recurrent: &Recurrent,
    extents: Extents,
    lengths: Option<&'a [i32]>,
) -> Sequences<'a> {
    let Extents { samples, steps, units, state, .. } = extents;
    let (cell, direction) = (recurrent.cell, recurrent.direction);
    Sequences { cell, direction, samples, steps, units, state, lengths }
}
