// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CUDA backend: plans run by hand-written kernels on streams, and replayed as CUDA graphs.
//!
//! A plan is lowered once, at its first run, to launches as plain data (`lower`, `geometry`);
//! everything that changes from run to run is read by kernels from one structure in device memory,
//! so that the second run can be captured whole (`capture`) and later runs replay it. Steps without
//! a kernel are computed by the host from what they read; plans that have such steps are not
//! captured.

#[rustfmt::skip]
#[expect(dead_code, reason = "kernels and host agree on more than this one side uses")]
mod abi;
#[rustfmt::skip]
mod abi_images;
#[rustfmt::skip]
mod abi_recurrent;
mod arenas;
mod calls;
mod capture;
mod copies;
mod depot;
mod driver;
mod gather;
mod geometry;
mod gpu;
mod host;
mod image;
mod kernels;
#[doc(hidden)]
pub mod lab;
mod launch;
mod lent;
mod lower;
mod memory;
mod nvrtc;
mod options;
mod palette;
mod paper;
mod program;
mod sizes;
mod system;
mod table;
mod thin;
mod tiling;
mod timing;
mod transfer;
mod turns;
mod uploads;
mod verdict;
mod walks;
mod windows;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use arenas::{places, Copied};
use capture::{Command, Graph};
use copies::Generation;
pub(crate) use depot::Depot;
use driver::{CudaEvent, CudaStream};
use geometry::{grouping, Machine};
pub use gpu::{check, devices, has_driver, survey, DeviceInfo, Held};
use gpu::{Gpu, Loaded};
pub use image::{embedded, embedded_cubins, embedded_ptx, Embedded, LoadedImage};
use kernels::Kernels;
pub(crate) use lent::Lent;
use memory::{Address, DeviceMemory};
pub use nvrtc::nvrtc_version;
pub use options::{Capture, CudaImage, CudaOptions, Walks};
pub(crate) use paper::Paper;
pub use paper::{work, work_fed, Architecture};
use program::{Program, Ready, Replay, Work};
pub(crate) use table::{Packing, Pushed, Reader, Table, TableBuilder, TableShape};
use timing::StepEvents;
use transfer::{bytes_of, Downloads, Part};
use uploads::Uploads;
pub use verdict::{kernel_hash, Check, Verdict};
pub use walks::Apart;
pub use work::{CopyWay, Feed, KernelLaunch, Moved, PlanWork, WorkItem, WorkTotals};

use super::{
    Arena, Backend, Begun, Facts, Fusion, HostMemory, ImageKernels, Layout, Pending, PlanId, Run,
    Snapshot, Span, StepClock, StepTime, Storage, UpdatePlace,
};
use crate::graph::{MemoryFormat, ParamSpec};
use crate::plan::{Bytes, Event, Lane, Place};
use crate::{allocate, Error, Precision, Result};

/// Alignment of buffers: `cudaMalloc`'s, of which 16 bytes matter to kernels.
const ALIGNMENT: usize = 256;
/// Streams: the two gradients of a layer and one more run side by side where they are not joined.
const LANES: usize = 3;

/// What the passes know about a CUDA device.
fn facts(ordinal: usize, precision: Precision, machine: &Machine) -> Facts {
    Facts {
        name: format!("cuda:{ordinal}"),
        lanes: LANES,
        alignment: ALIGNMENT,
        host_memory: HostMemory::Copied,
        given: lower::GIVEN,
        update_place: UpdatePlace::Flat,
        fusion: Fusion::AcrossLayers,
        grouping: grouping(precision, machine),
        precision,
        storage: Storage::Typed,
        image_format: MemoryFormat::ChannelsLast,
        images: ImageKernels::Precise,
    }
}

/// A CUDA device.
#[derive(Debug)]
pub struct Cuda {
    facts: Facts,
    options: CudaOptions,
    machine: Machine,
    phase: Phase,
    generation: Generation,
    /// The plan that is running.
    current: Option<PlanId>,
    /// What the run that is to be captured does.
    noted: Vec<Command>,
    programs: BTreeMap<PlanId, Program>,
    /// If steps are timed: then they are issued one by one.
    timed: Option<StepEvents>,
    kernels: Loaded,
    uploads: Uploads,
    downloads: Downloads,
    /// Shared with snapshots, which are never written.
    arenas: Vec<Arc<DeviceMemory>>,
    fork: CudaEvent,
    joins: Vec<CudaEvent>,
    lanes: Vec<Arc<CudaStream>>,
    gpu: Gpu,
}

