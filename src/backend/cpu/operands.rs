// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slices that a step reads and writes, borrowed apart from one another.

use super::memory::{Arenas, Slice, Use};
use super::plain::{averages, parameter_span};
use crate::backend::{Arena, Memory, Run, Span};
use crate::graph::{NodeId, ParamId, ParamRole};
use crate::op::Op;
use crate::plan::{BufferId, Bytes, Place, Plan, Step};
use crate::scalars::Scalars;
use crate::{Error, Result, Tensor};

/// A step's slices.
pub(super) struct Operands<'a> {
    /// What the step reads, in the kernel's order.
    pub(super) reads: Vec<Read<'a>>,
    /// What it writes, in the kernel's order.
    pub(super) writes: Vec<&'a mut [f32]>,
    /// The moments of the parameters that it writes, one list per entry of `writes`; empty for
    /// everything else.
    pub(super) moments: Vec<Vec<&'a mut [f32]>>,
}

/// A slice that a step reads.
#[derive(Clone, Copy)]
pub(super) enum Read<'a> {
    /// Floating-point numbers.
    F32(&'a [f32]),
    /// Integers.
    I32(&'a [i32]),
}

impl<'a> Read<'a> {
    /// The floating-point numbers.
    pub(super) fn values(self) -> Result<&'a [f32]> {
        match self {
            Read::F32(values) => Ok(values),
            Read::I32(_) => Err(internal("a kernel expects floating-point numbers")),
        }
    }

    /// The numbers or integers as the words of memory.
    pub(super) fn words(self) -> &'a [f32] {
        match self {
            Read::F32(words) => words,
            Read::I32(integers) => bytemuck::cast_slice(integers),
        }
    }

    /// The integers of a value that a graph says has some: memory holds them as words.
    pub(super) fn indices(self) -> &'a [i32] {
        match self {
            Read::I32(integers) => integers,
            Read::F32(words) => bytemuck::cast_slice(words),
        }
    }
}

/// Where a step's operands lie: the same in every run of its plan.
#[derive(Debug)]
pub(super) struct Located {
    /// Ranges of arenas, by arena and start.
    spans: Vec<(Span, Use)>,
    reads: Vec<Location>,
    writes: Vec<Location>,
    /// The moments of each write.
    moments: Vec<Vec<Location>>,
    /// The nodes of numbers that have no buffer: constants and the run's scalars.
    numbers: Vec<NodeId>,
}

/// Where an operand lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Location {
    Input(usize),
    Output(usize),
    /// Position among the spans.
    Span(usize),
    /// Position among the numbers.
    Number(usize),
    /// No elements: wherever it begins, it shares nothing.
    Empty,
}

/// A location whose span has no position yet.
enum Found {
    At(Location),
    In(Span),
}

impl Located {
    /// Looks everything up that a step touches, `moments` of each trained parameter that it writes.
    ///
    /// # Errors
    /// [`Error::Internal`] if the plan uses gradients that were not reserved.
    pub(super) fn new(plan: &Plan, memory: &Memory, step: &Step, moments: usize) -> Result<Self> {
        let mut numbers = Vec::new();
        let mut reads = Vec::with_capacity(step.reads.len());
        for (&node, read) in step.inputs.iter().zip(&step.reads) {
            reads.push(match read {
                Some(buffer) => found(plan, memory, *buffer)?,
                None => {
                    numbers.push(node);
                    Found::At(Location::Number(numbers.len() - 1))
                }
            });
        }
        let mut writes = Vec::with_capacity(step.writes.len());
        let mut moments_of = Vec::with_capacity(step.writes.len());
        for &write in &step.writes {
            writes.push(found(plan, memory, write)?);
            let arenas = match plan.buffer(write).place {
                Place::Parameter(id) if memory.slots[id.index()].role == ParamRole::Trained => {
                    memory.moments.iter().take(moments).map(|&arena| (arena, id)).collect()
                }
                _ => Vec::new(),
            };
            let own = |(arena, id)| Found::In(parameter_at(plan, memory, arena, id));
            moments_of.push(arenas.into_iter().map(own).collect::<Vec<_>>());
        }
        let written = writes.iter().chain(moments_of.iter().flatten());
        let spans = spans(&reads, written);
        let place = |found: &Found| match found {
            Found::At(location) => *location,
            Found::In(span) => {
                Location::Span(spans.partition_point(|(known, _)| key(known) < key(span)))
            }
        };
        Ok(Located {
            reads: reads.iter().map(place).collect(),
            writes: writes.iter().map(place).collect(),
            moments: moments_of.iter().map(|own| own.iter().map(place).collect()).collect(),
            numbers,
            spans,
        })
    }

    /// The values of numbers that have no buffer, in a run with these scalars and at this loss scale.
    pub(super) fn numbers(&self, plan: &Plan, scalars: &Scalars, loss_scale: f32) -> Vec<f32> {
        let number = |&node: &NodeId| match plan.graph.node(node).op {
            Op::Constant(value) => value as f32,
            Op::Scalar(scalar) => scalars.get(scalar, loss_scale) as f32,
            _ => 0.0,
        };
        self.numbers.iter().map(number).collect()
    }

