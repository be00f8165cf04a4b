// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CUDA backend: plans run by hand-written kernels on streams, and replayed as CUDA graphs.
//!
//! A plan is lowered once, at its first run, to launches as plain data (`lower`, `geometry`);
//! everything that changes from run to run is read by kernels from one structure in device memory,
//! so that the second run can be captured whole (`capture`) and later runs replay it. Steps without a kernel
//! are computed by the host from what they read; plans that have such steps are not captured.

#[rustfmt::skip]
#[expect(dead_code, reason = "kernels and host agree on more than this one side uses")]
mod abi;
mod capture;
mod geometry;
mod gpu;
mod host;
mod image;
mod launch;
mod lower;
mod memory;
mod nvrtc;
mod options;
mod paper;
mod program;
mod self_test;
mod system;
mod transfer;
mod turns;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream};

use capture::{Command, Graph};
use geometry::Machine;
use gpu::Gpu;
pub use gpu::{check, devices, DeviceInfo};
use image::Kernels;
pub use image::{embedded, Embedded, LoadedImage};
use lower::Places;
use memory::{Address, DeviceMemory};
pub use nvrtc::nvrtc_version;
pub use options::{Capture, CudaImage, CudaOptions};
pub(crate) use paper::Paper;
pub use paper::{launches, Architecture, KernelLaunch};
use program::{Program, Ready, Work};
pub use self_test::{self_test, self_test_networks, self_test_wide_layer, Check};
use transfer::{bytes_of, tensor_bytes, Downloads, Uploads};
pub use verdict::{kernel_hash, Verdict};

use super::{
    Arena, Backend, Begun, Facts, Fusion, HostMemory, Layout, Memory, Pending, Run, Span, Storage,
    UpdatePlace,
};
use crate::graph::ParamSpec;
use crate::plan::{Bytes, Event, Lane, Place};
use crate::{allocate, Precision, Result};

/// Alignment of buffers: `cudaMalloc`'s, of which 16 bytes matter to kernels.
const ALIGNMENT: usize = 256;
/// Streams: the two gradients of a layer and one more run side by side where they are not joined.
const LANES: usize = 3;

/// What the passes know about a CUDA device; plans can be made without one.
pub fn facts(ordinal: usize, precision: Precision) -> Facts {
    Facts {
        name: format!("cuda:{ordinal}"),
        lanes: LANES,
        alignment: ALIGNMENT,
        host_memory: HostMemory::Copied,
        update_place: UpdatePlace::Flat,
        fusion: Fusion::AcrossLayers,
        precision,
        storage: Storage::Typed,
    }
}

