// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding devices and opening them, without a panic where there is no driver.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::available_parallelism;

use cudarc::driver::sys::CUdevice_attribute as Attribute;

use super::calls::{self, DriverError, ENTRY_POINTS};
use super::driver::{self, CudaContext, Waits};
use super::kernels::Kernels;
use super::options::CudaImage;
use super::system::System;
use super::turns::Turns;
use crate::{Error, Result};

/// An entry point that only the simulated driver has.
const SIMULATOR_MARK: &str = "kiln_sim_reset";

/// A CUDA device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number: `N` of `cuda:N`.
    pub ordinal: usize,
    /// The model's name.
    pub model: String,
    /// Compute capability, major and minor: `(9, 0)`.
    pub capability: (u32, u32),
    /// Number of multiprocessors.
    pub multiprocessors: usize,
    /// Device memory in bytes.
    pub memory: usize,
    /// The latest CUDA that the driver knows, major and minor: `(13, 0)`.
    pub driver: (u32, u32),
    /// Whether the driver is the simulated one: its results are real, its speed is not.
    pub simulated: bool,
}

impl DeviceInfo {
    /// The latest version of PTX that the driver compiles, major and minor.
    pub fn latest_ptx(&self) -> (u32, u32) {
        // Source: PTX ISA, "Release Notes". From CUDA 13 on the numbers go together.
        match self.driver {
            (12, minor @ 0..=5) => (8, minor),
            (12, minor) => (8, minor - 1),
            (major, minor) if major > 12 => (9 + (major - 13), minor),
            _ => (7, 8),
        }
    }
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        let memory = self.memory >> 20;
        write!(f, "cuda:{}: {}, sm_{major}{minor}, ", self.ordinal, self.model)?;
        write!(f, "{} multiprocessors, {memory} MiB", self.multiprocessors)?;
        match self.simulated {
            true => write!(f, " (simulated)"),
            false => Ok(()),
        }
    }
}

/// The devices that a CUDA driver answers for; one that it does not answer for hides no other.
///
/// # Errors
/// [`Error::Device`] if there is no driver, or none that kiln can use.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    Ok(survey()?.into_iter().filter_map(Result::ok).collect())
}

/// What a CUDA driver says of each of its devices, by their numbers.
///
/// # Errors
/// As [`devices`].
pub fn survey() -> Result<Vec<Result<DeviceInfo>>> {
    check_driver("cuda")?;
    Ok((0..driver::count_devices().map_err(not_started)?).map(describe).collect())
}

/// Whether this machine has a CUDA driver, of whatever age and in whatever state.
pub fn has_driver() -> bool {
    calls::is_present()
}

/// An error of a driver that does not start, with what is known of the cause.
fn not_started(error: DriverError) -> Error {
    let told = device_error("cuda", "starting the driver", error);
    let advice = match error {
        DriverError::STUB_LIBRARY => {
            "what was found is the stub that a toolkit links with: take the folder `stubs` off \
             LD_LIBRARY_PATH"
        }
        DriverError::SYSTEM_NOT_READY => "a service of the driver's may not be running yet",
        DriverError::SYSTEM_DRIVER_MISMATCH => {
            "libcuda and the kernel's module are of different versions: restart, or update both"
        }
        _ => return told,
    };
    match told {
        Error::Device { device, message } => {
            Error::Device { device, message: format!("{message} ({advice})") }
        }
        told => told,
    }
}

/// Whether a device can be used.
///
/// # Errors
/// [`Error::Device`] if there is no driver, no such device, or if it is too old.
pub fn check(ordinal: usize) -> Result<DeviceInfo> {
    let device = format!("cuda:{ordinal}");
    check_driver(&device)?;
    let mut found = survey()?;
    if ordinal >= found.len() {
        let message = format!("no such device: the driver answers for {}", found.len());
        return Err(Error::Device { device, message });
    }
    let info = found.swap_remove(ordinal)?;
    match info.capability < (8, 0) {
        true => Err(Error::Device {
            device,
            message: format!("{info}: compute capability 8.0 or later is needed"),
        }),
        false => Ok(info),
    }
}

fn describe(ordinal: usize) -> Result<DeviceInfo> {
    let read = || {
        let device = driver::device(ordinal)?;
        let attribute = |what: Attribute| {
            driver::attribute_of(device, what).map(|value| u32::try_from(value).unwrap_or(0))
        };
        let (model, memory) = driver::model_and_memory(device)?;
        Ok(DeviceInfo {
            ordinal,
            model,
            capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?
                as usize,
            memory,
            driver: driver::version()?,
            simulated: calls::has(SIMULATOR_MARK),
        })
    };
    read().map_err(|error| device_error(&format!("cuda:{ordinal}"), "asking the device", error))
}

