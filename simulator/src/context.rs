// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contexts: the device's primary one, which each host thread makes current.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};

use crate::driver::{call, call_always, Handle};
use crate::status::{put, Status};

/// The only context.
pub(crate) const PRIMARY: Handle = Handle(0x10);

thread_local! {
    static CURRENT: Cell<Handle> = const { Cell::new(Handle(0)) };
}

#[no_mangle]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) -> Status {
    call_always(|driver| {
        if !driver.initialised {
            return Err(Status::NOT_INITIALIZED);
        }
        driver.counters.contexts += u64::from(driver.retained == 0);
        driver.retained += 1;
        // SAFETY: the caller gives a place for the handle.
        unsafe { put(context, PRIMARY) }.ok()
    })
}

/// With its last user the context goes, and an error that made it unusable with it.
#[no_mangle]
extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> Status {
    call_always(|driver| {
        driver.retained = driver.retained.checked_sub(1).ok_or(Status::INVALID_CONTEXT)?;
        if driver.retained == 0 {
            driver.forget_context();
        }
        Ok(())
    })
}

/// Nobody waits for long here, so that how does not matter; but it has to be one way.
#[no_mangle]
extern "C" fn cuDevicePrimaryCtxSetFlags_v2(_device: c_int, flags: c_uint) -> Status {
    const WAYS: c_uint = 7;
    match (flags & WAYS).count_ones() {
        0 | 1 => Status::SUCCESS,
        _ => Status::INVALID_VALUE,
    }
}

#[no_mangle]
extern "C" fn cuDevicePrimaryCtxReset_v2(_device: c_int) -> Status {
    call_always(|driver| {
        driver.forget_context();
        Ok(())
    })
}

#[no_mangle]
unsafe extern "C" fn cuCtxGetCurrent(context: *mut Handle) -> Status {
    // SAFETY: the caller gives a place for the handle.
    unsafe { put(context, CURRENT.get()) }
}

#[no_mangle]
extern "C" fn cuCtxSetCurrent(context: Handle) -> Status {
    if context != PRIMARY && context != Handle(0) {
        return Status::INVALID_CONTEXT;
    }
    CURRENT.set(context);
    Status::SUCCESS
}

#[no_mangle]
unsafe extern "C" fn cuCtxGetDevice(device: *mut c_int) -> Status {
    // SAFETY: the caller gives a place for the number.
    unsafe { put(device, 0) }
}

#[no_mangle]
extern "C" fn cuCtxSynchronize() -> Status {
    call(|driver| {
        driver.context_call("the context was synchronised")?;
        driver.finish_all()
    })
}

#[no_mangle]
extern "C" fn cuCtxSetFlags(_flags: c_uint) -> Status {
    call(|_| Ok(()))
}

#[no_mangle]
unsafe extern "C" fn cuCtxGetStreamPriorityRange(
    least: *mut c_int,
    greatest: *mut c_int,
) -> Status {
    // SAFETY: the caller gives places for the numbers, or null for one it does not want.
    unsafe {
        for (place, value) in [(least, 0), (greatest, -5)] {
            if !place.is_null() {
                put(place, value);
            }
        }
    }
    Status::SUCCESS
}

#[no_mangle]
extern "C" fn cuProfilerStart() -> Status {
    Status::SUCCESS
}

#[no_mangle]
extern "C" fn cuProfilerStop() -> Status {
    Status::SUCCESS
}

/// Looks an entry point up by its name without a version suffix, newest first.
#[no_mangle]
unsafe extern "C" fn cuGetProcAddress_v2(
    symbol: *const c_char,
    function: *mut *mut c_void,
    _version: c_int,
    _flags: u64,
    found: *mut c_int,
) -> Status {
    // SAFETY: the caller gives a zero-terminated name.
    let name = unsafe { CStr::from_ptr(symbol) }.to_string_lossy();
    // SAFETY: this object's own name; it is loaded, so nothing is run by asking for it again.
    let own = unsafe { libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_NOW) };
    let address = ["_v2", ""].iter().find_map(|suffix| {
        let full = std::ffi::CString::new(format!("{name}{suffix}")).ok()?;
        // SAFETY: a handle from dlopen and a zero-terminated name.
        let address = unsafe { libc::dlsym(own, full.as_ptr()) };
        (!own.is_null() && !address.is_null()).then_some(address)
    });
    // SAFETY: the caller gives a place for the address, and for the answer or null.
    unsafe {
        if !found.is_null() {
            put(found, if address.is_some() { 0 } else { 1 });
        }
        put(function, address.unwrap_or(std::ptr::null_mut()))
    }
}
