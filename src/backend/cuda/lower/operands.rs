// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a step's operands lie, in the type that its kernel takes.
//!
//! Kernels read and write one type of numbers. Mostly that is how values are stored; where it is
//! not, copies are made: of parameters when these change, of inputs once per run, else beside the step.

use super::scratch::cast;
use super::{address, internal, Lowering};
use crate::backend::cuda::abi::{KilnProgress, KilnScalars};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::single;
use crate::graph::ParamRole;
use crate::kernel::origin;
use crate::op::Op;
use crate::plan::{BufferId, Place};
use crate::scalars::Scalar;
use crate::{DType, Result};

impl Lowering<'_> {
    /// The type in which tensor cores take factors and element-wise kernels their operands.
    pub(super) fn product_type(&self) -> DType {
        self.precision.storage()
    }

    /// The type of an element-wise step: 16 bits if all that it reads and writes is.
    pub(super) fn element_type(&self) -> DType {
        let low = self.product_type();
        let reads = self.step.reads.iter().flatten().map(|&id| self.plan.buffer(id).ty.dtype);
        let writes = self.step.writes.iter().map(|&id| self.plan.buffer(id).rounded);
        match reads.chain(writes).all(|dtype| dtype == low) {
            true => low,
            false => DType::F32,
        }
    }

    /// The type in which an input is stored.
    pub(super) fn stored_type(&self, index: usize) -> DType {
        let buffer = self.step.reads.get(index).copied().flatten();
        buffer.map_or(DType::F32, |id| self.plan.buffer(id).ty.dtype)
    }

    /// Where an input of the step lies, as it is stored.
    pub(super) fn read(&mut self, index: usize) -> Result<Address> {
        let node = *self.step.inputs.get(index).ok_or_else(|| internal("an input is missing"))?;
        if let Some(buffer) = self.step.reads[index] {
            return self.address(buffer);
        }
        match self.plan.graph.node(origin(&self.plan.graph, node)).op {
            Op::Constant(value) => Ok(self.scratch.constant(single(value))),
            Op::Scalar(Scalar::Share) => {
                Ok(self.scratch.scalars().plus(std::mem::offset_of!(KilnScalars, share)))
            }
            Op::Scalar(Scalar::LossScale) => self.loss_scale(),
            _ => Err(internal("a step reads a value that has no buffer")),
        }
    }

    /// Where the device keeps what the loss is multiplied by.
    pub(super) fn loss_scale(&self) -> Result<Address> {
        match self.places.training {
            Address::NONE => Err(internal("nothing was reserved for a loss scale")),
            training => Ok(training.plus(std::mem::offset_of!(KilnProgress, loss_scale))),
        }
    }

    /// Where an input of the step lies in a type of floating-point numbers.
    pub(super) fn read_as(&mut self, index: usize, dtype: DType) -> Result<Address> {
        let (stored, count) = (self.stored_type(index), self.input_shape(index).elements());
        let at = self.read(index)?;
        if stored == dtype {
            return Ok(at);
        }
        let place = self.step.reads[index].map(|id| self.plan.buffer(id).place);
        match place {
            Some(Place::Parameter(id))
                if stored == DType::F32
                    && self.places.slots[id.index()].role == ParamRole::Trained =>
            {
                let (values, count) = (self.places.values, self.values_count());
                let all = self.scratch.cast_values(values, count, dtype);
                let start = self.places.slots[id.index()].start.0 / stored.bytes();
                Ok(all.plus(start * dtype.bytes()))
            }
            Some(Place::Uploaded(..)) if stored == DType::F32 => {
                Ok(self.scratch.cast(at, count, dtype))
            }
            _ => {
                let copy = self.scratch.take(dtype.bytes() * count);
                self.before.push(cast([copy, at], count, [stored, dtype]));
                Ok(copy)
            }
        }
    }

    /// Where a kernel that yields a type of floating-point numbers puts an output of the step.
    pub(super) fn write_as(&mut self, index: usize, dtype: DType) -> Result<Address> {
        let at = self.write(index)?;
        let buffer = self.plan.buffer(self.step.writes[index]);
        let (stored, rounded) = (buffer.ty.dtype, buffer.rounded);
        let count = buffer.ty.shape.elements();
        if dtype == stored && rounded == stored {
            return Ok(at);
        }
        let copy = self.scratch.take(dtype.bytes() * count);
        let mut from = (copy, dtype);
        // A value that a run returns is rounded like others and stored as `f32`.
        if rounded != dtype && rounded != stored {
            let between = self.scratch.take(rounded.bytes() * count);
            self.after.push(cast([between, copy], count, [dtype, rounded]));
            from = (between, rounded);
        }
        self.after.push(cast([at, from.0], count, [from.1, stored]));
        Ok(copy)
    }

    /// Where an output of the step lies, as it is stored.
    pub(super) fn write(&self, index: usize) -> Result<Address> {
        let buffer = self.step.writes.get(index).ok_or_else(|| internal("an output is missing"))?;
        self.address(*buffer)
    }

    fn address(&self, id: BufferId) -> Result<Address> {
        address(self.plan, self.places, id)
    }

    /// Elements of all parameters, with what lies between them.
    fn values_count(&self) -> usize {
        let parameters = self.plan.graph.parameters().iter().zip(self.places.slots);
        let parameters = parameters.filter(|(spec, _)| spec.role == ParamRole::Trained);
        let end = |(spec, slot): (&crate::graph::ParamSpec, &crate::backend::Slot)| {
            slot.start.0 / DType::F32.bytes() + spec.shape.elements()
        };
        parameters.map(end).max().unwrap_or(0)
    }
}
