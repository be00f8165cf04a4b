// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entry points for memory: allocating, freeing, copying and filling.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use crate::capture::Reach;
use crate::driver::{call, call_always, Driver};
use crate::execute::{Place, Work};
use crate::memory::{Life, When};
use crate::status::{put, Result, Status};
use crate::stream::StreamHandle;

impl Driver {
    fn allocate(&mut self, bytes: usize, life: Life) -> Result<usize> {
        if bytes == 0 {
            return Err(Status::INVALID_VALUE);
        }
        let free = self.settings.memory.saturating_sub(self.memory.used);
        if bytes > free {
            return self.refuse(
                Status::OUT_OF_MEMORY,
                format!("{bytes} bytes asked for, {free} of {} are free", self.settings.memory),
            );
        }
        let tracking = self.tracking();
        match self.memory.allocate(bytes, life, tracking) {
            Some(address) => {
                self.counters.allocations += 1;
                Ok(address)
            }
            None => self.refuse(
                Status::OUT_OF_MEMORY,
                format!("the host has no room for {bytes} bytes of simulated memory"),
            ),
        }
    }

    fn check_range(&mut self, what: &str, address: usize, bytes: usize) -> Result<()> {
        match self.memory.complain(address, bytes, When::Queued) {
            Some(complaint) => self.refuse(Status::INVALID_VALUE, format!("{what}: {complaint}")),
            None => Ok(()),
        }
    }

    fn copy_to_device(
        &mut self,
        to: usize,
        from: usize,
        bytes: usize,
        stream: StreamHandle,
    ) -> Result<()> {
        self.check_range("destination of a copy", to, bytes)?;
        let source = if self.memory.is_pinned(from) {
            Place::Host(from) // read when the copy runs, as the hardware does
        } else {
            // SAFETY: the caller of the entry point promises `bytes` readable bytes.
            Place::Snapshot(Arc::new(
                unsafe { std::slice::from_raw_parts(from as *const u8, bytes) }.to_vec(),
            ))
        };
        self.enqueue(stream, Work::Copy { to: Place::Device(to), from: source, bytes })
    }

    /// A copy to pageable memory is done when the call returns; one to page-locked memory when its
    /// stream reaches it.
    fn copy_to_host(
        &mut self,
        to: usize,
        from: usize,
        bytes: usize,
        stream: StreamHandle,
    ) -> Result<()> {
        self.check_range("source of a copy", from, bytes)?;
        let pinned = self.memory.is_pinned(to);
        if !pinned && self.stream(stream)?.capture.is_some() {
            return self.break_capture_of(stream, "a copy to pageable memory was captured");
        }
        self.enqueue(stream, Work::Copy { to: Place::Host(to), from: Place::Device(from), bytes })?;
        if pinned {
            return Ok(());
        }
        self.finish_stream(stream)
    }

    fn copy_on_device(
        &mut self,
        to: usize,
        from: usize,
        bytes: usize,
        stream: StreamHandle,
    ) -> Result<()> {
        self.check_range("source of a copy", from, bytes)?;
        self.check_range("destination of a copy", to, bytes)?;
        self.enqueue(stream, Work::Copy { to: Place::Device(to), from: Place::Device(from), bytes })
    }

    fn fill_device(
        &mut self,
        address: usize,
        value: u32,
        width: usize,
        count: usize,
        stream: StreamHandle,
    ) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.check_range("destination of a fill", address, count * width)?;
        self.enqueue(stream, Work::Fill { address, value, width, count })
    }
}

#[no_mangle]
unsafe extern "C" fn cuMemAlloc_v2(address: *mut usize, bytes: usize) -> Status {
    call(|driver| {
        driver.unsafe_call("memory was allocated", Reach::Device)?;
        let found = driver.allocate(bytes, Life::Live)?;
        // SAFETY: the caller gives a place for the address.
        unsafe { put(address, found) }.ok()
    })
}

/// The device is idle before the memory goes, as with the real call.
#[no_mangle]
extern "C" fn cuMemFree_v2(address: usize) -> Status {
    call(|driver| {
        if address == 0 {
            return Ok(());
        }
        driver.unsafe_call("memory was freed", Reach::Device)?;
        driver.finish_all()?;
        if driver.memory.free(address) {
            return Ok(());
        }
        driver.refuse(
            Status::INVALID_VALUE,
            format!("{address:#x} is not the start of an allocation, or was freed before"),
        )
    })
}

#[no_mangle]
unsafe extern "C" fn cuMemAllocAsync(
    address: *mut usize,
    bytes: usize,
    stream: StreamHandle,
) -> Status {
    call(|driver| {
        if driver.stream(stream)?.capture.is_some() {
            return driver.break_capture_of(stream, "memory was allocated on a captured stream");
        }
        let found = driver.allocate(bytes, Life::Pending)?;
        driver.enqueue(stream, Work::Allocate(found))?;
        // SAFETY: the caller gives a place for the address.
        unsafe { put(address, found) }.ok()
    })
}

#[no_mangle]
extern "C" fn cuMemFreeAsync(address: usize, stream: StreamHandle) -> Status {
    call(|driver| {
        if address == 0 {
            return Ok(());
        }
        match driver.memory.find(address) {
            Some((start, allocation)) if start == address && allocation.life != Life::Freed => {}
            _ => {
                return driver.refuse(
                    Status::INVALID_VALUE,
                    format!("{address:#x} is not an allocation, or was freed before"),
                )
            }
        }
        driver.enqueue(stream, Work::Free(address))
    })
}