/// A CUDA device.
#[derive(Debug)]
pub struct Cuda {
    facts: Facts,
    options: CudaOptions,
    machine: Machine,
    phase: Phase,
    /// The plan that is running.
    current: Option<Arena>,
    /// What the run that is to be captured does.
    noted: Vec<Command>,
    programs: BTreeMap<Arena, Program>,
    kernels: Kernels,
    uploads: Uploads,
    downloads: Downloads,
    arenas: Vec<DeviceMemory>,
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
        let image = LoadedImage::choose(gpu.info(), options.image)?;
        let machine = Machine {
            multiprocessors: gpu.info().multiprocessors,
            architecture: image.architecture(gpu.info()),
        };
        let failed = |error| gpu.error("making streams", error);
        let streams = (0..LANES).map(|_| gpu.context().new_stream());
        let lanes: Vec<_> = streams.collect::<std::result::Result<_, _>>().map_err(failed)?;
        let event = || gpu.context().new_event(None);
        let joins = (1..LANES).map(|_| event()).collect::<std::result::Result<_, _>>();
        let uploads = Uploads::new(gpu.context().new_stream().map_err(failed)?);
        Ok(Cuda {
            facts: facts(ordinal, options.precision),
            options,
            machine,
            phase: Phase::Idle,
            current: None,
            noted: Vec::new(),
            programs: BTreeMap::new(),
            kernels: Kernels::new(image),
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
        self.kernels.image()
    }

    /// Loads every kernel that the program carries and tells how many; plans load those they need.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if one cannot be compiled or loaded.
    pub fn load_kernels(&mut self) -> Result<usize> {
        self.gpu.bind()?;
        self.kernels.load_all(&self.gpu)
    }

    /// Makes sure that the program of a run is there and is that of the network's seed.
    fn prepare(&mut self, run: &Run<'_>) -> Result<()> {
        let key = run.memory.plan;
        if self.programs.get(&key).is_some_and(|program| program.seed == run.scalars.seed) {
            return Ok(());
        }
        self.forget_program(key);
        let places = places(&self.arenas, run.memory, run.scalars.seed);
        let chosen = (&self.machine, self.options.precision);
        let (gpu, kernels, lane) = (&self.gpu, &mut self.kernels, &self.lanes[0]);
        let program = Program::new(gpu, kernels, lane, run.plan, &places, chosen)?;
        self.programs.insert(key, program);
        Ok(())
    }

    fn forget_program(&mut self, key: Arena) {
        let _turn = self.gpu.turns().call();
        self.programs.remove(&key);
    }

    fn program(&self, run: &Run<'_>) -> Result<&Program> {
        let program = self.programs.get(&run.memory.plan);
        program.ok_or_else(|| lower::internal("a run was not begun"))
    }

    /// Brings scalars and inputs to the device.
    fn upload(&mut self, run: &Run<'_>) -> Result<()> {
        let program = self.program(run)?;
        let scalars = program.scalars(run.scalars);
        let scalars = transfer::scalars_bytes(&scalars);
        let mut parts: Vec<(Address, &[u8])> = vec![(program.scalars_address(), &scalars)];
        let base = self.arenas[run.memory.plan.0 as usize].address();
        for buffer in &run.plan.buffers {
            if let Place::Uploaded(input, offset) = buffer.place {
                parts.push((base.plus(offset.0), tensor_bytes(&run.inputs[input.index()])?));
            }
        }
        self.uploads.copy(&self.gpu, &self.lanes[0], &parts)
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

    /// Captures what was noted of a run, and runs it.
    fn replay_noted(&mut self, run: &mut Run<'_>) -> Result<()> {
        let noted = std::mem::take(&mut self.noted);
        self.phase = Phase::Idle;
        let graph = Graph::capture(&self.gpu, &self.lanes[0], || {
            self.cast_state(run)?;
            self.fork()?;
            for command in &noted {
                match *command {
                    Command::Launch(step) => self.issue(run, step)?,
                    Command::Record(lane, event) => self.record_on(lane, event)?,
                    Command::Wait(lane, event) => self.wait_on(lane, event)?,
                }
            }
            self.join()
        })?;
        if let Some(graph) = &graph {
            graph.launch()?;
        }
        if let Some(program) = self.programs.get_mut(&run.memory.plan) {
            program.graph = graph;
        }
        Ok(())
    }

    /// Ends the issue of a run; from then on the first lane goes on behind it.
    fn complete(&mut self, run: &mut Run<'_>) -> Result<()> {
        match self.phase {
            Phase::Issuing => self.join()?,
            Phase::Noting => self.replay_noted(run)?,
            Phase::Idle | Phase::Replaying => {}
        }
        self.phase = Phase::Idle;
        if let Some(program) = self.programs.get_mut(&run.memory.plan) {
            program.has_run = true;
        }
        Ok(())
    }

    /// Forgets a run that failed half way. Lanes that were not joined are waited for: the next run
    /// is ordered behind the first lane alone.
    fn abandon(&mut self) {
        if self.phase == Phase::Issuing {
            // Whatever it says, the error that led here says more.
            let _ = self.wait_for_lanes();
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
        let Work::Launches(launches) = &self.program(run)?.steps[index] else {
            let places = places(&self.arenas, run.memory, run.scalars.seed);
            return host::compute(&self.gpu, &lane, run, &places, step);
        };
        self.put(launches, &step.layer, &lane)
    }

    /// Makes the copies of parameters and inputs that products take in 16 bits.
    fn cast_state(&self, run: &Run<'_>) -> Result<()> {
        self.put(&self.program(run)?.prologue, "", &self.lanes[0])
    }

    /// Puts launches on a stream.
    fn put(&self, launches: &[Ready], layer: &str, lane: &Arc<CudaStream>) -> Result<()> {
        for ready in launches {
            // SAFETY: the lowering fills the structure that the kernel's header names, with
            // addresses in arenas that live as long as this backend, which waits for its lanes
            // before it frees them.
            unsafe { ready.launch.params.launch(&ready.function, &ready.launch.grid, lane) }
                .map_err(|error| {
                    let kernel = &ready.launch.kernel;
                    self.gpu.error(format_args!("kernel {kernel} of layer {layer:?}"), error)
                })?;
        }
        Ok(())
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
        self.arenas.push(DeviceMemory::zeroed(&self.gpu, &self.lanes[0], bytes.0)?);
        Ok(Arena((self.arenas.len() - 1) as u32))
    }

    fn write(&mut self, at: Span, data: &[f32]) -> Result<()> {
        self.sync()?;
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
        self.current = Some(run.memory.plan);
        self.prepare(run)?;
        self.upload(run)?;
        let program = self.program(run)?;
        if let Some(graph) = &program.graph {
            graph.launch()?;
            self.phase = Phase::Replaying;
            return Ok(Begun::Replayed);
        }
        let captures = self.options.capture == Capture::On && program.has_run;
        if captures && program.is_on_device() {
            self.phase = Phase::Noting;
            return Ok(Begun::Issue);
        }
        self.phase = Phase::Issuing;
        self.cast_state(run)?;
        self.fork()?;
        Ok(Begun::Issue)
    }

    fn launch(&mut self, run: &mut Run<'_>, step: usize) -> Result<()> {
        match self.phase {
            Phase::Noting => self.noted.push(Command::Launch(step)),
            _ => self.issue(run, step)?,
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
        let place = |buffer| match run.plan.buffer(buffer).place {
            Place::Arena(offset) => Some(base.plus(offset.0)),
            _ => None,
        };
        let outputs = run.plan.outputs.iter();
        let part = |(buffer, output): (_, &Vec<f32>)| Some((place(buffer)?, output.len()));
        let parts = outputs.map(|(_, buffer)| *buffer).zip(&*run.outputs).map(part);
        let Some(parts) = parts.collect::<Option<Vec<_>>>() else {
            self.finish(run)?;
            return Ok(None);
        };
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
        self.kernels.clear();
    }
}

/// Where the state of a network and a plan's arena lie.
fn places<'a>(arenas: &[DeviceMemory], memory: &'a Memory, seed: u64) -> Places<'a> {
    let address = |arena: Arena| arenas[arena.0 as usize].address();
    Places {
        plan: address(memory.plan),
        values: address(memory.values),
        state: address(memory.state),
        gradients: memory.gradients.map(address),
        moments: memory.moments.iter().map(|&arena| address(arena)).collect(),
        slots: &memory.slots,
        seed,
    }
}
