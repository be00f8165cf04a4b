// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of trained parameters in the 16 bits that products take. Optimisers write them along with the
//! parameters, so they are made from these only after the host wrote some.

use std::collections::BTreeMap;

use cudarc::driver::CudaStream;

use super::gpu::Gpu;
use super::kernels::Kernels;
use super::lower::cast;
use super::memory::{Address, DeviceMemory};
use super::program::Ready;
use crate::backend::Arena;
use crate::{DType, Result};

/// The copies of a backend's arenas.
#[derive(Debug, Default)]
pub(super) struct Shadows {
    of: BTreeMap<Arena, Shadow>,
}

#[derive(Debug)]
struct Shadow {
    memory: DeviceMemory,
    /// Makes the copy.
    cast: Ready,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is what the parameters are.
    Current,
    /// The host has written parameters.
    Outdated,
}

impl Shadows {
    /// Where the copy of an arena in a type lies; nowhere for `f32`. One that is not there is reserved.
    pub(super) fn reserve(
        &mut self,
        (gpu, stream): (&Gpu, &CudaStream),
        kernels: &mut Kernels,
        (arena, values): (Arena, &DeviceMemory),
        dtype: DType,
    ) -> Result<Address> {
        if dtype == DType::F32 {
            return Ok(Address::NONE);
        }
        if let Some(shadow) = self.of.get(&arena) {
            return Ok(shadow.memory.address());
        }
        let count = values.bytes() / DType::F32.bytes();
        let memory = DeviceMemory::zeroed(gpu, stream, dtype.bytes() * count)?;
        let launch = cast([memory.address(), values.address()], count, [DType::F32, dtype]);
        let function = kernels.get(gpu, &launch.kernel, launch.grid.shared)?;
        let address = memory.address();
        let cast = Ready::Launch(launch, function);
        self.of.insert(arena, Shadow { memory, cast, state: State::Outdated });
        Ok(address)
    }

    /// The host writes to an arena.
    pub(super) fn outdate(&mut self, arena: Arena) {
        if let Some(shadow) = self.of.get_mut(&arena) {
            shadow.state = State::Outdated;
        }
    }

    /// What makes the copy of an arena again, if that is needed.
    pub(super) fn missing(&self, arena: Arena) -> Option<&Ready> {
        let shadow = self.of.get(&arena).filter(|shadow| shadow.state == State::Outdated);
        shadow.map(|shadow| &shadow.cast)
    }

    /// That was done.
    pub(super) fn made(&mut self, arena: Arena) {
        if let Some(shadow) = self.of.get_mut(&arena) {
            shadow.state = State::Current;
        }
    }
}