#[no_mangle]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    call(|driver| {
        let size = driver.settings.memory;
        // SAFETY: the caller gives places for the numbers.
        unsafe {
            put(free, size.saturating_sub(driver.memory.used)).ok()?;
            put(total, size).ok()
        }
    })
}

#[no_mangle]
unsafe extern "C" fn cuMemHostAlloc(
    address: *mut *mut c_void,
    bytes: usize,
    _flags: c_uint,
) -> Status {
    call(|driver| {
        driver.unsafe_call("page-locked memory was allocated", Reach::Device)?;
        let found = driver.memory.allocate_pinned(bytes).ok_or(Status::OUT_OF_MEMORY)?;
        // SAFETY: the caller gives a place for the address.
        unsafe { put(address, found as *mut c_void) }.ok()
    })
}

#[no_mangle]
extern "C" fn cuMemFreeHost(address: *mut c_void) -> Status {
    call_always(|driver| {
        if driver.sticky.is_none() {
            driver.unsafe_call("page-locked memory was freed", Reach::Device)?;
            driver.finish_all()?; // queued copies may still use it
        }
        driver.memory.free_pinned(address as usize).then_some(()).ok_or(Status::INVALID_VALUE)
    })
}

#[no_mangle]
extern "C" fn cuMemcpyHtoDAsync_v2(
    to: usize,
    from: *const c_void,
    bytes: usize,
    stream: StreamHandle,
) -> Status {
    call(
        |driver| {
            if bytes == 0 {
                Ok(())
            } else {
                driver.copy_to_device(to, from as usize, bytes, stream)
            }
        },
    )
}

#[no_mangle]
extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: usize,
    bytes: usize,
    stream: StreamHandle,
) -> Status {
    call(
        |driver| {
            if bytes == 0 {
                Ok(())
            } else {
                driver.copy_to_host(to as usize, from, bytes, stream)
            }
        },
    )
}

#[no_mangle]
extern "C" fn cuMemcpyDtoDAsync_v2(
    to: usize,
    from: usize,
    bytes: usize,
    stream: StreamHandle,
) -> Status {
    call(|driver| if bytes == 0 { Ok(()) } else { driver.copy_on_device(to, from, bytes, stream) })
}

/// The copies without a stream use the legacy one and wait for it.
fn synchronous(bytes: usize, copy: impl FnOnce(&mut Driver) -> Result<()>) -> Status {
    call(|driver| {
        if bytes == 0 {
            return Ok(());
        }
        driver.unsafe_call("a synchronous copy was made", Reach::Device)?;
        copy(driver)?;
        driver.finish_stream(StreamHandle::LEGACY)
    })
}

#[no_mangle]
extern "C" fn cuMemcpyHtoD_v2(to: usize, from: *const c_void, bytes: usize) -> Status {
    synchronous(bytes, |driver| {
        driver.copy_to_device(to, from as usize, bytes, StreamHandle::LEGACY)
    })
}

#[no_mangle]
extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: usize, bytes: usize) -> Status {
    synchronous(bytes, |driver| driver.copy_to_host(to as usize, from, bytes, StreamHandle::LEGACY))
}

#[no_mangle]
extern "C" fn cuMemcpyDtoD_v2(to: usize, from: usize, bytes: usize) -> Status {
    synchronous(bytes, |driver| driver.copy_on_device(to, from, bytes, StreamHandle::LEGACY))
}

#[no_mangle]
extern "C" fn cuMemsetD8Async(
    address: usize,
    value: u8,
    count: usize,
    stream: StreamHandle,
) -> Status {
    call(|driver| driver.fill_device(address, u32::from(value), 1, count, stream))
}

#[no_mangle]
extern "C" fn cuMemsetD16Async(
    address: usize,
    value: u16,
    count: usize,
    stream: StreamHandle,
) -> Status {
    call(|driver| driver.fill_device(address, u32::from(value), 2, count, stream))
}

#[no_mangle]
extern "C" fn cuMemsetD32Async(
    address: usize,
    value: c_uint,
    count: usize,
    stream: StreamHandle,
) -> Status {
    call(|driver| driver.fill_device(address, value, 4, count, stream))
}

#[no_mangle]
extern "C" fn cuMemsetD8_v2(address: usize, value: u8, count: usize) -> Status {
    synchronous(count, |driver| {
        driver.fill_device(address, u32::from(value), 1, count, StreamHandle::LEGACY)
    })
}

#[no_mangle]
extern "C" fn cuMemsetD32_v2(address: usize, value: c_uint, count: usize) -> Status {
    synchronous(count, |driver| driver.fill_device(address, value, 4, count, StreamHandle::LEGACY))
}

/// Device memory is all that has an attribute here.
#[no_mangle]
unsafe extern "C" fn cuPointerGetAttribute(
    value: *mut c_void,
    attribute: c_uint,
    address: usize,
) -> Status {
    const MEMORY_TYPE: c_uint = 2;
    const DEVICE: c_int = 2;
    call(|driver| {
        if attribute != MEMORY_TYPE {
            return Err(Status::NOT_SUPPORTED);
        }
        driver.check_range("pointer", address, 0)?;
        // SAFETY: the caller gives a place for an int.
        unsafe { put(value.cast::<c_int>(), DEVICE) }.ok()
    })
}
