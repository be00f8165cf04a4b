// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's objects, each owned by one value: a device's context, streams, events, modules, functions.
//!
//! Every function makes the context that it needs the calling thread's. What cannot be freed is logged: whoever drops
//! a value has nobody to tell.

use std::ffi::{c_int, CString};
use std::sync::Arc;

use cudarc::driver::sys::{
    CUcontext, CUctx_flags, CUdevice, CUdevice_attribute, CUevent, CUevent_flags, CUfunction,
    CUfunction_attribute, CUmodule, CUstream, CUstream_flags,
};

use super::calls::*;

/// How a thread waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// As the driver chooses. Mostly it asks again and again, which takes a processor meanwhile.
    Usual,
    /// It sleeps until it is woken.
    Sleeping,
}

impl Waits {
    /// So many processors are none too many for the loader's threads and the one that trains.
    const SPARE: usize = 4;

    /// What suits so many processors.
    pub(super) fn with(processors: usize) -> Self {
        match processors > Self::SPARE {
            true => Waits::Usual,
            false => Waits::Sleeping,
        }
    }
}

/// A device's primary context.
#[derive(Debug)]
pub(super) struct CudaContext {
    device: CUdevice,
    context: CUcontext,
}

// SAFETY: a context is used by any thread that makes it current; the driver orders what they do.
unsafe impl Send for CudaContext {}
// SAFETY: as above.
unsafe impl Sync for CudaContext {}

impl CudaContext {
    /// Opens a device whose threads wait as they are told, and makes its context current.
    pub(super) fn new(ordinal: usize, waits: Waits) -> Result<Arc<Self>> {
        let device = device(ordinal)?;
        let mut context = std::ptr::null_mut();
        if waits == Waits::Sleeping {
            let flags = CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as u32;
            // SAFETY: the device is the driver's.
            if let Err(error) = unsafe { cuDevicePrimaryCtxSetFlags_v2(device, flags) } {
                // What another part of this process chose holds: nothing is wrong, but slower.
                tracing::debug!(%error, "threads wait for the device as they did");
            }
        }
        // SAFETY: the device is the driver's, and the place is valid to write.
        unsafe { cuDevicePrimaryCtxRetain(&mut context, device)? };
        let context = CudaContext { device, context };
        context.bind_to_thread()?;
        Ok(Arc::new(context))
    }

    /// Makes it the calling thread's.
    pub(super) fn bind_to_thread(&self) -> Result<()> {
        let mut current = std::ptr::null_mut();
        // SAFETY: the place is valid to write, and the context was retained.
        unsafe {
            cuCtxGetCurrent(&mut current)?;
            match current == self.context {
                true => Ok(()),
                false => cuCtxSetCurrent(self.context),
            }
        }
    }

    pub(super) fn attribute(&self, attribute: CUdevice_attribute) -> Result<i32> {
        attribute_of(self.device, attribute)
    }

    /// A stream that waits for no other unless it is told to.
    pub(super) fn new_stream(self: &Arc<Self>) -> Result<Arc<CudaStream>> {
        self.bind_to_thread()?;
        let mut stream = std::ptr::null_mut();
        // SAFETY: the context is current, and the place is valid to write.
        unsafe { cuStreamCreate(&mut stream, CUstream_flags::CU_STREAM_NON_BLOCKING as u32)? };
        Ok(Arc::new(CudaStream { context: self.clone(), stream }))
    }

    /// An event that tells no time, unless other flags say so.
    pub(super) fn new_event(self: &Arc<Self>, flags: Option<CUevent_flags>) -> Result<CudaEvent> {
        self.bind_to_thread()?;
        let flags = flags.unwrap_or(CUevent_flags::CU_EVENT_DISABLE_TIMING);
        let mut event = std::ptr::null_mut();
        // SAFETY: the context is current, and the place is valid to write.
        unsafe { cuEventCreate(&mut event, flags as u32)? };
        Ok(CudaEvent { context: self.clone(), event })
    }

    /// Loads machine code, or PTX, which ends with a zero.
    pub(super) fn load_module(self: &Arc<Self>, image: &[u8]) -> Result<Arc<CudaModule>> {
        self.bind_to_thread()?;
        let mut module = std::ptr::null_mut();
        // SAFETY: the context is current; machine code tells its own length, and text ends with a zero.
        unsafe { cuModuleLoadData(&mut module, image.as_ptr().cast())? };
        Ok(Arc::new(CudaModule { context: self.clone(), module }))
    }

