// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plan made ready for a device: its work, the memory that its kernels share, its events.

use cudarc::driver::sys::CUstream;

use super::abi::KilnScalars;
use super::calls::DriverError;
use super::capture::Graph;
use super::copies::Generation;
use super::driver::{CudaEvent, CudaFunction, CudaStream};
use super::geometry::{Machine, Steps};
use super::gpu::Gpu;
use super::kernels::Kernels;
use super::launch::{Copy, Fill, Item, Launch};
use super::lower::{Given, Kept, Lowering, Places, Scratch};
use super::memory::{Address, DeviceMemory};
use super::sizes::single;
use super::transfer::scalars_bytes;
use super::{sizes, walks};
use crate::backend::{notice, Arena, Run};
use crate::graph::ParamRole;
use crate::kernel::Kernel;
use crate::op::UpdateRule;
use crate::plan::{Place, Plan, Step};
use crate::scalars::Scalars;
use crate::{Error, Precision, Result};

/// A plan's work with its kernels.
#[derive(Debug)]
pub(super) struct Program {
    /// The plan's arena, whose address is part of the launches.
    pub(super) arena: Arena,
    /// The network's seed, which is part of the launches.
    pub(super) seed: u64,
    /// What runs before the first step.
    pub(super) prologue: Vec<Ready>,
    /// What makes the copies of parameters that its products read.
    pub(super) copies: Vec<Ready>,
    /// Of which values of the parameters there are copies.
    pub(super) copied: Option<Generation>,
    /// Whether a run gives parameters other values, and what that does to the copies.
    pub(super) updates: bool,
    pub(super) kept: Kept,
    /// What each step does.
    pub(super) steps: Vec<Work>,
    /// The plan's events.
    pub(super) events: Vec<CudaEvent>,
    /// How it is run.
    pub(super) replay: Replay,
    /// Partial sums, tickets and constants, which launches name by address.
    _scratch: DeviceMemory,
    rule: Option<UpdateRule>,
    given: Vec<Given>,
}

/// How far a program is on its way to being replayed.
#[derive(Debug)]
pub(super) enum Replay {
    /// Its kernels are loaded by its first run, so that nothing is loaded while it is captured.
    NotRun,
    /// It is issued step by step, and may be captured.
    Issued {
        /// How often a capture may still fail. Another thread of the process may have broken one.
        attempts: u32,
    },
    /// It was captured.
    Captured(Graph),
}

impl Replay {
    /// Captures that are tried of a program that fails to be captured.
    pub(super) const ATTEMPTS: u32 = 3;
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Work {
    /// The device does it.
    Device(Vec<Ready>),
    /// It has no kernel: the host computes it from what it reads.
    Host,
}

/// An item, a launch with its kernel.
#[derive(Debug)]
pub(super) enum Ready {
    Launch(Launch, CudaFunction),
    Copy(Copy),
    Fill(Fill),
}

impl Ready {
    /// What errors call it.
    pub(super) fn name(&self) -> String {
        match self {
            Ready::Launch(launch, _) => format!("kernel {}", launch.kernel),
            Ready::Copy(copy) => format!("a copy of {} bytes", copy.bytes),
            Ready::Fill(fill) => format!("a fill of {} bytes", fill.bytes()),
        }
    }

    /// Puts it on a stream of the context that is current.
    ///
    /// # Safety
    /// What is named by address is memory of the device that outlives the work, and a launch's
    /// parameters are those of its kernel.
    pub(super) unsafe fn issue(&self, stream: CUstream) -> std::result::Result<(), DriverError> {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            match self {
                Ready::Launch(launch, function) => launch.issue(function.cu_function(), stream),
                Ready::Copy(copy) => copy.issue(stream),
                Ready::Fill(fill) => fill.issue(stream),
            }
        }
    }
}

/// Optimisers load what begins there as one vector.
const _: () = assert!(std::mem::offset_of!(KilnScalars, learning_rate).is_multiple_of(16));