/// Where the backend is between `begin` and `finish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Steps go to the streams.
    Issuing,
    /// Steps are noted, and go to a graph when all are known.
    Noting,
    /// A graph is running.
    Replaying,
}

impl Cuda {
    /// Opens a device.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no driver, no such device, or no image for it.
    pub fn new(ordinal: usize, options: CudaOptions) -> Result<Self> {
        let gpu = Gpu::open(ordinal)?;
        let kernels = gpu.kernels(options.image)?;
        let machine = walks::machine(&gpu, locked(&kernels).image(), &options)?;
        let failed = |error| gpu.error("making streams", error);
        let streams = (0..LANES).map(|_| gpu.context().new_stream());
        let lanes: Vec<_> = streams.collect::<std::result::Result<_, _>>().map_err(failed)?;
        let event = || gpu.context().new_event(None);
        let joins = (1..LANES).map(|_| event()).collect::<std::result::Result<_, _>>();
        let uploads = Uploads::new(gpu.context().new_stream().map_err(failed)?);
        Ok(Cuda {
            facts: facts(ordinal, options.precision, &machine),
            options,
            machine,
            phase: Phase::Idle,
            generation: Generation::default(),
            current: None,
            noted: Vec::new(),
            programs: BTreeMap::new(),
            timed: None,
            kernels,
            uploads,
            downloads: Downloads::default(),
            arenas: Vec::new(),
            fork: event().map_err(failed)?,
            joins: joins.map_err(failed)?,
            lanes,
            gpu,
        })
    }

    /// The device.
    pub fn info(&self) -> &DeviceInfo {
        self.gpu.info()
    }

    /// The form in which its kernels are loaded.
    pub fn image(&self) -> LoadedImage {
        locked(&self.kernels).image()
    }

