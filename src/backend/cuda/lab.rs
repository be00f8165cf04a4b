// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device as a laboratory: plans in memory of their own, their launches one by one, and bare loops, timed by the
//! device's own clock. The bench and the kernels' tests use it; nothing else does.

use cudarc::driver::sys::CUevent_flags;

use super::abi::{KilnCastParams, KILN_BLOCK_THREADS};
use super::capture::Graph;
use super::driver::CudaEvent;
use super::image::SOURCES;
use super::launch::{Copy, Fill, Grid, Launch};
use super::memory::{Address, DeviceMemory};
use super::nvrtc::Code;
use super::program::{Ready, Replay, Work};
use super::{locked, lower, transfer, Cuda, CudaOptions, DeviceInfo, KernelLaunch, LoadedImage};
use crate::backend::{slots, Backend, Begun, Memory, PlanId, Run, Span};
use crate::graph::{NodeId, ParamRole, ParamSpec};
use crate::plan::{BufferId, Bytes, Place, Plan};
use crate::scalars::{Scalars, TrainingState};
use crate::{Result, Tensor};

/// Bytes that are written between two runs to empty the second-level cache: more than any has.
const FLUSHED: usize = 256 << 20;
/// The same where nothing is timed.
const FLUSHED_SIMULATED: usize = 64 << 10;
/// Adam keeps two moments, and no rule more.
const MOMENTS: usize = 2;
/// Runs after which a plan is replayed.
const RUNS: usize = 3;
/// So small that an update repeated a million times leaves the parameters in range.
const LEARNING_RATE: f32 = 1e-7;
/// Words of a thread of a loop that multiplies.
const CEILING_WORDS: usize = 6;

/// The kernels of one source, as a driver loads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Their names.
    pub kernels: &'static [&'static str],
    /// Machine code, or a text that ends in a zero.
    pub image: Vec<u8>,
}

/// An open device.
#[derive(Debug)]
pub struct Lab {
    cuda: Cuda,
    flushed: DeviceMemory,
    events: [CudaEvent; 2],
}

/// A plan in memory of its own, which has run often enough to be replayed.
#[derive(Debug)]
pub struct Resident {
    id: PlanId,
    plan: Plan,
}

/// A launch of a plan.
#[derive(Clone, Debug)]
pub struct PlacedLaunch {
    /// Number of the plan's step.
    pub step: usize,
    /// The launch.
    pub launch: KernelLaunch,
    item: usize,
}

/// Work of no plan, with the memory that it uses.
#[derive(Debug)]
pub struct Loose {
    ready: Ready,
    _memory: Vec<DeviceMemory>,
}

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A plan as it is replayed, its inputs on the device.
    Plan(&'a Resident),
    /// A launch of a plan.
    Launch(&'a Resident, &'a PlacedLaunch),
    /// Work of no plan.
    Loose(&'a Loose),
}

/// What the second-level cache holds when timing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// What the same work left there.
    Warm,
    /// Nothing of it.
    Cold,
}

/// How often something is repeated: so many times, each of so many runs in a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// Times that are taken.
    pub samples: usize,
    /// Runs in each. A cold cache has one.
    pub runs: usize,
}

impl Lab {
    /// Opens a device.
    ///
    /// # Errors
    /// As [`Cuda::new`].
    pub fn open(ordinal: usize, options: CudaOptions) -> Result<Self> {
        let cuda = Cuda::new(ordinal, options)?;
        let bytes = if cuda.info().simulated { FLUSHED_SIMULATED } else { FLUSHED };
        let flushed = DeviceMemory::zeroed(&cuda.gpu, &cuda.lanes[0], bytes)?;
        let event = || {
            let event = cuda.gpu.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
            event.map_err(|error| cuda.gpu.error("making an event", error))
        };
        let events = [event()?, event()?];
        Ok(Lab { cuda, flushed, events })
    }

    /// The device.
    pub fn info(&self) -> &DeviceInfo {
        self.cuda.info()
    }

    /// The form in which its kernels are loaded.
    pub fn image(&self) -> LoadedImage {
        self.cuda.image()
    }

    /// Every source's kernels in that form.
    ///
    /// # Errors
    /// [`Error::Device`] if they have to be compiled and cannot be.
    pub fn modules(&self) -> Result<Vec<Module>> {
        let kernels = locked(&self.cuda.kernels);
        let module = |source| {
            let image = match kernels.code(&self.cuda.gpu, source)? {
                Code::Machine(code) => code,
                Code::Ptx(text) => text.into_bytes().into_iter().chain([0]).collect(),
            };
            Ok(Module { kernels: source.kernels, image })
        };
        SOURCES.iter().map(module).collect()
    }