impl Program {
    /// Lowers a plan, loads its kernels and reserves what they share.
    pub(super) fn new(
        gpu: &Gpu,
        kernels: &mut Kernels,
        stream: &CudaStream,
        (plan, arena): (&Plan, Arena),
        places: &Places<'_>,
        (machine, precision): (&Machine, Precision),
    ) -> Result<Self> {
        // Once to count, once for good: the same plan takes the same memory.
        let mut counted = Scratch::at(Address::NONE, places.plan);
        let items = lower(plan, places, machine, precision, &mut counted)?;
        let all = items.iter().flatten().flatten();
        if !walks::have_room(gpu, all, |name, shared| kernels.get(gpu, name, shared))? {
            let apart = Machine { steps: Steps::Apart, ..*machine };
            let chosen = (&apart, precision);
            return Self::new(gpu, kernels, stream, (plan, arena), places, chosen);
        }
        let memory = DeviceMemory::zeroed(gpu, stream, counted.bytes())?;
        let mut scratch = Scratch::at(memory.address(), places.plan);
        let lowered = lower(plan, places, machine, precision, &mut scratch)?;
        for (address, value) in &scratch.constants {
            super::transfer::write_now(gpu, stream, *address, &value.to_ne_bytes())?;
        }
        for (address, words) in scratch.tables.iter().filter(|(_, words)| !words.is_empty()) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            super::transfer::write_now(gpu, stream, *address, &bytes)?;
        }
        let mut ready = |items: Vec<Item>| -> Result<Vec<Ready>> {
            let load = |item: Item| {
                Ok(match item {
                    Item::Launch(launch) => {
                        let function = kernels.get(gpu, &launch.kernel, launch.grid.shared)?;
                        Ready::Launch(launch, function)
                    }
                    Item::Copy(copy) => Ready::Copy(copy),
                    Item::Fill(fill) => Ready::Fill(fill),
                })
            };
            items.into_iter().filter(|item| !item.is_empty()).map(load).collect()
        };
        let prologue = ready(scratch.prologue.into_iter().map(Item::from).collect())?;
        let copies = ready(scratch.copies.into_iter().map(Item::from).collect())?;
        let mut steps = Vec::with_capacity(lowered.len());
        for (step, items) in plan.steps.iter().zip(lowered) {
            steps.push(match items {
                Some(items) => Work::Device(ready(items)?),
                None => {
                    notice::of_plain_step(gpu.name(), plan, step);
                    Work::Host
                }
            });
        }
        let event = |_| gpu.context().new_event(None);
        let events: std::result::Result<Vec<_>, _> = (0..plan.events).map(event).collect();
        Ok(Program {
            arena,
            seed: places.seed,
            prologue,
            copies,
            copied: None,
            updates: plan.steps.iter().any(|step| updates(plan, places, step)),
            kept: scratch.kept,
            steps,
            events: events.map_err(|error| gpu.error("making an event", error))?,
            replay: Replay::NotRun,
            _scratch: memory,
            given: scratch.given,
            rule: plan.steps.iter().find_map(|step| match step.kernel {
                Kernel::FlatUpdate { rule, .. } => Some(rule),
                _ => None,
            }),
        })
    }

    /// Whether the device does all steps.
    pub(super) fn is_on_device(&self) -> bool {
        self.steps.iter().all(|work| matches!(work, Work::Device(_)))
    }

    /// What the host gives with a run: its scalars, and behind them what its losses divide by and the rates
    /// that change.
    ///
    /// # Errors
    /// [`Error::Shape`] if the inputs are not those of the plan.
    pub(super) fn given(&self, run: &Run<'_>) -> Result<Vec<u8>> {
        let mut bytes = scalars_bytes(&self.scalars(run.scalars)).to_vec();
        for given in &self.given {
            given.write(run, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn scalars(&self, run: &Scalars) -> KilnScalars {
        let own = self.rule.as_ref().map_or(0.0, UpdateRule::momentum);
        let momentum = run.momentum.unwrap_or(own);
        KilnScalars {
            learning_rate: run.learning_rate,
            momentum: single(momentum),
            one_minus_momentum: single(1.0 - momentum),
            share: run.share,
            exact_momentum: momentum,
            pass: run.pass,
            sample_offset: run.sample_offset,
            average: run.average,
        }
    }
}

/// What the device does for every step; `None` for steps that the host computes.
pub(super) fn lower(
    plan: &Plan,
    places: &Places<'_>,
    machine: &Machine,
    precision: Precision,
    scratch: &mut Scratch,
) -> Result<Vec<Option<Vec<Item>>>> {
    countable(plan)?;
    let mut lowered = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let scratch = &mut *scratch;
        let (before, after) = (Vec::new(), Vec::new());
        if updates(plan, places, step) && !matches!(step.kernel, Kernel::FlatUpdate { .. }) {
            scratch.kept = Kept::Outdated;
        }
        let lowering = Lowering { plan, step, places, machine, precision, scratch, before, after };
        let items = sizes::checked(|| lowering.items());
        let items = items.map_err(|size| too_large(step, "sizes of at most 32 bits", size))??;
        if let Some((blocks, most)) = items.as_deref().and_then(sizes::too_many_blocks) {
            let expected = format!("at most {most} blocks along an axis of a grid");
            return Err(too_large(step, &expected, blocks));
        }
        lowered.push(items);
    }
    Ok(lowered)
}

/// Whether a step gives a trained parameter another value.
fn updates(plan: &Plan, places: &Places<'_>, step: &Step) -> bool {
    step.writes.iter().any(|&buffer| match plan.buffer(buffer).place {
        Place::Parameter(id) => places.slots[id.index()].role == ParamRole::Trained,
        _ => false,
    })
}

/// An error of a step that kernels cannot be told.
fn too_large(step: &Step, expected: &str, got: impl std::fmt::Display) -> Error {
    Error::Shape {
        layer: step.layer.clone(),
        op: step.kernel.name().into(),
        expected: format!("{expected} on a GPU"),
        got: got.to_string(),
    }
}

/// Kernels count the elements of a buffer, and those of all parameters together, in 31 bits.
const MOST_ELEMENTS: usize = i32::MAX as usize;

fn countable(plan: &Plan) -> Result<()> {
    let refused = |layer: &str, op: &str, got: String| Error::Shape {
        layer: layer.into(),
        op: op.into(),
        expected: format!("at most {MOST_ELEMENTS} elements on a GPU"),
        got,
    };
    for step in &plan.steps {
        let shapes = step.inputs.iter().chain(&step.outputs);
        for shape in shapes.map(|&id| &plan.graph.node(id).ty.shape) {
            let largest = shape.dims().iter().copied().max().unwrap_or(1);
            if shape.elements().max(largest) > MOST_ELEMENTS {
                return Err(refused(&step.layer, step.kernel.name(), shape.to_string()));
            }
        }
    }
    let sizes = plan.graph.parameters().iter().map(|spec| spec.shape.elements());
    let all = sizes.fold(0, usize::saturating_add);
    match all > MOST_ELEMENTS {
        true => Err(refused("", "parameters", all.to_string())),
        false => Ok(()),
    }
}
