// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPU backend.

mod memory;
mod plain;

use std::num::NonZeroUsize;

use memory::Arenas;

use super::{Arena, Backend, Facts, HostMemory, Layout, Run, Span, UpdatePlace};
use crate::graph::ParamSpec;
use crate::plan::{Bytes, Event, Lane};
use crate::Result;

/// Alignment of buffers: a cache line, which is also the widest vector.
const ALIGNMENT: usize = 64;

/// The CPU.
#[derive(Debug)]
pub struct Cpu {
    facts: Facts,
    arenas: Arenas,
}

impl Cpu {
    /// The CPU with a number of threads.
    pub fn new(_threads: NonZeroUsize) -> Self {
        let facts = Facts {
            name: "cpu".into(),
            lanes: 1,
            alignment: ALIGNMENT,
            host_memory: HostMemory::Direct,
            update_place: UpdatePlace::WeightGradient,
        };
        Cpu { facts, arenas: Arenas::default() }
    }
}

impl Backend for Cpu {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn layout(&self, _parameter: &ParamSpec) -> Layout {
        Layout::RowMajor
    }

    fn reserve(&mut self, bytes: Bytes) -> Result<Arena> {
        Ok(self.arenas.reserve(bytes))
    }

    fn write(&mut self, at: Span, data: &[f32]) -> Result<()> {
        self.arenas.slice_mut(at).copy_from_slice(data);
        Ok(())
    }

    fn read(&mut self, at: Span) -> Result<Vec<f32>> {
        Ok(self.arenas.slice(at).to_vec())
    }

    fn launch(&mut self, run: &mut Run<'_>, step: usize) -> Result<()> {
        plain::launch(&mut self.arenas, run, step)
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
