// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels of a loaded module: their limits, attributes and occupancy.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use crate::device::DeviceFacts;
use crate::driver::{call, Driver, Handle};
use crate::engine::Parameter;
use crate::status::{put, Result, Status};

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: Arc<str>,
    pub(crate) parameters: &'static [Parameter],
    /// From the kernel's launch bounds where PTX tells them.
    pub(crate) most_threads: u32,
    pub(crate) dynamic_limit: u32,
}

impl Function {
    /// The dynamic shared memory a kernel may use before it asks for more.
    pub(crate) const DEFAULT_DYNAMIC: u32 = 48 * 1024;
    /// The host does not know a kernel's registers; this is what occupancy is computed from.
    const ASSUMED_REGISTERS: u32 = 64;

    /// Whether the device and the kernel allow such a launch.
    pub(crate) fn check_shape(
        &self,
        device: &DeviceFacts,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_bytes: u32,
    ) -> std::result::Result<(), (Status, String)> {
        let threads: u64 = block.iter().map(|size| u64::from(*size)).product();
        let grid_is_fine = (1..=0x7fff_ffff).contains(&grid[0])
            && grid[1..].iter().all(|size| (1..=65535).contains(size));
        if !grid_is_fine {
            return Err((Status::INVALID_VALUE, format!("grid {grid:?} is empty or too large")));
        }
        if threads == 0 || threads > u64::from(device.threads_per_block) || block[2] > 64 {
            return Err((Status::INVALID_VALUE, format!("block {block:?} is empty or too large")));
        }
        if threads > u64::from(self.most_threads) {
            let text = format!(
                "block {block:?} passes the kernel's launch bound of {} threads",
                self.most_threads
            );
            return Err((Status::LAUNCH_OUT_OF_RESOURCES, text));
        }
        if dynamic_bytes > self.dynamic_limit {
            let text = format!(
                "{dynamic_bytes} bytes of dynamic shared memory; the kernel may use {}",
                self.dynamic_limit
            );
            return Err((Status::INVALID_VALUE, text));
        }
        Ok(())
    }

    /// Bytes of shared memory, static and dynamic together: the default until more was asked for.
    pub(crate) fn shared_limit(&self, device: &DeviceFacts) -> u32 {
        if self.dynamic_limit > Self::DEFAULT_DYNAMIC {
            device.shared_per_block
        } else {
            Self::DEFAULT_DYNAMIC
        }
    }

    pub(crate) fn blocks_per_multiprocessor(
        &self,
        device: &DeviceFacts,
        threads: u32,
        dynamic_bytes: usize,
    ) -> u32 {
        let threads = threads.next_multiple_of(32);
        if threads == 0 || threads > self.most_threads {
            return 0;
        }
        let by_threads = device.threads_per_multiprocessor / threads;
        let by_registers =
            device.registers_per_multiprocessor / (threads * Self::ASSUMED_REGISTERS);
        let per_block = dynamic_bytes as u32 + 1024; // the system's own kilobyte
        let by_shared = device.shared_per_multiprocessor / per_block;
        by_threads.min(by_registers).min(by_shared).min(device.blocks_per_multiprocessor)
    }
}

/// `CUfunction_attribute`.
mod attribute {
    pub(super) const MAX_THREADS_PER_BLOCK: u32 = 0;
    pub(super) const SHARED_SIZE_BYTES: u32 = 1;
    pub(super) const CONST_SIZE_BYTES: u32 = 2;
    pub(super) const LOCAL_SIZE_BYTES: u32 = 3;
    pub(super) const REGISTERS: u32 = 4;
    pub(super) const PTX_VERSION: u32 = 5;
    pub(super) const BINARY_VERSION: u32 = 6;
    pub(super) const CACHE_MODE: u32 = 7;
    pub(super) const MAX_DYNAMIC_SHARED_SIZE_BYTES: u32 = 8;
    pub(super) const PREFERRED_CARVEOUT: u32 = 9;
}