    /// Lays a plan out, with what `values` gives for each trained parameter, and runs it until it is replayed.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's message.
    pub fn load(
        &mut self,
        plan: &Plan,
        inputs: &[Tensor],
        mut values: impl FnMut(&ParamSpec) -> Vec<f32>,
    ) -> Result<Resident> {
        let resident = Resident { id: PlanId::fresh(), plan: plan.clone() };
        let memory = self.reserve(plan, &mut values)?;
        let scalars = Scalars { learning_rate: LEARNING_RATE, ..Scalars::new(7) };
        let mut outputs = outputs(plan);
        for _ in 0..RUNS {
            let (id, memory, scalars, outputs) = (resident.id, &memory, &scalars, &mut outputs);
            let mut run = Run { id, plan, memory, scalars, inputs, outputs };
            if self.cuda.begin(&run)? == Begun::Issue {
                self.issue(&mut run)?;
            }
            self.cuda.finish(&mut run)?;
        }
        Ok(resident)
    }

    fn reserve(
        &mut self,
        plan: &Plan,
        values_of: &mut dyn FnMut(&ParamSpec) -> Vec<f32>,
    ) -> Result<Memory> {
        let cuda = &mut self.cuda;
        let specs = plan.graph.parameters();
        let (slots, [size, state]) = slots(specs, super::ALIGNMENT, |spec| cuda.layout(spec));
        let values = cuda.reserve(size)?;
        for (spec, slot) in specs.iter().zip(&slots) {
            if spec.role == ParamRole::Trained {
                let parameter = values_of(spec);
                let length = Bytes(size_of_val(parameter.as_slice()));
                cuda.write(Span { arena: values, start: slot.start, length }, &parameter)?;
            }
        }
        Ok(Memory {
            plan: cuda.reserve(plan.arena)?,
            values,
            state: cuda.reserve(state)?,
            gradients: Some(cuda.reserve(size)?),
            moments: (0..MOMENTS).map(|_| cuda.reserve(size)).collect::<Result<_>>()?,
            averages: [None; 2],
            training: Some(cuda.reserve(Bytes(TrainingState::BYTES))?),
            slots: slots.into(),
        })
    }

    fn issue(&mut self, run: &mut Run<'_>) -> Result<()> {
        for (index, step) in run.plan.steps.iter().enumerate() {
            step.waits.iter().try_for_each(|&event| self.cuda.wait(step.lane, event))?;
            self.cuda.launch(run, index)?;
            step.records.map_or(Ok(()), |event| self.cuda.record(step.lane, event))?;
        }
        Ok(())
    }

    /// The launches of a plan's steps, in order.
    pub fn launches(&self, resident: &Resident) -> Vec<PlacedLaunch> {
        let steps = self.cuda.programs.get(&resident.id).map_or(&[][..], |program| &program.steps);
        let of_step = |(step, work): (usize, &Work)| {
            let items = match work {
                Work::Device(items) => items.as_slice(),
                Work::Host => &[],
            };
            let launch = |(item, ready): (usize, &Ready)| match ready {
                Ready::Launch(launch, _) => {
                    Some(PlacedLaunch { step, launch: launch.clone().into(), item })
                }
                Ready::Copy(_) | Ready::Fill(_) => None,
            };
            items.iter().enumerate().filter_map(launch).collect::<Vec<_>>()
        };
        steps.iter().enumerate().flat_map(of_step).collect()
    }

    /// A copy of so many bytes within the device.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's message.
    pub fn copy(&self, bytes: usize) -> Result<Loose> {
        let [from, to] = [self.memory(bytes)?, self.memory(bytes)?];
        let copy = Copy { to: to.address(), from: from.address(), bytes };
        Ok(Loose { ready: Ready::Copy(copy), _memory: vec![from, to] })
    }

    /// A launch of a block that has nothing to do.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's message.
    pub fn nothing(&mut self) -> Result<Loose> {
        let params = KilnCastParams { y: Address::NONE, x: Address::NONE, count: 0 };
        self.loose(Launch::new("cast_f32_bf16", Grid::of(1), params), Vec::new())
    }

    /// Rounds of a loop in registers, `ceiling_f32` and its like, by as many blocks as keep a device busy; `word` gives
    /// what it multiplies.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's message.
    pub fn ceiling(
        &mut self,
        kernel: &str,
        rounds: u32,
        mut word: impl FnMut() -> u32,
    ) -> Result<Loose> {
        let blocks = self.ceiling_blocks();
        let threads = blocks * KILN_BLOCK_THREADS as usize;
        let words = (0..threads * CEILING_WORDS).flat_map(|_| word().to_ne_bytes());
        let words: Vec<u8> = words.collect();
        let [x, y] = [self.memory(words.len())?, self.memory(4 * threads)?];
        transfer::write_now(&self.cuda.gpu, &self.cuda.lanes[0], x.address(), &words)?;
        let params = KilnCastParams { y: y.address(), x: x.address(), count: rounds };
        self.loose(Launch::new(kernel, Grid::of(blocks), params), vec![x, y])
    }

