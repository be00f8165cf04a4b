// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slices that a step reads and writes, borrowed apart from one another.

use super::memory::Arenas;
use super::plain::parameter_span;
use crate::backend::{Arena, Memory, Run, Span};
use crate::graph::{ParamId, ParamRole};
use crate::plan::{BufferId, Bytes, Place, Plan, Step};
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

    /// The integers.
    pub(super) fn integers(self) -> Result<&'a [i32]> {
        match self {
            Read::I32(integers) => Ok(integers),
            Read::F32(_) => Err(internal("a kernel expects integers")),
        }
    }
}

/// Where an operand lies, before anything is borrowed.
#[derive(Clone, Copy, PartialEq)]
enum Location {
    Input(usize),
    Output(usize),
    Piece(usize),
    Number(usize),
}

/// Borrows everything that a step touches. `numbers` holds one number per input of the step, used
/// where the input is a constant or one of the run's scalars.
///
/// # Errors
/// [`Error::Internal`] if the plan lets a step read what it writes.
pub(super) fn operands<'a>(
    arenas: &'a mut Arenas,
    run: &'a mut Run<'_>,
    step: &Step,
    numbers: &'a [f32],
    moments: usize,
) -> Result<Operands<'a>> {
    let (plan, memory) = (run.plan, run.memory);
    let mut spans: Vec<Span> = Vec::new();
    let mut locate = |place: Located| match place {
        Located::Input(input) => Location::Input(input),
        Located::Output(slot) => Location::Output(slot),
        Located::Span(span) => {
            // Empty spans share nothing, wherever they begin.
            let is_same = |other: &Span| *other == span && span.length.0 > 0;
            let known = spans.iter().position(is_same);
            Location::Piece(known.unwrap_or_else(|| {
                spans.push(span);
                spans.len() - 1
            }))
        }
    };
    let mut reads = Vec::with_capacity(step.reads.len());
    for (index, read) in step.reads.iter().enumerate() {
        reads.push(match read {
            Some(buffer) => locate(located(plan, memory, *buffer)?),
            None => Location::Number(index),
        });
    }
    let mut writes = Vec::with_capacity(step.writes.len());
    let mut moment_locations = Vec::with_capacity(step.writes.len());
    for &write in &step.writes {
        writes.push(locate(located(plan, memory, write)?));
        let mut own = Vec::new();
        let trained = match plan.buffer(write).place {
            Place::Parameter(id) if memory.slots[id.index()].role == ParamRole::Trained => Some(id),
            _ => None,
        };
        if let Some(parameter) = trained {
            for &arena in memory.moments.iter().take(moments) {
                own.push(locate(Located::Span(parameter_at(plan, memory, arena, parameter))));
            }
        }
        moment_locations.push(own);
    }
    let mut borrowed = Borrowed {
        pieces: arenas.split(&spans).into_iter().map(Some).collect(),
        outputs: run.outputs.iter_mut().map(|output| Some(output.as_mut_slice())).collect(),
    };
    let writes = writes.into_iter().map(|at| borrowed.take(at)).collect::<Result<Vec<_>>>()?;
    let moments = moment_locations
        .into_iter()
        .map(|list| list.into_iter().map(|at| borrowed.take(at)).collect())
        .collect::<Result<Vec<_>>>()?;
    let shared = borrowed.share();
    let inputs = run.inputs;
    let read = |at| shared.read(at, inputs, numbers);
    let reads = reads.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(Operands { reads, writes, moments })
}

enum Located {
    Input(usize),
    Output(usize),
    Span(Span),
}

fn located(plan: &Plan, memory: &Memory, id: BufferId) -> Result<Located> {
    let buffer = plan.buffer(id);
    Ok(match buffer.place {
        Place::Input(input) => Located::Input(input.index()),
        Place::Output(slot) => Located::Output(slot),
        Place::Arena(start) | Place::Uploaded(_, start) => {
            let length = Bytes(buffer.ty.shape.elements() * buffer.ty.dtype.bytes());
            Located::Span(Span { arena: memory.plan, start, length })
        }
        Place::Parameter(parameter) => {
            Located::Span(parameter_at(plan, memory, memory.home(parameter), parameter))
        }
        Place::Gradient(parameter) => {
            let arena = memory.gradients.ok_or_else(|| internal("no gradients were reserved"))?;
            Located::Span(parameter_at(plan, memory, arena, parameter))
        }
    })
}

fn parameter_at(plan: &Plan, memory: &Memory, arena: Arena, parameter: ParamId) -> Span {
    let spec = &plan.graph.parameters()[parameter.index()];
    parameter_span(memory, arena, parameter, spec)
}

struct Borrowed<'a> {
    pieces: Vec<Option<&'a mut [f32]>>,
    outputs: Vec<Option<&'a mut [f32]>>,
}

struct Shared<'a> {
    pieces: Vec<Option<&'a [f32]>>,
    outputs: Vec<Option<&'a [f32]>>,
}

impl<'a> Borrowed<'a> {
    fn take(&mut self, at: Location) -> Result<&'a mut [f32]> {
        let slice = match at {
            Location::Piece(index) => self.pieces[index].take(),
            Location::Output(slot) => self.outputs[slot].take(),
            Location::Input(_) | Location::Number(_) => None,
        };
        slice.ok_or_else(|| internal("a step writes a buffer twice"))
    }

    fn share(self) -> Shared<'a> {
        let share = |slices: Vec<Option<&'a mut [f32]>>| {
            slices.into_iter().map(|slice| slice.map(|slice| &*slice)).collect()
        };
        Shared { pieces: share(self.pieces), outputs: share(self.outputs) }
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
            Location::Piece(index) => self.pieces[index],
            Location::Output(slot) => self.outputs[slot],
        };
        slice.map(Read::F32).ok_or_else(|| internal("a step reads what it writes"))
    }
}

fn internal(message: &str) -> Error {
    Error::Internal { pass: "cpu", message: message.into() }
}