    /// The most bytes of a data set that is brought to the device without being asked for: a quarter of what is
    /// free now.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    pub fn room_for_samples(&self) -> Result<usize> {
        self.gpu.room_for_samples()
    }

    /// Loads every kernel that the program carries and tells how many; plans load those they need.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if one cannot be compiled or loaded.
    pub fn load_kernels(&mut self) -> Result<usize> {
        self.gpu.bind()?;
        locked(&self.kernels).load_all(&self.gpu)
    }

    /// Makes sure that the program of a run is there and is that of the network's seed.
    fn prepare(&mut self, run: &Run<'_>) -> Result<()> {
        let key = run.id;
        if self.programs.get(&key).is_some_and(|program| program.seed == run.scalars.seed) {
            return Ok(());
        }
        self.forget_program(key);
        let places = places(&self.arenas, run.memory, run.scalars.seed);
        let chosen = (&self.machine, self.options.precision);
        let (gpu, kernels, lane) = (&self.gpu, &mut *locked(&self.kernels), &self.lanes[0]);
        let plan = (run.plan, run.memory.plan);
        let program = Program::new(gpu, kernels, lane, plan, &places, chosen)?;
        self.programs.insert(key, program);
        Ok(())
    }

    fn forget_program(&mut self, plan: PlanId) {
        let _turn = self.gpu.turns().call();
        self.programs.remove(&plan);
    }

    /// Forgets the programs that hold an arena's address.
    fn forget_programs_in(&mut self, arena: Arena) {
        let _turn = self.gpu.turns().call();
        self.programs.retain(|_, program| program.arena != arena);
    }

    fn program(&self, run: &Run<'_>) -> Result<&Program> {
        let program = self.programs.get(&run.id);
        program.ok_or_else(|| lower::internal("a run was not begun"))
    }

    /// Lets the other lanes begin where the first is.
    fn fork(&self) -> Result<()> {
        let forked = self.fork.record(&self.lanes[0]);
        let waits = || self.lanes[1..].iter().try_for_each(|lane| lane.wait(&self.fork));
        forked.and_then(|()| waits()).map_err(|error| self.gpu.error("starting lanes", error))
    }

    /// Lets the first lane go on when the others are done.
    fn join(&self) -> Result<()> {
        for (lane, join) in self.lanes[1..].iter().zip(&self.joins) {
            let joined = join.record(lane).and_then(|()| self.lanes[0].wait(join));
            joined.map_err(|error| self.gpu.error("joining lanes", error))?;
        }
        Ok(())
    }

    /// Captures what was noted of a run, and runs it; where it cannot be captured, from now on without.
    fn replay_noted(&mut self, run: &mut Run<'_>) -> Result<()> {
        let noted = std::mem::take(&mut self.noted);
        self.phase = Phase::Idle;
        let captured = Graph::capture(&self.gpu, &self.lanes[0], || self.put_noted(run, &noted));
        let graph = match captured {
            Ok(graph) => graph,
            Err(error) => {
                // A device that is lost says so again.
                self.put_noted(run, &noted)?;
                self.note_failed_capture(run.id, &error);
                return Ok(());
            }
        };
        if let Some(graph) = graph {
            graph.launch()?;
            if let Some(program) = self.programs.get_mut(&run.id) {
                program.replay = Replay::Captured(graph);
            }
        }
        Ok(())
    }

    fn note_failed_capture(&mut self, plan: PlanId, error: &Error) {
        let Some(program) = self.programs.get_mut(&plan) else { return };
        let Replay::Issued { attempts } = &mut program.replay else { return };
        if *attempts == Replay::ATTEMPTS {
            let device = self.gpu.name();
            tracing::warn!(device, "a plan could not be captured as a CUDA graph: {error}");
        }
        *attempts -= 1;
    }

    /// Puts what was noted of a run on the streams.
    fn put_noted(&self, run: &mut Run<'_>, noted: &[Command]) -> Result<()> {
        self.cast_inputs(run)?;
        self.fork()?;
        for command in noted {
            match *command {
                Command::Launch(step) => self.issue(run, step)?,
                Command::Record(lane, event) => self.record_on(lane, event)?,
                Command::Wait(lane, event) => self.wait_on(lane, event)?,
            }
        }
        self.join()
    }

    /// Ends the issue of a run; from then on the first lane goes on behind it.
    fn complete(&mut self, run: &mut Run<'_>) -> Result<()> {
        match self.phase {
            Phase::Issuing => self.join()?,
            Phase::Noting => self.replay_noted(run)?,
            Phase::Idle | Phase::Replaying => {}
        }
        self.phase = Phase::Idle;
        if let Some(program) = self.programs.get_mut(&run.id) {
            if matches!(program.replay, Replay::NotRun) {
                program.replay = Replay::Issued { attempts: Replay::ATTEMPTS };
            }
        }
        Ok(())
    }

    /// Forgets a run that failed half way. Lanes that were not joined are waited for: the next run
    /// is ordered behind the first lane alone.
    fn abandon(&mut self) {
        if self.phase == Phase::Issuing {
            // Whatever it says, the error that led here says more.
            let _ = self.wait_for_lanes();
            // Blocks that ran are counted in tickets where others were to follow.
            if let Some(plan) = self.current {
                self.forget_program(plan);
            }
        }
        self.noted.clear();
        self.phase = Phase::Idle;
    }

    fn wait_for_lanes(&self) -> Result<()> {
        for lane in &self.lanes {
            lane.synchronize().map_err(|error| self.gpu.error("waiting for the device", error))?;
        }
        Ok(())
    }

    fn issue(&self, run: &mut Run<'_>, index: usize) -> Result<()> {
        let step = &run.plan.steps[index];
        let lane = self.lanes[step.lane.index()].clone();
        let Work::Device(items) = &self.program(run)?.steps[index] else {
            let places = places(&self.arenas, run.memory, run.scalars.seed);
            return host::compute(&self.gpu, &lane, run, &places, step);
        };
        self.put(items, &step.layer, &lane)
    }

    /// Puts work on a stream.
    fn put(&self, items: &[Ready], layer: &str, lane: &CudaStream) -> Result<()> {
        self.gpu.bind()?;
        items.iter().try_for_each(|ready| {
            // SAFETY: the lowering fills the structure that the kernel's header names, with
            // addresses in arenas that live as long as this backend, which waits for its lanes
            // before it frees them.
            unsafe { ready.issue(lane.cu_stream()) }.map_err(|error| {
                self.gpu.error(format_args!("{} of layer {layer:?}", ready.name()), error)
            })
        })
    }

    /// An event of the plan that is running.
    fn event(&self, event: Event) -> Result<&CudaEvent> {
        let program = self.current.and_then(|plan| self.programs.get(&plan));
        let event = program.and_then(|program| program.events.get(event.index()));
        event.ok_or_else(|| lower::internal("an event of a run that was not begun"))
    }

    fn record_on(&self, lane: Lane, event: Event) -> Result<()> {
        let (lane, event) = (&self.lanes[lane.index()], self.event(event)?);
        event.record(lane).map_err(|error| self.gpu.error("recording an event", error))
    }

    fn wait_on(&self, lane: Lane, event: Event) -> Result<()> {
        let (lane, event) = (&self.lanes[lane.index()], self.event(event)?);
        lane.wait(event).map_err(|error| self.gpu.error("waiting for an event", error))
    }

    fn zeroed(&self, bytes: Bytes) -> Result<DeviceMemory> {
        DeviceMemory::zeroed(&self.gpu, &self.lanes[0], bytes.0)
    }

    fn adopt(&mut self, memory: Arc<DeviceMemory>) -> Arena {
        self.arenas.push(memory);
        Arena(sizes::word(self.arenas.len() - 1))
    }

    /// Memory in place of an arena's, which is freed first: there is not enough for both.
    fn exchange(&mut self, arena: Arena, bytes: Bytes) -> Result<DeviceMemory> {
        self.forget_programs_in(arena);
        let place = &mut self.arenas[arena.0 as usize];
        let former = Bytes(place.bytes());
        *place = Arc::new(DeviceMemory::none(&self.gpu));
        self.zeroed(bytes).or_else(|error| {
            self.arenas[arena.0 as usize] = Arc::new(self.zeroed(former)?);
            Err(error)
        })
    }

    fn at(&self, span: Span) -> Address {
        self.arenas[span.arena.0 as usize].address().plus(span.start.0)
    }
}

