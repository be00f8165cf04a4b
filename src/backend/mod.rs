// SPDX-License-Identifier: MIT OR Apache-2.0
//! Backends: what runs a plan. A backend knows nothing of networks, and a plan nothing of devices.

pub mod cpu;
#[cfg_attr(not(test), warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap))]
pub mod cuda;
mod layout;
pub(crate) mod notice;
mod times;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

pub use crate::kernel::{Facts, Fusion, Grouping, HostMemory, ImageKernels, Storage, UpdatePlace};
pub(crate) use layout::with_moments;
pub use layout::{counters_of, slots, words_of, Layout, Slot};
pub use times::{StepClock, StepTime};

use crate::graph::{ParamId, ParamRole, ParamSpec};
use crate::plan::{Bytes, Event, Lane, Plan};
use crate::scalars::{Scalars, TrainingState};
use crate::{Result, Tensor};

/// Memory that a backend reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arena(pub(crate) u32);

/// A range in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The arena.
    pub arena: Arena,
    /// First byte.
    pub start: Bytes,
    /// Number of bytes.
    pub length: Bytes,
}

/// Where a network's state lives on the device.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The plan's arena.
    pub plan: Arena,
    /// Values of the trained parameters.
    pub values: Arena,
    /// Values of the state that is not trained.
    pub state: Arena,
    /// Gradients of the trained parameters, once a plan stores any.
    pub gradients: Option<Arena>,
    /// Moments of the optimiser, one arena each.
    pub moments: Vec<Arena>,
    /// Moving averages of the trained parameters and of the state, where they are kept.
    pub averages: [Option<Arena>; 2],
    /// The [`TrainingState`], once a plan updates parameters.
    pub training: Option<Arena>,
    /// Layout of each parameter and its place in the arenas.
    pub slots: std::sync::Arc<Vec<Slot>>,
}

impl Memory {
    /// Where the [`TrainingState`] lies, if there is one.
    pub fn training_state(&self) -> Option<Span> {
        let (start, length) = (Bytes(0), Bytes(TrainingState::BYTES));
        self.training.map(|arena| Span { arena, start, length })
    }

    /// The arena that holds a parameter's value.
    pub fn home(&self, parameter: ParamId) -> Arena {
        match self.slots[parameter.index()].role {
            ParamRole::Trained => self.values,
            ParamRole::State => self.state,
        }
    }

    /// The arena that holds a parameter's moving average.
    pub fn home_of_average(&self, parameter: ParamId) -> Option<Arena> {
        let [trained, state] = self.averages;
        match self.slots[parameter.index()].role {
            ParamRole::Trained => trained,
            ParamRole::State => state,
        }
    }

    /// Where a parameter begins in one of the arenas.
    pub fn start(&self, arena: Arena, parameter: ParamId) -> Bytes {
        let slot = &self.slots[parameter.index()];
        match self.moments.contains(&arena) {
            true => slot.moments,
            false => slot.start,
        }
    }
}

/// Tells plans apart, for what backends keep to run them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(u64);

impl PlanId {
    /// One that no other plan of this process has.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PlanId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One run of a plan.
#[derive(Debug)]
pub struct Run<'a> {
    /// Which plan it is: the same at every run, in the same arenas.
    pub id: PlanId,
    /// The plan.
    pub plan: &'a Plan,
    /// The memory it works in.
    pub memory: &'a Memory,
    /// What changes from run to run.
    pub scalars: &'a Scalars,
    /// The tensors given.
    pub inputs: &'a [Tensor],
    /// The tensors to return, in the order of [`Plan::outputs`]; empty where the value is an input
    /// or a parameter.
    pub outputs: &'a mut [Vec<f32>],
}

/// What is left to do for a run that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Its steps have to be issued.
    Issue,
    /// Nothing: the backend replays what it captured of an earlier run.
    Replayed,
}

/// Outputs of one element of a run that was issued and need not be done.
pub trait Pending: Debug + Send + Sync {
    /// Whether the plan's output at this position is one of them.
    fn has(&self, output: usize) -> bool;

    /// Waits for the run; the number at this position of the plan's outputs.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn number(&self, output: usize) -> Result<f32>;
}

/// What arenas held at one moment, for backends on other threads to read.
pub trait Snapshot: Debug + Send + Sync {
    /// A backend of its own on the same device, and those of its arenas that hold the snapshot, in
    /// order. What it writes there, nobody else sees.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn open(&self) -> Result<(Box<dyn Backend>, Vec<Arena>)>;
}

/// The whole contract of a backend.
pub trait Backend: Debug + Send {
    /// What the passes need to know.
    fn facts(&self) -> &Facts;

    /// How the backend keeps a parameter.
    fn layout(&self, parameter: &ParamSpec) -> Layout;

    /// Reserves memory, filled with zeros.
    ///
    /// # Errors
    /// [`crate::Error::Device`] that says how much was needed and how much there was.
    fn reserve(&mut self, bytes: Bytes) -> Result<Arena>;

    /// Makes an arena this large, filled with zeros; what it held is lost. Runs that were issued are
    /// done first.
    ///
    /// # Errors
    /// As [`reserve`](Backend::reserve); the arena has its size of before then.
    fn grow(&mut self, arena: Arena, bytes: Bytes) -> Result<()>;

    /// What arenas hold after everything issued before, for other backends to read.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn snapshot(&mut self, arenas: &[Arena]) -> Result<Arc<dyn Snapshot>>;

    /// Frees what is kept to run a plan, which may be run again.
    fn forget(&mut self, plan: PlanId) {
        let _ = plan;
    }

    /// Writes to the device.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn write(&mut self, at: Span, data: &[f32]) -> Result<()>;

    /// Reads from the device, after everything issued before is done.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn read(&mut self, at: Span) -> Result<Vec<f32>>;

    /// Begins a run: brings its inputs and scalars to where kernels read them.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn begin(&mut self, run: &Run<'_>) -> Result<Begun> {
        let _ = run;
        Ok(Begun::Issue)
    }

    /// Ends a run: brings its outputs back.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn finish(&mut self, run: &mut Run<'_>) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// Ends a run without waiting for it where the backend can: what it returns waits for the
    /// outputs of one element instead, and the others are not brought back. `None` if all outputs
    /// are there, as [`finish`](Backend::finish) leaves them.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn finish_later(&mut self, run: &mut Run<'_>) -> Result<Option<Arc<dyn Pending>>> {
        self.finish(run)?;
        Ok(None)
    }

    /// Issues one step of a run on its lane.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the kernel, the layer's path and the driver's message.
    fn launch(&mut self, run: &mut Run<'_>, step: usize) -> Result<()>;

    /// Records an event on a lane.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn record(&mut self, lane: Lane, event: Event) -> Result<()>;

    /// Makes a lane wait for an event.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn wait(&mut self, lane: Lane, event: Event) -> Result<()>;

    /// Takes the times of steps from now on, where calls that launch them return before they are done.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the driver cannot tell them.
    fn time_steps(&mut self) -> Result<()> {
        Ok(())
    }

    /// The times of all steps of the run that was issued last, which is waited for, and their clock; `None`
    /// if a step is done when the call that launches it returns.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn step_times(&mut self) -> Result<Option<(StepClock, Vec<StepTime>)>> {
        Ok(None)
    }

    /// Waits until everything issued is done.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    fn sync(&mut self) -> Result<()>;
}
