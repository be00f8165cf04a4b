// SPDX-License-Identifier: MIT OR Apache-2.0
//! The default memory pool. Allocation in stream order comes from the one device memory; the pool
//! is only a name for it.

use std::ffi::{c_int, c_uint, c_void};

use crate::driver::{call, Handle};
use crate::status::{put, Status};

const DEFAULT_POOL: Handle = Handle(0x20);
const RELEASE_THRESHOLD: c_uint = 4;

#[no_mangle]
unsafe extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut Handle, _device: c_int) -> Status {
    // SAFETY: the caller gives a place for the handle.
    call(|_| unsafe { put(pool, DEFAULT_POOL) }.ok())
}

#[no_mangle]
unsafe extern "C" fn cuDeviceGetMemPool(pool: *mut Handle, device: c_int) -> Status {
    // SAFETY: the caller's promise is passed on.
    unsafe { cuDeviceGetDefaultMemPool(pool, device) }
}

#[no_mangle]
extern "C" fn cuDeviceSetMemPool(_device: c_int, pool: Handle) -> Status {
    call(|_| known(pool).ok())
}

#[no_mangle]
extern "C" fn cuMemPoolTrimTo(pool: Handle, _keep: usize) -> Status {
    call(|_| known(pool).ok())
}

#[no_mangle]
extern "C" fn cuMemPoolSetAttribute(
    pool: Handle,
    _attribute: c_uint,
    _value: *mut c_void,
) -> Status {
    call(|_| known(pool).ok())
}

/// Memory in use and reserved are the same here, now and at the most; the threshold for giving back
/// is 0.
#[no_mangle]
unsafe extern "C" fn cuMemPoolGetAttribute(
    pool: Handle,
    attribute: c_uint,
    value: *mut c_void,
) -> Status {
    call(|driver| {
        known(pool).ok()?;
        let found = if attribute > RELEASE_THRESHOLD { driver.memory.used as u64 } else { 0 };
        // SAFETY: the caller gives a place of the attribute's type: 8 bytes for the sizes, an int
        // below the threshold.
        unsafe {
            if attribute >= RELEASE_THRESHOLD {
                put(value.cast::<u64>(), found).ok()
            } else {
                put(value.cast::<c_int>(), 0).ok()
            }
        }
    })
}

fn known(pool: Handle) -> Status {
    if pool == DEFAULT_POOL {
        Status::SUCCESS
    } else {
        Status::INVALID_HANDLE
    }
}