    /// Frees something of the context's.
    fn free(&self, what: &str, free: impl FnOnce() -> Result<()>) {
        if let Err(error) = self.bind_to_thread().and_then(|()| free()) {
            tracing::debug!(%error, "{what} was not freed");
        }
    }
}

impl Drop for CudaContext {
    fn drop(&mut self) {
        // SAFETY: retained once, released once.
        self.free("a context", || unsafe { cuDevicePrimaryCtxRelease_v2(self.device) });
    }
}

/// Work in order.
#[derive(Debug)]
pub(super) struct CudaStream {
    context: Arc<CudaContext>,
    stream: CUstream,
}

// SAFETY: the driver lets any thread put work on a stream.
unsafe impl Send for CudaStream {}
// SAFETY: as above.
unsafe impl Sync for CudaStream {}

impl CudaStream {
    /// The handle, which lives as long as this value.
    pub(super) fn cu_stream(&self) -> CUstream {
        self.stream
    }

    /// Waits for all that was put on it.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.context.bind_to_thread()?;
        // SAFETY: the stream lives.
        unsafe { cuStreamSynchronize(self.stream) }
    }

    /// What is put on it later waits for what an event was recorded behind.
    pub(super) fn wait(&self, event: &CudaEvent) -> Result<()> {
        self.context.bind_to_thread()?;
        // SAFETY: both live.
        unsafe { cuStreamWaitEvent(self.stream, event.event, 0) }
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once; what is on it still runs.
        self.context.free("a stream", || unsafe { cuStreamDestroy_v2(self.stream) });
    }
}

/// A point in the work of a stream.
#[derive(Debug)]
pub(super) struct CudaEvent {
    context: Arc<CudaContext>,
    event: CUevent,
}

// SAFETY: the driver lets any thread record an event and wait for it.
unsafe impl Send for CudaEvent {}
// SAFETY: as above.
unsafe impl Sync for CudaEvent {}

impl CudaEvent {
    pub(super) fn record(&self, stream: &CudaStream) -> Result<()> {
        if !Arc::ptr_eq(&self.context, &stream.context) {
            return Err(DriverError::INVALID_CONTEXT);
        }
        self.context.bind_to_thread()?;
        // SAFETY: both live.
        unsafe { cuEventRecord(self.event, stream.stream) }
    }

    /// Waits for what it was recorded behind.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.context.bind_to_thread()?;
        // SAFETY: the event lives.
        unsafe { cuEventSynchronize(self.event) }
    }

    /// Milliseconds from this event to a later one. Waits for both.
    pub(super) fn elapsed_ms(&self, end: &Self) -> Result<f32> {
        self.synchronize()?;
        end.synchronize()?;
        let mut milliseconds = 0.0;
        // SAFETY: both live, and the place is valid to write.
        unsafe { cuEventElapsedTime(&mut milliseconds, self.event, end.event)? };
        Ok(milliseconds)
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once.
        self.context.free("an event", || unsafe { cuEventDestroy_v2(self.event) });
    }
}

/// Kernels that were loaded.
#[derive(Debug)]
pub(super) struct CudaModule {
    context: Arc<CudaContext>,
    module: CUmodule,
}

// SAFETY: the driver lets any thread look functions up.
unsafe impl Send for CudaModule {}
// SAFETY: as above.
unsafe impl Sync for CudaModule {}

impl CudaModule {
    pub(super) fn load_function(self: &Arc<Self>, name: &str) -> Result<CudaFunction> {
        self.context.bind_to_thread()?;
        let name: Vec<u8> = name.bytes().filter(|&byte| byte != 0).collect();
        let name = CString::new(name).unwrap_or_default();
        let mut function = std::ptr::null_mut();
        // SAFETY: the module lives, the name ends with a zero, and the place is valid to write.
        unsafe { cuModuleGetFunction(&mut function, self.module, name.as_ptr())? };
        Ok(CudaFunction { module: self.clone(), function })
    }
}

impl Drop for CudaModule {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once; its functions hold it.
        self.context.free("a module", || unsafe { cuModuleUnload(self.module) });
    }
}

/// A kernel, which keeps its module loaded.
#[derive(Clone, Debug)]
pub(super) struct CudaFunction {
    module: Arc<CudaModule>,
    function: CUfunction,
}

