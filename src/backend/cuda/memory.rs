// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device memory and pinned host memory.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use super::calls;
use super::driver::{self, CudaContext, CudaStream};
use super::gpu::Gpu;
use super::turns::Turns;
use crate::{Error, Result};

/// An address in device memory; 0 stands for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(super) struct Address(pub(super) u64);

impl Address {
    pub(super) const NONE: Address = Address(0);

    /// The address this many bytes further on.
    pub(super) fn plus(self, bytes: usize) -> Self {
        Address(self.0 + bytes as u64)
    }
}

/// Device memory that is freed when dropped.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    context: Arc<CudaContext>,
    turns: Arc<Turns>,
    address: Address,
    bytes: usize,
}

impl DeviceMemory {
    /// No memory.
    pub(super) fn none(gpu: &Gpu) -> Self {
        let (context, turns) = (gpu.context().clone(), gpu.turns().clone());
        DeviceMemory { context, turns, address: Address::NONE, bytes: 0 }
    }

    /// Memory filled with zeros; the zeros are there before anything issued later.
    pub(super) fn zeroed(gpu: &Gpu, stream: &CudaStream, bytes: usize) -> Result<Self> {
        gpu.bind()?;
        let bytes = bytes.max(1).next_multiple_of(super::ALIGNMENT);
        let allocated = {
            let _turn = gpu.turns().call();
            let mut address = 0;
            // SAFETY: the context is current; the size is not zero; the place is valid to write.
            unsafe { calls::cuMemAlloc_v2(&mut address, bytes) }.map(|()| address)
        };
        let address =
            allocated.map_err(|error| out_of_memory(gpu, bytes, gpu.error("allocation", error)))?;
        let (context, turns) = (gpu.context().clone(), gpu.turns().clone());
        let memory = DeviceMemory { context, turns, address: Address(address), bytes };
        // SAFETY: the range was just allocated, and nothing else knows of it.
        unsafe { calls::cuMemsetD8Async(memory.address.0, 0, bytes, stream.cu_stream()) }
            .and_then(|()| stream.synchronize())
            .map_err(|error| gpu.error("filling memory", error))?;
        Ok(memory)
    }

    /// The same bytes at another address; they are there when this returns. Everything that was
    /// issued to write them is done.
    pub(super) fn copied(&self, gpu: &Gpu, stream: &CudaStream) -> Result<Self> {
        let copy = DeviceMemory::zeroed(gpu, stream, self.bytes)?;
        let (to, from) = (copy.address.0, self.address.0);
        // SAFETY: both are device memory of at least this size, and they do not overlap.
        unsafe { calls::cuMemcpyDtoDAsync_v2(to, from, self.bytes, stream.cu_stream()) }
            .and_then(|()| stream.synchronize())
            .map_err(|error| gpu.error("copying device memory", error))?;
        Ok(copy)
    }

    pub(super) fn address(&self) -> Address {
        self.address
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.address == Address::NONE {
            return;
        }
        let _turn = self.turns.call();
        let freed = self.context.bind_to_thread().and_then(|()| {
            // SAFETY: allocated by `zeroed` and freed once. `cuMemFree` waits for kernels that use it.
            unsafe { calls::cuMemFree_v2(self.address.0) }
        });
        if let Err(error) = freed {
            tracing::debug!(%error, "device memory was not freed");
        }
    }
}

/// Says how much was needed and how much there was, if that was the reason.
fn out_of_memory(gpu: &Gpu, needed: usize, error: Error) -> Error {
    match (&error, driver::free_memory()) {
        (Error::Device { device, message }, Ok((free, total))) if free < needed => Error::Device {
            device: device.clone(),
            message: format!(
                "out of memory: {} MiB needed, {} MiB of {} MiB free on {} ({message})",
                mebibytes(needed),
                mebibytes(free),
                mebibytes(total),
                gpu.model(),
            ),
        },
        _ => error,
    }
}

fn mebibytes(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

/// Host memory that the device copies from and to without the driver's help.
#[derive(Debug)]
pub(super) struct Pinned {
    context: Arc<CudaContext>,
    turns: Arc<Turns>,
    data: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to this value alone, and `&mut self` guards every access to it.
unsafe impl Send for Pinned {}

// SAFETY: through `&self` the memory is only read.
unsafe impl Sync for Pinned {}

impl Pinned {
    pub(super) fn new(gpu: &Gpu, bytes: usize) -> Result<Self> {
        gpu.bind()?;
        let bytes = bytes.max(1).next_multiple_of(super::ALIGNMENT);
        let allocated = {
            let _turn = gpu.turns().call();
            let mut data = std::ptr::null_mut();
            // SAFETY: the context is current, and the place is valid to write. No flags: the memory is
            // cached, since it is also read.
            unsafe { calls::cuMemHostAlloc(&mut data, bytes, 0) }.map(|()| data)
        };
        let data =
            allocated.map_err(|error| gpu.error("allocation of pinned host memory", error))?;
        let data = NonNull::new(data.cast::<u8>()).ok_or_else(|| Error::Device {
            device: gpu.name().into(),
            message: "the driver gave no pinned host memory".into(),
        })?;
        // SAFETY: the range was just allocated with this size.
        unsafe { data.write_bytes(0, bytes) };
        Ok(Pinned { context: gpu.context().clone(), turns: gpu.turns().clone(), data, bytes })
    }

    /// The bytes. The caller has waited for copies to them.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and initialised with this size; borrowed from `self`, which owns it.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.bytes) }
    }

    /// The bytes. The caller has waited for copies that use them.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: allocated and initialised with this size; borrowed from `self`, which owns it.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _turn = self.turns.call();
        let freed = self.context.bind_to_thread().and_then(|()| {
            // SAFETY: allocated by `new` and freed once.
            unsafe { calls::cuMemFreeHost(self.data.as_ptr().cast::<c_void>()) }
        });
        if let Err(error) = freed {
            tracing::debug!(%error, "pinned memory was not freed");
        }
    }
}