    /// Blocks of such a loop.
    pub fn ceiling_blocks(&self) -> usize {
        match self.info().simulated {
            true => 1,
            false => 4 * self.info().multiprocessors,
        }
    }

    fn memory(&self, bytes: usize) -> Result<DeviceMemory> {
        DeviceMemory::zeroed(&self.cuda.gpu, &self.cuda.lanes[0], bytes)
    }

    fn loose(&mut self, launch: Launch, memory: Vec<DeviceMemory>) -> Result<Loose> {
        let mut kernels = locked(&self.cuda.kernels);
        let function = kernels.get(&self.cuda.gpu, &launch.kernel, launch.grid.shared)?;
        Ok(Loose { ready: Ready::Launch(launch, function), _memory: memory })
    }

    /// Microseconds of one run, in rising order; `None` of a simulated device, where everything is done once and
    /// nothing is timed.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's message, [`Error::Internal`] for a plan that was not captured.
    pub fn time(
        &mut self,
        subject: Subject<'_>,
        cache: Cache,
        repeats: Repeats,
    ) -> Result<Option<Vec<f64>>> {
        let Repeats { samples, runs } = match self.info().simulated {
            true => Repeats { samples: 1, runs: 2 },
            false => repeats,
        };
        let captured = match (subject, cache) {
            (Subject::Plan(_), _) | (_, Cache::Cold) => None,
            (subject, Cache::Warm) => {
                let issue = || (0..runs).try_for_each(|_| self.run(subject));
                Graph::capture(&self.cuda.gpu, &self.cuda.lanes[0], issue)?
            }
        };
        let at_once = |lab: &Self| match (&captured, cache) {
            (Some(graph), _) => graph.launch(),
            (None, Cache::Warm) => (0..runs).try_for_each(|_| lab.run(subject)),
            (None, Cache::Cold) => lab.run(subject),
        };
        let counted = if cache == Cache::Cold { 1 } else { runs };
        at_once(self)?;
        let mut times = Vec::with_capacity(samples);
        for _ in 0..samples {
            if cache == Cache::Cold {
                self.flush()?;
            }
            self.record(0)?;
            at_once(self)?;
            self.record(1)?;
            self.cuda.sync()?;
            if !self.info().simulated {
                times.push(self.elapsed()? / counted as f64);
            }
        }
        times.sort_unstable_by(f64::total_cmp);
        Ok((!self.info().simulated).then_some(times))
    }

    /// Puts the subject on the first lane once.
    fn run(&self, subject: Subject<'_>) -> Result<()> {
        let lane = &self.cuda.lanes[0];
        match subject {
            Subject::Plan(resident) => match self.cuda.programs.get(&resident.id) {
                Some(program) => match &program.replay {
                    Replay::Captured(graph) => graph.launch(),
                    Replay::NotRun | Replay::Issued { .. } => {
                        Err(lower::internal("a plan is timed that was not captured"))
                    }
                },
                None => Err(lower::internal("a plan is timed that was not loaded")),
            },
            Subject::Launch(resident, placed) => {
                let program = self.cuda.programs.get(&resident.id);
                let Some(Work::Device(items)) =
                    program.and_then(|program| program.steps.get(placed.step))
                else {
                    return Err(lower::internal("a launch is timed that is no plan's"));
                };
                let layer = &resident.plan.steps[placed.step].layer;
                self.cuda.put(&items[placed.item..=placed.item], layer, lane)
            }
            Subject::Loose(loose) => self.cuda.put(std::slice::from_ref(&loose.ready), "", lane),
        }
    }

    /// Writes more than the second-level cache holds.
    fn flush(&self) -> Result<()> {
        let fill = Fill { at: self.flushed.address(), bits: 0, count: self.flushed.bytes() / 4 };
        self.cuda.put(&[Ready::Fill(fill)], "", &self.cuda.lanes[0])
    }

    fn record(&self, index: usize) -> Result<()> {
        let recorded = self.events[index].record(&self.cuda.lanes[0]);
        recorded.map_err(|error| self.cuda.gpu.error("recording an event", error))
    }

    /// Microseconds between the two events, which have passed.
    fn elapsed(&self) -> Result<f64> {
        let milliseconds = self.events[0].elapsed_ms(&self.events[1]);
        let milliseconds = milliseconds.map_err(|error| self.cuda.gpu.error("timing", error))?;
        Ok(f64::from(milliseconds) * 1e3)
    }
}

impl Resident {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// Host memory for what a run returns.
fn outputs(plan: &Plan) -> Vec<Vec<f32>> {
    let place = |(index, (node, buffer)): (usize, &(NodeId, BufferId))| {
        let elements = plan.graph.node(*node).ty.shape.elements();
        match plan.buffer(*buffer).place {
            Place::Output(slot) if slot != index => Vec::new(),
            Place::Output(_) | Place::Arena(_) => vec![0.0; elements],
            _ => Vec::new(),
        }
    };
    plan.outputs.iter().enumerate().map(place).collect()
}