    /// Borrows everything that the step touches.
    ///
    /// # Errors
    /// [`Error::Internal`] if the plan lets a step read what it writes; [`Error::Device`] if there is
    /// no memory for a copy of what others read.
    pub(super) fn borrow<'a>(
        &self,
        arenas: &'a mut Arenas,
        run: &'a mut Run<'_>,
        numbers: &'a [f32],
    ) -> Result<Operands<'a>> {
        let mut borrowed = Borrowed {
            spans: arenas.split(&self.spans)?.into_iter().map(Some).collect(),
            outputs: run.outputs.iter_mut().map(|output| Some(output.as_mut_slice())).collect(),
        };
        let mut writes = Vec::with_capacity(self.writes.len());
        let mut moments = Vec::with_capacity(self.writes.len());
        for (&write, own) in self.writes.iter().zip(&self.moments) {
            writes.push(borrowed.take(write)?);
            moments.push(own.iter().map(|&at| borrowed.take(at)).collect::<Result<_>>()?);
        }
        let shared = borrowed.share();
        let inputs = run.inputs;
        let read = |&at: &Location| shared.read(at, inputs, numbers);
        let reads = self.reads.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Operands { reads, writes, moments })
    }
}

/// What lies in arenas, each range once, in order.
fn spans<'f>(reads: &'f [Found], written: impl Iterator<Item = &'f Found>) -> Vec<(Span, Use)> {
    let used = written.map(|found| (found, Use::Write));
    let used = used.chain(reads.iter().map(|found| (found, Use::Read)));
    let mut spans: Vec<(Span, Use)> = used
        .filter_map(|(found, how)| match found {
            Found::In(span) => Some((*span, how)),
            Found::At(_) => None,
        })
        .collect();
    // The sort is stable: of two uses the write stays.
    spans.sort_by_key(|(span, _)| key(span));
    spans.dedup_by_key(|(span, _)| key(span));
    spans
}

fn key(span: &Span) -> (Arena, Bytes, Bytes) {
    (span.arena, span.start, span.length)
}

fn found(plan: &Plan, memory: &Memory, id: BufferId) -> Result<Found> {
    let buffer = plan.buffer(id);
    let found = match buffer.place {
        Place::Input(input) => Found::At(Location::Input(input.index())),
        Place::Output(slot) => Found::At(Location::Output(slot)),
        Place::Arena(start) | Place::Uploaded(_, start) => {
            let length = Bytes(buffer.ty.shape.elements() * buffer.ty.dtype.bytes());
            Found::In(Span { arena: memory.plan, start, length })
        }
        Place::Parameter(parameter) => {
            Found::In(parameter_at(plan, memory, memory.home(parameter), parameter))
        }
        Place::Gradient(parameter) => {
            let arena = memory.gradients.ok_or_else(|| internal("no gradients were reserved"))?;
            Found::In(parameter_at(plan, memory, arena, parameter))
        }
        Place::Average(parameter) => {
            Found::In(parameter_at(plan, memory, averages(memory, parameter)?, parameter))
        }
    };
    Ok(match found {
        Found::In(span) if span.length == Bytes(0) => Found::At(Location::Empty),
        found => found,
    })
}

fn parameter_at(plan: &Plan, memory: &Memory, arena: Arena, parameter: ParamId) -> Span {
    let spec = &plan.graph.parameters()[parameter.index()];
    parameter_span(memory, arena, parameter, spec)
}

struct Borrowed<'a> {
    spans: Vec<Option<Slice<'a>>>,
    outputs: Vec<Option<&'a mut [f32]>>,
}

struct Shared<'a> {
    spans: Vec<Option<&'a [f32]>>,
    outputs: Vec<Option<&'a [f32]>>,
}

impl<'a> Borrowed<'a> {
    fn take(&mut self, at: Location) -> Result<&'a mut [f32]> {
        let slice = match at {
            Location::Span(index) => match self.spans[index].take() {
                Some(Slice::Own(slice)) => Some(slice),
                _ => None,
            },
            Location::Output(slot) => self.outputs[slot].take(),
            Location::Empty => Some(Default::default()),
            Location::Input(_) | Location::Number(_) => None,
        };
        slice.ok_or_else(|| internal("a step writes a buffer twice"))
    }

    fn share(self) -> Shared<'a> {
        let share = |slice: Slice<'a>| match slice {
            Slice::Own(slice) => &*slice,
            Slice::Shared(slice) => slice,
        };
        Shared {
            spans: self.spans.into_iter().map(|slice| slice.map(share)).collect(),
            outputs: self.outputs.into_iter().map(|slice| slice.map(|slice| &*slice)).collect(),
        }
    }
}

impl<'a> Shared<'a> {
    fn read(&self, at: Location, inputs: &'a [Tensor], numbers: &'a [f32]) -> Result<Read<'a>> {
        let slice = match at {
            Location::Number(index) => Some(&numbers[index..=index]),
            Location::Input(input) => {
                return Ok(match inputs[input].integers() {
                    Ok(integers) => Read::I32(integers),
                    Err(_) => Read::F32(inputs[input].values()?),
                })
            }
            Location::Span(index) => self.spans[index],
            Location::Output(slot) => self.outputs[slot],
            Location::Empty => Some(Default::default()),
        };
        slice.map(Read::F32).ok_or_else(|| internal("a step reads what it writes"))
    }
}

fn internal(message: &str) -> Error {
    Error::Internal { pass: "cpu", message: message.into() }
}
