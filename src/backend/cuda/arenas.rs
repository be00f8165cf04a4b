// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where state lies in a backend's arenas, and copies of them, which backends on other threads read.

use std::sync::Arc;

use super::lower::Places;
use super::memory::{Address, DeviceMemory};
use super::options::CudaOptions;
use super::Cuda;
use crate::backend::{Arena, Backend, Memory, Snapshot};
use crate::Result;

/// What arenas held at one moment.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) ordinal: usize,
    pub(super) options: CudaOptions,
    pub(super) arenas: Vec<Arc<DeviceMemory>>,
}

impl Snapshot for Copied {
    fn open(&self) -> Result<(Box<dyn Backend>, Vec<Arena>)> {
        let mut cuda = Cuda::new(self.ordinal, self.options)?;
        let arenas = self.arenas.iter().map(|memory| cuda.adopt(memory.clone())).collect();
        Ok((Box::new(cuda), arenas))
    }
}

/// Where the state of a network and a plan's arena lie.
pub(super) fn places<'a>(
    arenas: &[Arc<DeviceMemory>],
    memory: &'a Memory,
    seed: u64,
) -> Places<'a> {
    let address = |arena: Arena| arenas[arena.0 as usize].address();
    Places {
        plan: address(memory.plan),
        values: address(memory.values),
        state: address(memory.state),
        gradients: memory.gradients.map(address),
        moments: memory.moments.iter().map(|&arena| address(arena)).collect(),
        averages: memory.averages.map(|arena| arena.map(address)),
        training: memory.training.map_or(Address::NONE, address),
        slots: &memory.slots,
        seed,
    }
}
