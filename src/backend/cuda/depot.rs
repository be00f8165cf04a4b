// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device as those see it who bring data to it before a network asks for them.

use std::sync::Arc;

use super::driver::{free_memory, CudaStream};
use super::gpu::{Gpu, Held};
use super::lent::Idle;
use crate::Result;

/// A device to which data are brought.
#[derive(Clone, Debug)]
pub(crate) struct Depot {
    pub(super) idle: Idle,
    pub(super) stream: Arc<CudaStream>,
    pub(super) gpu: Gpu,
}

impl Depot {
    /// Opens a device, which stays open as `held` says.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no driver or no such device.
    pub(crate) fn open(ordinal: usize, held: &Held) -> Result<Self> {
        let gpu = Gpu::open(ordinal)?;
        held.keep(&gpu);
        let stream = gpu.context().new_stream();
        let stream = stream.map_err(|error| gpu.error("making a stream", error))?;
        Ok(Depot { idle: Idle::default(), stream, gpu })
    }

    /// As [`Cuda::room_for_samples`](super::Cuda::room_for_samples).
    pub(crate) fn room_for_samples(&self) -> Result<usize> {
        self.gpu.room_for_samples()
    }
}

impl Gpu {
    /// As [`Cuda::room_for_samples`](super::Cuda::room_for_samples).
    pub(super) fn room_for_samples(&self) -> Result<usize> {
        self.bind()?;
        let told = free_memory();
        let (free, _) = told.map_err(|error| self.error("asking for free memory", error))?;
        Ok(free / SHARE)
    }
}

/// Of the free memory of a device, samples take at most one part in so many without being asked to.
const SHARE: usize = 4;
