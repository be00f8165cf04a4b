// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulated GPU, as programs ask about it.

use std::ffi::{c_char, c_int, c_uint};

use crate::driver::{call_always, Driver};
use crate::settings::DeviceModel;
use crate::status::{put, Status};

/// Facts that launch arithmetic depends on. Sources: CUDA C++ programming guide, "Technical
/// Specifications per Compute Capability", and the A100 and H100 (SXM) data sheets.
#[derive(Debug)]
pub(crate) struct DeviceFacts {
    pub(crate) name: &'static str,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) threads_per_block: u32,
    pub(crate) threads_per_multiprocessor: u32,
    pub(crate) blocks_per_multiprocessor: u32,
    pub(crate) registers_per_multiprocessor: u32,
    /// Bytes a block may use after asking for them.
    pub(crate) shared_per_block: u32,
    pub(crate) shared_per_multiprocessor: u32,
    l2_bytes: u32,
    clock_khz: u32,
    memory_clock_khz: u32,
    memory_bus_bits: u32,
}

static SM80: DeviceFacts = DeviceFacts {
    name: "kiln simulated GPU (sm_80)",
    major: 8,
    minor: 0,
    multiprocessors: 108,
    threads_per_block: 1024,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    registers_per_multiprocessor: 65536,
    shared_per_block: 166_912,
    shared_per_multiprocessor: 167_936,
    l2_bytes: 41_943_040,
    clock_khz: 1_410_000,
    memory_clock_khz: 1_215_000,
    memory_bus_bits: 5120,
};

static SM90: DeviceFacts = DeviceFacts {
    name: "kiln simulated GPU (sm_90)",
    major: 9,
    minor: 0,
    multiprocessors: 132,
    shared_per_block: 232_448,
    shared_per_multiprocessor: 233_472,
    l2_bytes: 52_428_800,
    clock_khz: 1_980_000,
    memory_clock_khz: 2_619_000,
    ..SM80
};

impl DeviceFacts {
    /// Ten times the major plus the minor version.
    pub(crate) fn version(&self) -> u32 {
        self.major * 10 + self.minor
    }

    /// `CUdevice_attribute`; what is not listed is a feature this device does not have.
    fn attribute(&self, attribute: c_uint) -> u32 {
        match attribute {
            1 => self.threads_per_block,
            2 | 3 => 1024,     // largest block in x and y
            4 => 64,           // and in z
            5 => 0x7fff_ffff,  // largest grid in x
            6 | 7 => 65535,    // and in y and z
            8 => 48 * 1024,    // shared memory per block without asking
            9 => 65536,        // constant memory
            10 => 32,          // lanes in a warp
            11 => 0x7fff_ffff, // largest pitch
            12 | 82 => self.registers_per_multiprocessor,
            13 => self.clock_khz,
            14 => 512,    // texture alignment
            15 | 31 => 1, // copies and kernels overlap, kernels are concurrent
            41 => 1,      // one address space
            78..=80 => 1, // stream priorities, caching in L1
            16 => self.multiprocessors,
            36 => self.memory_clock_khz,
            37 => self.memory_bus_bits,
            38 => self.l2_bytes,
            39 => self.threads_per_multiprocessor,
            40 => 3, // copy engines
            75 => self.major,
            76 => self.minor,
            81 => self.shared_per_multiprocessor,
            95 => 1, // cooperative launches
            97 => self.shared_per_block,
            106 => self.blocks_per_multiprocessor,
            111 => 1024, // shared memory the system keeps per block
            115 => 1,    // memory pools
            120 => u32::from(self.version() >= 90), // clusters
            _ => 0,
        }
    }
}

impl Driver {
    pub(crate) fn device(&self) -> &'static DeviceFacts {
        match self.settings.device {
            DeviceModel::Sm80 => &SM80,
            DeviceModel::Sm90 => &SM90,
        }
    }
}

const COUNT: c_int = 1;

#[no_mangle]
extern "C" fn cuInit(_flags: c_uint) -> Status {
    call_always(|driver| {
        if let Some(text) = driver.bad_settings.clone() {
            return driver.refuse(Status::INVALID_VALUE, text);
        }
        match driver.settings.refused_start {
            0 => driver.initialised = true,
            code => return driver.refuse(Status(code), "a start that a test wants refused"),
        }
        Ok(())
    })
}

#[no_mangle]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Status {
    // SAFETY: the caller gives a place for the number.
    call_always(|driver| unsafe { put(version, driver.settings.version as c_int) }.ok())
}

#[no_mangle]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Status {
    // SAFETY: the caller gives a place for the number.
    unsafe { put(count, COUNT) }
}

#[no_mangle]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Status {
    if !(0..COUNT).contains(&ordinal) {
        return Status::INVALID_DEVICE;
    }
    // SAFETY: the caller gives a place for the number.
    unsafe { put(device, ordinal) }
}

#[no_mangle]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, _device: c_int) -> Status {
    call_always(|driver| {
        let room = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_sub(1))
            .ok_or(Status::INVALID_VALUE)?;
        let text = driver.device().name.as_bytes();
        let kept = &text[..text.len().min(room)];
        // SAFETY: the caller's buffer has `length` bytes, one more than is copied.
        unsafe {
            name.cast::<u8>().copy_from_nonoverlapping(kept.as_ptr(), kept.len());
            put(name.add(kept.len()), 0).ok()
        }
    })
}

#[no_mangle]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> Status {
    // SAFETY: the caller gives a place for the number.
    call_always(|driver| unsafe { put(bytes, driver.settings.memory) }.ok())
}

#[no_mangle]
unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], _device: c_int) -> Status {
    // SAFETY: the caller gives a place for the sixteen bytes.
    unsafe { put(uuid, *b"kiln-simulated!!") }
}

#[no_mangle]
unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) -> Status {
    // SAFETY: the caller's promise is passed on.
    unsafe { cuDeviceGetUuid_v2(uuid, device) }
}

#[no_mangle]
unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: c_uint,
    _device: c_int,
) -> Status {
    // SAFETY: the caller gives a place for the number.
    call_always(|driver| unsafe { put(value, driver.device().attribute(attribute) as c_int) }.ok())
}
