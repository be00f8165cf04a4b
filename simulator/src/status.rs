// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's result codes and their texts.

use std::ffi::{c_char, CStr, CString};

use crate::driver::Driver;

/// A `CUresult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Status(pub(crate) u32);

pub(crate) type Result<T> = std::result::Result<T, Status>;

macro_rules! statuses {
    ($($name:ident = $code:literal),* $(,)?) => {
        impl Status {
            $(pub(crate) const $name: Status = Status($code);)*

            /// The driver's name for the code.
            fn name(self) -> Option<&'static CStr> {
                match self {
                    $(Status::$name => {
                        let name = concat!("CUDA_ERROR_", stringify!($name), "\0");
                        CStr::from_bytes_with_nul(name.as_bytes()).ok()
                    })*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    DEINITIALIZED = 4,
    STUB_LIBRARY = 34,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_PTX = 218,
    UNSUPPORTED_PTX_VERSION = 222,
    FILE_NOT_FOUND = 301,
    OPERATING_SYSTEM = 304,
    INVALID_HANDLE = 400,
    ILLEGAL_STATE = 401,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    MISALIGNED_ADDRESS = 716,
    LAUNCH_FAILED = 719,
    COOPERATIVE_LAUNCH_TOO_LARGE = 720,
    NOT_SUPPORTED = 801,
    SYSTEM_NOT_READY = 802,
    SYSTEM_DRIVER_MISMATCH = 803,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_INVALIDATED = 901,
    STREAM_CAPTURE_MERGE = 902,
    STREAM_CAPTURE_UNMATCHED = 903,
    STREAM_CAPTURE_UNJOINED = 904,
    STREAM_CAPTURE_ISOLATION = 905,
    STREAM_CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
    STREAM_CAPTURE_WRONG_THREAD = 908,
    INVALID_CLUSTER_SIZE = 912,
    UNKNOWN = 999,
}

impl Status {
    /// The codes that leave a context unusable until it is destroyed.
    pub(crate) fn is_sticky(self) -> bool {
        (700..=719).contains(&self.0) && self != Status::LAUNCH_OUT_OF_RESOURCES
    }
}

#[no_mangle]
unsafe extern "C" fn cuGetErrorName(code: Status, name: *mut *const c_char) -> Status {
    let Some(text) = code.name() else { return Status::INVALID_VALUE };
    let text = if code == Status::SUCCESS { c"CUDA_SUCCESS" } else { text };
    // SAFETY: the caller gives a place for a pointer, or null, which `put` refuses.
    unsafe { put(name, text.as_ptr()) }
}

/// The text of the last error with this code, or else the code's name.
#[no_mangle]
unsafe extern "C" fn cuGetErrorString(code: Status, text: *mut *const c_char) -> Status {
    let Some(name) = code.name() else { return Status::INVALID_VALUE };
    let mut driver = Driver::lock();
    let found = match &driver.last_error {
        Some((status, detail)) if *status == code => {
            CString::new(format!("simulated: {detail}")).unwrap_or_default()
        }
        _ => name.to_owned(),
    };
    // The driver's strings live for ever, so a text is kept once it has been handed out.
    let kept = match driver.texts.iter().position(|text| *text == found) {
        Some(known) => known,
        None => {
            driver.texts.push(found);
            driver.texts.len() - 1
        }
    };
    // SAFETY: as above; the string is never dropped, and its bytes do not move with the vector.
    unsafe { put(text, driver.texts[kept].as_ptr()) }
}

/// Writes an entry point's result where the caller asked for it.
///
/// # Safety
/// `place` is null or valid for writing a `T`.
pub(crate) unsafe fn put<T>(place: *mut T, value: T) -> Status {
    if place.is_null() {
        return Status::INVALID_VALUE;
    }
    // SAFETY: not null, and valid by the caller's promise.
    unsafe { place.write(value) };
    Status::SUCCESS
}

impl Status {
    /// For `?` in the body of an entry point.
    pub(crate) fn ok(self) -> Result<()> {
        match self {
            Status::SUCCESS => Ok(()),
            failed => Err(failed),
        }
    }
}
