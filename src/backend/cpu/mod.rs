// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPU backend.

mod exchange;
mod launch;
mod loops;
mod memory;
mod operands;
mod plain;
mod pool;
mod rounding;
mod simd;
mod state;

use std::num::NonZeroUsize;

use launch::Engine;
use memory::Arenas;
use pool::Pool;
use simd::Isa;
pub(super) use simd::PanelLayout;

use super::{Arena, Backend, Facts, Fusion, HostMemory, Layout, Run, Span, Storage, UpdatePlace};
use crate::graph::{ParamSpec, ParamUsage};
use crate::plan::{Bytes, Event, Lane};
use crate::{allocate, Precision, Result};

/// Alignment of buffers: threads that write different ones share no cache line. The widest vector
/// has half as many bytes.
const ALIGNMENT: usize = exchange::APART;

/// Biases are padded to half a panel, so that kernels load whole vectors.
const BIAS_MULTIPLE: usize = 16;

/// The CPU.
#[derive(Debug)]
pub struct Cpu {
    facts: Facts,
    engine: Engine,
    arenas: Arenas,
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
            update_place: UpdatePlace::WeightGradient,
            fusion: Fusion::WithinLayers,
            precision,
            storage: Storage::Widened,
        };
        let engine = Engine { pool: Pool::new(threads), isa: Isa::best() };
        Cpu { facts, engine, arenas: Arenas::default() }
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
        match (parameter.usage, parameter.shape.rank()) {
            (ParamUsage::LinearWeight, _) => Layout::Panels,
            (ParamUsage::Plain, 1) => Layout::Padded(BIAS_MULTIPLE),
            (ParamUsage::Plain, _) => Layout::RowMajor,
        }
    }

    fn reserve(&mut self, bytes: Bytes) -> Result<Arena> {
        self.arenas.reserve(bytes)
    }

    fn write(&mut self, at: Span, data: &[f32]) -> Result<()> {
        self.arenas.slice_mut(at).copy_from_slice(data);
        Ok(())
    }

    fn read(&mut self, at: Span) -> Result<Vec<f32>> {
        let stored = self.arenas.slice(at);
        let mut values = allocate::room(stored.len(), "what is read from the device")?;
        values.extend_from_slice(stored);
        Ok(values)
    }

    fn launch(&mut self, run: &mut Run<'_>, step: usize) -> Result<()> {
        launch::launch(&self.engine, &mut self.arenas, run, step)
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
