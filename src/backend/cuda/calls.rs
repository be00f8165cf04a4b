// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's entry points, as functions that return an error for every code but 0.
//!
//! cudarc declares that they return an enum of the codes that one version knows; a code of a later driver would be no
//! value of it, which is undefined behaviour. Here they return the number that they do return. Types of what is passed
//! to them are cudarc's, and so is the library, which it finds.
#![allow(non_snake_case)]

use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::fmt;
use std::sync::OnceLock;

use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction,
    CUfunction_attribute, CUgraph, CUgraphExec, CUlaunchConfig, CUmodule, CUstream,
    CUstreamCaptureMode,
};

/// A code of the driver's that is not success, whether or not it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DriverError(pub(crate) u32);

pub(crate) type Result<T> = std::result::Result<T, DriverError>;

impl DriverError {
    pub(crate) const STUB_LIBRARY: Self = DriverError(34);
    pub(crate) const INVALID_IMAGE: Self = DriverError(200);
    pub(crate) const INVALID_CONTEXT: Self = DriverError(201);
    pub(crate) const NO_BINARY_FOR_GPU: Self = DriverError(209);
    pub(crate) const INVALID_PTX: Self = DriverError(218);
    pub(crate) const JIT_COMPILER_NOT_FOUND: Self = DriverError(221);
    pub(crate) const UNSUPPORTED_PTX_VERSION: Self = DriverError(222);
    pub(crate) const JIT_COMPILATION_DISABLED: Self = DriverError(223);
    pub(crate) const SYSTEM_NOT_READY: Self = DriverError(802);
    pub(crate) const SYSTEM_DRIVER_MISMATCH: Self = DriverError(803);
    /// What a call returns whose function the driver does not have.
    const NOT_FOUND: Self = DriverError(500);
}

/// The driver's name for the code, the code, and the driver's words for it.
impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |ask: unsafe fn(u32, *mut *const c_char) -> Result<()>| {
            let mut text = std::ptr::null();
            // SAFETY: the place is valid to write; a text that the driver gives is zero-terminated and stays.
            unsafe {
                match ask(self.0, &mut text) {
                    Ok(()) if !text.is_null() => CStr::from_ptr(text).to_string_lossy(),
                    _ => "unknown".into(),
                }
            }
        };
        write!(f, "{} ({}): {}", text(cuGetErrorName), self.0, text(cuGetErrorString))
    }
}

/// Whether this machine has a CUDA driver, of whatever age and in whatever state.
pub(crate) fn is_present() -> bool {
    // SAFETY: loads the driver's library, whose initialisers any CUDA program runs.
    unsafe { sys::is_culib_present() }
}

/// Whether there is a driver that has a function of this name.
pub(crate) fn has(name: &str) -> bool {
    // SAFETY: the function is looked up, not called.
    unsafe { find::<unsafe extern "C" fn()>(name) }.is_some()
}

/// A function of the driver's.
///
/// # Safety
/// `F` is the type of the function of this name.
unsafe fn find<F: Copy>(name: &str) -> Option<F> {
    if !is_present() {
        return None;
    }
    // SAFETY: the library is there, and is never unloaded; the type is right by the caller's promise.
    unsafe { sys::culib().get::<F>(name.as_bytes()).ok().map(|function| *function) }
}

/// Defines functions, each with the name and the parameters of the driver's, and perhaps a list of their names.
macro_rules! calls {
    (const $list:ident; $(fn $name:ident($($argument:ident: $of:ty),*);)*) => {
        /// Entry points that kiln calls whatever it does: a driver without one of them is too old.
        pub(crate) const $list: &[&str] = &[$(stringify!($name)),*];
        calls! { $(fn $name($($argument: $of),*);)* }
    };
    ($(fn $name:ident($($argument:ident: $of:ty),*);)*) => {
        $(
            /// # Safety
            /// As the CUDA driver API has it.
            pub(crate) unsafe fn $name($($argument: $of),*) -> Result<()> {
                type Function = unsafe extern "C" fn($($of),*) -> u32;
                static FUNCTION: OnceLock<Option<Function>> = OnceLock::new();
                // SAFETY: this is the type that the driver API gives the function.
                let function = FUNCTION.get_or_init(|| unsafe { find(stringify!($name)) });
                let Some(function) = function else { return Err(DriverError::NOT_FOUND) };
                // SAFETY: by the caller's promise.
                match unsafe { function($($argument),*) } {
                    0 => Ok(()),
                    code => Err(DriverError(code)),
                }
            }
        )*
    };
}

calls! {
    const ENTRY_POINTS;
    fn cuInit(flags: c_uint);
    fn cuDriverGetVersion(version: *mut c_int);
    fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    fn cuDeviceGetCount(count: *mut c_int);
    fn cuDeviceGetName(name: *mut c_char, length: c_int, device: CUdevice);
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: CUdevice_attribute, device: CUdevice);
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    fn cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: c_uint);
    fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    fn cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    fn cuCtxSetCurrent(context: CUcontext);
    fn cuCtxGetCurrent(context: *mut CUcontext);
    fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize);
    fn cuMemFree_v2(address: CUdeviceptr);
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    fn cuMemHostAlloc(place: *mut *mut c_void, bytes: usize, flags: c_uint);
    fn cuMemFreeHost(place: *mut c_void);
    fn cuMemsetD8Async(to: CUdeviceptr, value: u8, count: usize, stream: CUstream);
    fn cuMemsetD32Async(to: CUdeviceptr, value: c_uint, count: usize, stream: CUstream);
    fn cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    fn cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    fn cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    fn cuStreamDestroy_v2(stream: CUstream);
    fn cuStreamSynchronize(stream: CUstream);
    fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint);
    fn cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    fn cuEventCreate(event: *mut CUevent, flags: c_uint);
    fn cuEventDestroy_v2(event: CUevent);
    fn cuEventRecord(event: CUevent, stream: CUstream);
    fn cuEventSynchronize(event: CUevent);
    fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    fn cuModuleUnload(module: CUmodule);
    fn cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    fn cuFuncSetAttribute(function: CUfunction, attribute: CUfunction_attribute, value: c_int);
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut c_int, function: CUfunction, threads: c_int, shared: usize, flags: c_uint
    );
    fn cuLaunchKernelEx(
        config: *const CUlaunchConfig,
        function: CUfunction,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void
    );
    fn cuGraphInstantiateWithFlags(executable: *mut CUgraphExec, graph: CUgraph, flags: u64);
    fn cuGraphLaunch(executable: CUgraphExec, stream: CUstream);
    fn cuGraphDestroy(graph: CUgraph);
    fn cuGraphExecDestroy(executable: CUgraphExec);
    fn cuGetErrorName(code: u32, text: *mut *const c_char);
    fn cuGetErrorString(code: u32, text: *mut *const c_char);
}

// By this name drivers of every version have it, though later headers speak of another.
calls! {
    fn cuEventElapsedTime(milliseconds: *mut f32, from: CUevent, to: CUevent);
}