// SAFETY: the driver lets any thread launch a function.
unsafe impl Send for CudaFunction {}
// SAFETY: as above.
unsafe impl Sync for CudaFunction {}

impl CudaFunction {
    /// The handle, which lives as long as this value.
    pub(super) fn cu_function(&self) -> CUfunction {
        self.function
    }

    pub(super) fn set_attribute(&self, attribute: CUfunction_attribute, value: i32) -> Result<()> {
        self.module.context.bind_to_thread()?;
        // SAFETY: the function lives.
        unsafe { cuFuncSetAttribute(self.function, attribute, value) }
    }

    /// Blocks of so many threads and bytes of shared memory that a multiprocessor runs beside each other.
    pub(super) fn blocks_per_multiprocessor(&self, threads: u32, shared: usize) -> Result<u32> {
        self.module.context.bind_to_thread()?;
        let threads = c_int::try_from(threads).unwrap_or(c_int::MAX);
        let mut blocks = 0;
        // SAFETY: the function lives, and the place is valid to write.
        unsafe {
            cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
                &mut blocks,
                self.function,
                threads,
                shared,
                0,
            )?;
        }
        Ok(u32::try_from(blocks).unwrap_or(0))
    }
}

/// Starts the driver; how many devices it answers for.
pub(super) fn count_devices() -> Result<usize> {
    let mut count = 0;
    // SAFETY: the place is valid to write.
    unsafe {
        cuInit(0)?;
        cuDeviceGetCount(&mut count)?;
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

/// A device by its number. The driver was started.
pub(super) fn device(ordinal: usize) -> Result<CUdevice> {
    let mut device = 0;
    let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
    // SAFETY: the place is valid to write.
    unsafe { cuDeviceGet(&mut device, ordinal)? };
    Ok(device)
}

pub(super) fn attribute_of(device: CUdevice, attribute: CUdevice_attribute) -> Result<i32> {
    let mut value = 0;
    // SAFETY: the place is valid to write.
    unsafe { cuDeviceGetAttribute(&mut value, attribute, device)? };
    Ok(value)
}

/// A device's model, and its memory in bytes.
pub(super) fn model_and_memory(device: CUdevice) -> Result<(String, usize)> {
    const LENGTH: c_int = 128;
    let (mut name, mut memory) = ([0u8; LENGTH as usize], 0);
    // SAFETY: the places are valid to write, and the length is that of the name's.
    unsafe {
        cuDeviceGetName(name.as_mut_ptr().cast(), LENGTH, device)?;
        cuDeviceTotalMem_v2(&mut memory, device)?;
    }
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok((String::from_utf8_lossy(&name[..length]).into_owned(), memory))
}

/// The latest CUDA that the driver knows.
pub(super) fn version() -> Result<(u32, u32)> {
    let mut version = 0;
    // SAFETY: the place is valid to write.
    unsafe { cuDriverGetVersion(&mut version)? };
    let version = u32::try_from(version).unwrap_or(0);
    Ok((version / 1000, version % 1000 / 10))
}

/// Copies to the device, in the order of a stream of the current context.
///
/// # Safety
/// There is device memory of this size at `to`, and both places stay as they are until the copy is done.
pub(super) unsafe fn copy_up(to: u64, from: &[u8], stream: &CudaStream) -> Result<()> {
    // SAFETY: by the caller's promise.
    unsafe { cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), stream.stream) }
}

/// Copies from the device, in the order of a stream of the current context.
///
/// # Safety
/// There is device memory of this size at `from`, and nothing touches `to` until the copy is done.
pub(super) unsafe fn copy_down(to: &mut [u8], from: u64, stream: &CudaStream) -> Result<()> {
    // SAFETY: by the caller's promise.
    unsafe { cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), stream.stream) }
}

/// Bytes of the current device that are free, and all.
pub(super) fn free_memory() -> Result<(usize, usize)> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: the places are valid to write.
    unsafe { cuMemGetInfo_v2(&mut free, &mut total)? };
    Ok((free, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_sleeps_where_its_processor_is_needed() {
        let with = [1, 2, 4, 5, 16].map(Waits::with);
        let (few, many) = with.split_at(3);
        assert!(few.iter().all(|waits| *waits == Waits::Sleeping), "{few:?}");
        assert!(many.iter().all(|waits| *waits == Waits::Usual), "{many:?}");
    }
}
