// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory from which a device copies by itself, for batches that are made on the host.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::depot::Depot;
use super::gpu::Gpu;
use super::memory::Pinned;
use crate::tensor::Elsewhere;
use crate::Result;

/// Pinned memory that nobody uses.
pub(super) type Idle = Arc<Mutex<Vec<Pinned>>>;

/// Pinned memory kept for reuse: as many batches as are made ahead and on their way.
const IDLE: usize = 8;

/// Floating-point numbers in pinned memory, which is used again when they are dropped.
#[derive(Debug)]
pub(crate) struct Lent {
    /// `None` only while it is dropped.
    memory: Option<Pinned>,
    bytes: usize,
    gpu: Gpu,
    idle: Idle,
}

impl Depot {
    /// So many zeros.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no memory that can be pinned.
    pub(crate) fn lend(&self, elements: usize) -> Result<Lent> {
        let bytes = elements.saturating_mul(size_of::<f32>());
        let used = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = idle.iter().position(|memory| memory.bytes().len() >= bytes);
            // A size that nobody asks for any more makes room.
            let index = fits.or((idle.len() >= IDLE).then_some(0));
            index.map(|index| idle.swap_remove(index)).filter(|_| fits.is_some())
        };
        let mut memory = match used {
            Some(memory) => memory,
            None => Pinned::new(&self.gpu, bytes)?,
        };
        memory.bytes_mut()[..bytes].fill(0);
        Ok(Lent { memory: Some(memory), bytes, gpu: self.gpu.clone(), idle: self.idle.clone() })
    }
}

impl Lent {
    /// Whether the memory is that of a device.
    pub(super) fn is_of(&self, gpu: &Gpu) -> bool {
        self.gpu.is(gpu)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory.bytes()[..self.bytes])
    }

    /// The numbers, to be written.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        let bytes = self.bytes;
        self.memory
            .as_mut()
            .map_or(&mut [], |memory| bytemuck::cast_slice_mut(&mut memory.bytes_mut()[..bytes]))
    }
}

impl Elsewhere for Lent {
    fn values(&self) -> Result<&[f32]> {
        Ok(bytemuck::cast_slice(self.bytes()))
    }

    fn samples(&self, _: usize, _: Range<usize>) -> Option<Arc<dyn Elsewhere>> {
        None
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = self.memory.take().filter(|_| idle.len() < IDLE) {
            idle.push(memory);
        }
    }
}