impl Backend for Cuda {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn layout(&self, _parameter: &ParamSpec) -> Layout {
        Layout::RowMajor
    }

    fn reserve(&mut self, bytes: Bytes) -> Result<Arena> {
        let memory = self.zeroed(bytes)?;
        Ok(self.adopt(Arc::new(memory)))
    }

    fn grow(&mut self, arena: Arena, bytes: Bytes) -> Result<()> {
        self.sync()?;
        let larger = match self.zeroed(bytes) {
            Ok(larger) => larger,
            Err(_) => self.exchange(arena, bytes)?,
        };
        self.forget_programs_in(arena);
        self.arenas[arena.0 as usize] = Arc::new(larger);
        Ok(())
    }

    fn snapshot(&mut self, arenas: &[Arena]) -> Result<Arc<dyn Snapshot>> {
        self.sync()?;
        let mut copies = Vec::with_capacity(arenas.len());
        for arena in arenas {
            copies.push(Arc::new(self.arenas[arena.0 as usize].copied(&self.gpu, &self.lanes[0])?));
        }
        let ordinal = self.gpu.info().ordinal;
        Ok(Arc::new(Copied { ordinal, options: self.options, arenas: copies }))
    }

    fn forget(&mut self, plan: PlanId) {
        if self.programs.contains_key(&plan) {
            // A lost device says so at the next call.
            let _ = self.sync();
            self.forget_program(plan);
        }
    }

    fn write(&mut self, at: Span, data: &[f32]) -> Result<()> {
        self.sync()?;
        self.outdate_copies();
        transfer::write_now(&self.gpu, &self.lanes[0], self.at(at), bytes_of(data))
    }

    fn read(&mut self, at: Span) -> Result<Vec<f32>> {
        self.sync()?;
        let count = at.length.0 / std::mem::size_of::<f32>();
        let mut values = allocate::zeros(count, "what is read from the device")?;
        let mut parts = [(self.at(at), values.as_mut_slice())];
        self.downloads.copy(&self.gpu, &self.lanes[0], &mut parts)?;
        Ok(values)
    }

