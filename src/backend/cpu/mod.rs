// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPU backend.
//!
//! `program` looks up once per plan what is the same in every run of a step; `launch` takes a step to its
//! loop in `simd`, with `operands` borrowed from the arenas of `memory`, or to `plain`. `choice` says what
//! runs when and why, and `path` what that comes to for a step. `pool` holds the threads and `exchange`
//! says how results pass between them; `rounding` does what precisions other than `f32` round, `state`
//! changes what is not trained, `loops` holds what is too rare or small for vectors; `layouts` says how parameters lie;
//! `ceilings` measures what the machine gives.

mod ceilings;
mod choice;
mod exchange;
mod launch;
mod layouts;
mod loops;
mod memory;
mod operands;
mod path;
mod plain;
mod pool;
mod program;
mod rounding;
mod simd;
mod state;

use std::collections::btree_map::{BTreeMap, Entry};
use std::num::NonZeroUsize;
use std::sync::Arc;

pub use ceilings::{Ceilings, CopyRate, Gauge};
use launch::Engine;
use memory::{Aligned, Arenas};
pub use path::{paths, Path};
use pool::Pool;
use program::Program;
use simd::Isa;
pub(super) use simd::PanelLayout;

use super::{
    Arena, Backend, Facts, Fusion, Grouping, HostMemory, ImageKernels, Layout, PlanId, Run,
    Snapshot, Span, Storage, UpdatePlace,
};
use crate::graph::{MemoryFormat, ParamSpec};
use crate::plan::{Bytes, Event, Lane};
use crate::{allocate, Convolutions, Precision, Result};

/// Alignment of buffers: threads that write different ones share no cache line. The widest vector
/// has half as many bytes.
const ALIGNMENT: usize = exchange::APART;

/// The CPU.
#[derive(Debug)]
pub struct Cpu {
    facts: Facts,
    engine: Engine,
    arenas: Arenas,
    programs: BTreeMap<PlanId, Program>,
}

/// What arenas held at one moment.
#[derive(Debug)]
struct Shared {
    arenas: Vec<Arc<Aligned>>,
    facts: Facts,
}

impl Cpu {
    /// The CPU with a number of threads.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self::with_precision(threads, Precision::default())
    }

    /// The CPU with a number of threads, rounding where a GPU of this precision does.
    pub fn with_precision(threads: NonZeroUsize, precision: Precision) -> Self {
        let facts = Facts {
            name: "cpu".into(),
            lanes: 1,
            alignment: ALIGNMENT,
            host_memory: HostMemory::Direct,
            given: 0,
            update_place: UpdatePlace::WeightGradient,
            fusion: Fusion::WithinLayers,
            grouping: Grouping::NONE,
            precision,
            storage: Storage::Widened,
            image_format: MemoryFormat::ChannelsLast,
            images: ImageKernels::Own,
        };
        let engine = Engine { pool: Pool::new(threads), isa: Isa::best() };
        Cpu { facts, engine, arenas: Arenas::default(), programs: BTreeMap::new() }
    }

    /// The same, computing convolutions in another way.
    pub fn with_convolutions(mut self, convolutions: Convolutions) -> Self {
        self.facts.images = match convolutions {
            Convolutions::Fast => ImageKernels::Own,
            Convolutions::Precise => ImageKernels::Precise,
        };
        self
    }

    /// Name of the instruction set that the kernels use on this machine: `"AVX-512"`.
    pub fn instruction_set() -> String {
        Isa::best().to_string()
    }
}

impl Backend for Cpu {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn layout(&self, parameter: &ParamSpec) -> Layout {
        layouts::layout(parameter)
    }

    fn reserve(&mut self, bytes: Bytes) -> Result<Arena> {
        self.arenas.reserve(bytes)
    }

    fn grow(&mut self, arena: Arena, bytes: Bytes) -> Result<()> {
        self.arenas.grow(arena, bytes)
    }

    fn snapshot(&mut self, arenas: &[Arena]) -> Result<Arc<dyn Snapshot>> {
        let arenas = arenas.iter().map(|&arena| self.arenas.share(arena)).collect();
        Ok(Arc::new(Shared { arenas, facts: self.facts.clone() }))
    }

    fn forget(&mut self, plan: PlanId) {
        self.programs.remove(&plan);
    }

    fn write(&mut self, at: Span, data: &[f32]) -> Result<()> {
        self.arenas.slice_mut(at)?.copy_from_slice(data);
        Ok(())
    }

    fn read(&mut self, at: Span) -> Result<Vec<f32>> {
        let stored = self.arenas.slice(at);
        let mut values = allocate::room(stored.len(), "what is read from the device")?;
        values.extend_from_slice(stored);
        Ok(values)
    }

    fn launch(&mut self, run: &mut Run<'_>, step: usize) -> Result<()> {
        let program = match self.programs.entry(run.id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Program::new(run.plan, run.memory)?),
        };
        launch::launch(&self.engine, &mut self.arenas, program, run, step)
    }

    fn finish(&mut self, run: &mut Run<'_>) -> Result<()> {
        match self.programs.get(&run.id).is_some_and(|program| program.updates) {
            true => state::count_update(&mut self.arenas, run.memory),
            false => Ok(()),
        }
    }

    fn record(&mut self, _lane: Lane, _event: Event) -> Result<()> {
        Ok(()) // one lane: everything runs in issue order
    }

    fn wait(&mut self, _lane: Lane, _event: Event) -> Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Snapshot for Shared {
    fn open(&self) -> Result<(Box<dyn Backend>, Vec<Arena>)> {
        // Several threads are at work already, each with a backend of its own.
        let mut cpu = Cpu::with_precision(NonZeroUsize::MIN, self.facts.precision);
        cpu.facts = self.facts.clone();
        let arenas = self.arenas.iter().map(|arena| cpu.arenas.read_along(arena.clone())).collect();
        Ok((Box::new(cpu), arenas))
    }
}