/// An error where there is no usable driver.
fn check_driver(device: &str) -> Result<()> {
    let error = |message: String| Err(Error::Device { device: device.into(), message });
    if !has_driver() {
        let why = System::THIS.missing_driver();
        return error(format!("no CUDA driver on this machine ({why})"));
    }
    match ENTRY_POINTS.iter().find(|name| !calls::has(name)) {
        Some(missing) => {
            error(format!("the CUDA driver has no {missing}: CUDA 12 or later is needed"))
        }
        None => Ok(()),
    }
}

/// A device in use: the one context of this process on it, and what was loaded there. All networks on
/// the device share it, and it goes when the last of them does.
#[derive(Clone, Debug)]
pub(super) struct Gpu {
    shared: Arc<Shared>,
}

/// Keeps a device open once it was opened, so that what is loaded there outlives single networks.
/// Two such are equal: they change no result.
#[derive(Clone, Debug, Default)]
pub struct Held {
    open: Arc<OnceLock<Gpu>>,
}

impl Held {
    pub(super) fn keep(&self, gpu: &Gpu) {
        self.open.get_or_init(|| gpu.clone());
    }
}

impl PartialEq for Held {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Held {}

/// What networks on a device share.
#[derive(Debug)]
struct Shared {
    /// The kernels in each form that was asked for; dropped before the context.
    kernels: Mutex<BTreeMap<CudaImage, Loaded>>,
    context: Arc<CudaContext>,
    turns: Arc<Turns>,
    info: DeviceInfo,
    name: String,
}

/// Kernels that networks share.
pub(super) type Loaded = Arc<Mutex<Kernels>>;

impl Gpu {
    /// Opens a device, or shares it with what has it open.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no driver or no such device.
    pub(super) fn open(ordinal: usize) -> Result<Self> {
        static OPEN: Mutex<BTreeMap<usize, Weak<Shared>>> = Mutex::new(BTreeMap::new());
        let info = check(ordinal)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.get(&ordinal).and_then(Weak::upgrade) {
            return Ok(Gpu { shared });
        }
        let name = format!("cuda:{ordinal}");
        let waits = Waits::with(available_parallelism().map_or(1, NonZeroUsize::get));
        let context = CudaContext::new(ordinal, waits)
            .map_err(|error| device_error(&name, "opening the device", error))?;
        let (kernels, turns) = (Mutex::default(), Turns::of(ordinal));
        let shared = Arc::new(Shared { kernels, context, turns, info, name });
        open.insert(ordinal, Arc::downgrade(&shared));
        Ok(Gpu { shared })
    }

    /// Whether another is the same device, opened once.
    pub(super) fn is(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The device's kernels in a form.
    ///
    /// # Errors
    /// [`Error::Device`] if the device takes none.
    pub(super) fn kernels(&self, wanted: CudaImage) -> Result<Loaded> {
        let mut known = self.shared.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernels) = known.get(&wanted) {
            return Ok(kernels.clone());
        }
        self.bind()?;
        let kernels = Arc::new(Mutex::new(Kernels::open(self, wanted)?));
        known.insert(wanted, kernels.clone());
        Ok(kernels)
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.shared.context
    }

    /// What calls that reach the whole device, and captures, take.
    pub(super) fn turns(&self) -> &Arc<Turns> {
        &self.shared.turns
    }

    pub(super) fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// As a user names it: `"cuda:0"`.
    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn model(&self) -> &str {
        &self.shared.info.model
    }

    /// Makes the device's context the calling thread's.
    pub(super) fn bind(&self) -> Result<()> {
        self.context().bind_to_thread().map_err(|error| self.error("using the device", error))
    }

    /// An error with what was tried and the driver's words.
    pub(super) fn error(&self, what: impl fmt::Display, error: DriverError) -> Error {
        device_error(self.name(), what, error)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _turn = self.turns.call(); // modules are unloaded
        if let Err(error) = self.context.bind_to_thread() {
            tracing::debug!(%error, "a device that is closed cannot be used");
        }
        self.kernels.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn device_error(device: &str, what: impl fmt::Display, error: DriverError) -> Error {
    Error::Device { device: device.into(), message: format!("{what}: {error}") }
}