    fn begin(&mut self, run: &Run<'_>) -> Result<Begun> {
        self.abandon();
        self.gpu.bind()?;
        self.current = Some(run.id);
        self.prepare(run)?;
        self.upload(run)?;
        self.make_copies(run)?;
        let program = self.program(run)?;
        match &program.replay {
            Replay::Captured(graph) if self.timed.is_none() => {
                graph.launch()?;
                self.phase = Phase::Replaying;
                return Ok(Begun::Replayed);
            }
            Replay::Issued { attempts: 1.. }
                if self.options.capture == Capture::On
                    && self.timed.is_none()
                    && program.is_on_device() =>
            {
                self.phase = Phase::Noting;
                return Ok(Begun::Issue);
            }
            Replay::NotRun | Replay::Issued { .. } | Replay::Captured(_) => {}
        }
        self.phase = Phase::Issuing;
        if let Some(timed) = &mut self.timed {
            timed.begin(&self.gpu, &self.lanes[0], run.plan.steps.len())?;
        }
        self.cast_inputs(run)?;
        self.fork()?;
        Ok(Begun::Issue)
    }

    fn launch(&mut self, run: &mut Run<'_>, step: usize) -> Result<()> {
        match (self.phase, &self.timed) {
            (Phase::Noting, _) => self.noted.push(Command::Launch(step)),
            (_, None) => self.issue(run, step)?,
            (_, Some(timed)) => {
                let lane = &self.lanes[run.plan.steps[step].lane.index()];
                timed.around(&self.gpu, lane, step, || self.issue(run, step))?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, run: &mut Run<'_>) -> Result<()> {
        self.complete(run)?;
        let base = self.arenas[run.memory.plan.0 as usize].address();
        let mut parts = Vec::with_capacity(run.outputs.len());
        for ((_, buffer), output) in run.plan.outputs.iter().zip(&mut *run.outputs) {
            if let Place::Arena(offset) = run.plan.buffer(*buffer).place {
                parts.push((base.plus(offset.0), output.as_mut_slice()));
            }
        }
        self.downloads.copy(&self.gpu, &self.lanes[0], &mut parts)
    }

    fn finish_later(&mut self, run: &mut Run<'_>) -> Result<Option<Arc<dyn Pending>>> {
        let base = self.arenas[run.memory.plan.0 as usize].address();
        let mut parts = Vec::with_capacity(run.plan.outputs.len());
        for (index, (node, buffer)) in run.plan.outputs.iter().enumerate() {
            if run.plan.graph.node(*node).ty.shape.elements() != 1 {
                continue;
            }
            let Place::Arena(offset) = run.plan.buffer(*buffer).place else {
                self.finish(run)?;
                return Ok(None);
            };
            parts.push(Part { output: index, from: base.plus(offset.0), count: 1 });
        }
        self.complete(run)?;
        Ok(Some(self.downloads.issue(&self.gpu, &self.lanes[0], &parts)?))
    }

    fn record(&mut self, lane: Lane, event: Event) -> Result<()> {
        match self.phase {
            Phase::Noting => self.noted.push(Command::Record(lane, event)),
            _ => self.record_on(lane, event)?,
        }
        Ok(())
    }

    fn wait(&mut self, lane: Lane, event: Event) -> Result<()> {
        match self.phase {
            Phase::Noting => self.noted.push(Command::Wait(lane, event)),
            _ => self.wait_on(lane, event)?,
        }
        Ok(())
    }

    fn time_steps(&mut self) -> Result<()> {
        if self.timed.is_none() {
            self.timed = Some(StepEvents::new(&self.gpu)?);
        }
        Ok(())
    }

    fn step_times(&mut self) -> Result<Option<(StepClock, Vec<StepTime>)>> {
        self.timed.as_ref().map(|timed| timed.times(&self.gpu)).transpose()
    }

    fn sync(&mut self) -> Result<()> {
        self.wait_for_lanes()?;
        self.uploads.sync().map_err(|error| self.gpu.error("waiting for an upload", error))
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        self.abandon();
        // A lost device says so here too; there is nobody left to tell.
        let _ = self.sync();
        let _turn = self.gpu.turns().call();
        self.programs.clear();
    }
}

/// Holds a device open that was opened.
impl Held {
    pub(crate) fn hold(&self, cuda: Cuda) -> Cuda {
        self.keep(&cuda.gpu);
        cuda
    }
}

/// A thread that panicked while it loaded a kernel left those before it, which are whole.
fn locked(kernels: &Loaded) -> MutexGuard<'_, Kernels> {
    kernels.lock().unwrap_or_else(PoisonError::into_inner)
}