impl Driver {
    pub(crate) fn function(&mut self, handle: Handle) -> Result<&mut Function> {
        self.functions.get_mut(&handle).ok_or(Status::INVALID_HANDLE)
    }
}

#[no_mangle]
unsafe extern "C" fn cuFuncGetAttribute(
    value: *mut c_int,
    attribute: c_uint,
    function: Handle,
) -> Status {
    call(|driver| {
        let version = driver.device().version();
        let function = driver.function(function)?;
        let found = match attribute {
            attribute::MAX_THREADS_PER_BLOCK => function.most_threads,
            attribute::REGISTERS => Function::ASSUMED_REGISTERS,
            attribute::PTX_VERSION | attribute::BINARY_VERSION => version,
            attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES => function.dynamic_limit,
            attribute::SHARED_SIZE_BYTES
            | attribute::CONST_SIZE_BYTES
            | attribute::LOCAL_SIZE_BYTES
            | attribute::CACHE_MODE
            | attribute::PREFERRED_CARVEOUT => 0,
            _ => return Err(Status::INVALID_VALUE),
        };
        // SAFETY: the caller gives a place for the number.
        unsafe { put(value, found as c_int) }.ok()
    })
}

#[no_mangle]
extern "C" fn cuFuncSetAttribute(function: Handle, attribute: c_uint, value: c_int) -> Status {
    call(|driver| {
        let most = driver.device().shared_per_block;
        let found = driver.function(function)?;
        match attribute {
            attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES if (0..=most as c_int).contains(&value) => {
                found.dynamic_limit = value as u32;
                Ok(())
            }
            attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                let text = format!(
                    "{}: {value} bytes of dynamic shared memory; the device has {most} per block",
                    found.name
                );
                driver.refuse(Status::INVALID_VALUE, text)
            }
            attribute::CACHE_MODE | attribute::PREFERRED_CARVEOUT => Ok(()),
            _ => Err(Status::INVALID_VALUE),
        }
    })
}

#[no_mangle]
extern "C" fn cuFuncSetCacheConfig(function: Handle, _config: c_uint) -> Status {
    call(|driver| driver.function(function).map(|_| ()))
}

/// Where a parameter lies in the launch buffer and how large it is; past the last one, an invalid
/// value.
#[no_mangle]
unsafe extern "C" fn cuFuncGetParamInfo(
    function: Handle,
    index: usize,
    offset: *mut usize,
    bytes: *mut usize,
) -> Status {
    call(|driver| {
        let parameters = driver.function(function)?.parameters;
        let Some(parameter) = parameters.get(index) else { return Err(Status::INVALID_VALUE) };
        let before = parameters[..index]
            .iter()
            .fold(0usize, |end, p| aligned(end, p.bytes as usize) + p.bytes as usize);
        // SAFETY: the caller gives a place for the offset, and for the size or null.
        unsafe {
            put(offset, aligned(before, parameter.bytes as usize)).ok()?;
            if !bytes.is_null() {
                put(bytes, parameter.bytes as usize).ok()?;
            }
        }
        Ok(())
    })
}

/// Scalars are aligned to their size; the alignment of a struct is not known here and taken to be
/// 8.
fn aligned(offset: usize, bytes: usize) -> usize {
    offset.next_multiple_of(if bytes.is_power_of_two() { bytes.min(8) } else { 8 })
}

#[no_mangle]
unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: *mut c_int,
    function: Handle,
    threads: c_int,
    dynamic_bytes: usize,
) -> Status {
    call(|driver| {
        let device = driver.device();
        let found = driver.function(function)?.blocks_per_multiprocessor(
            device,
            threads.max(0) as u32,
            dynamic_bytes,
        );
        // SAFETY: the caller gives a place for the number.
        unsafe { put(blocks, found as c_int) }.ok()
    })
}

#[no_mangle]
unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    blocks: *mut c_int,
    function: Handle,
    threads: c_int,
    dynamic_bytes: usize,
    _flags: c_uint,
) -> Status {
    // SAFETY: the caller's promise is passed on.
    unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, dynamic_bytes) }
}
