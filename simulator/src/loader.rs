// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads the shared object and calls its switches. This is the only part of the crate that a test
//! links.

use std::ffi::{c_char, CStr};
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use libloading::os::unix::{Library, Symbol, RTLD_LOCAL, RTLD_NOW};

use crate::control::Counters;
use crate::settings::{DeviceModel, ImageKind, Mode, StreamOrder, ThreadOrder};

const FILE: &str = "libkiln_simcuda.so";
/// The name under which CUDA programs ask for a driver.
const DRIVER: &CStr = c"libcuda.so";

/// The loaded simulator.
#[derive(Debug)]
pub struct Simulator {
    library: Library,
    path: PathBuf,
}

/// The simulator, held by one test at a time and as new for each.
#[derive(Debug)]
pub struct Exclusive {
    simulator: &'static Simulator,
    _turn: MutexGuard<'static, ()>,
}

/// Why the simulator cannot be used.
#[derive(Clone, Debug)]
pub enum LoadError {
    /// The shared object is at none of these places.
    NotFound(Vec<PathBuf>),
    /// The system's loader refused it.
    Refused(PathBuf, String),
    /// Another driver was loaded first, so that programs would reach that one: load the simulator
    /// before any CUDA call.
    OtherDriver,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::NotFound(places) => write!(f, "{FILE} is at none of {places:?}"),
            LoadError::Refused(path, reason) => {
                write!(f, "cannot load {}: {reason}", path.display())
            }
            LoadError::OtherDriver => write!(f, "another libcuda.so is loaded in this process"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Loads the simulator, once for the process: from here on `libcuda.so` means the simulated driver
/// in this process, and in no other. Call this before anything asks for a CUDA driver.
///
/// `KILN_SIM_LIBRARY` names the file; otherwise it is looked for beside the running program and in
/// the folders above it, where cargo puts both.
///
/// # Errors
/// If the file is missing or refused, or if another driver was loaded first.
pub fn load() -> Result<&'static Simulator, LoadError> {
    static LOADED: OnceLock<Result<Simulator, LoadError>> = OnceLock::new();
    LOADED.get_or_init(Simulator::open).as_ref().map_err(Clone::clone)
}

impl Simulator {
    fn open() -> Result<Self, LoadError> {
        let places = candidates();
        let Some(path) = places.iter().find(|path| path.is_file()).cloned() else {
            return Err(LoadError::NotFound(places));
        };
        // SAFETY: the object was built from this crate; loading it runs no code of its own.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
        let library =
            library.map_err(|error| LoadError::Refused(path.clone(), error.to_string()))?;
        if is_answered_by(&library) {
            Ok(Self { library, path })
        } else {
            Err(LoadError::OtherDriver)
        }
    }

    /// Where the shared object was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a turn, then starts the driver anew: no context, the environment's settings,
    /// counters at zero. Contexts of an earlier turn must be gone.
    pub fn exclusive(&'static self) -> Exclusive {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        self.command(b"kiln_sim_reset\0");
        Exclusive { simulator: self, _turn: turn }
    }

    /// Chooses which build of the kernels runs. Memory allocated before [`Mode::Checked`] is only
    /// checked for bounds.
    pub fn set_mode(&self, mode: Mode) {
        self.set(b"kiln_sim_set_mode\0", mode as u32);
    }

    /// Chooses when queued work runs.
    pub fn set_stream_order(&self, order: StreamOrder) {
        self.set(b"kiln_sim_set_stream_order\0", order as u32);
    }

    /// Chooses the order of threads and blocks.
    pub fn set_thread_order(&self, order: ThreadOrder) {
        self.set(b"kiln_sim_set_thread_order\0", order as u32);
    }

    /// Chooses the GPU; do so before it is asked about.
    pub fn set_device(&self, model: DeviceModel) {
        self.set(b"kiln_sim_set_device\0", model as u32);
    }

    /// Seeds the random orders.
    pub fn set_seed(&self, seed: u64) {
        self.set(b"kiln_sim_set_seed\0", seed);
    }

    /// Sets the size of the device's memory in bytes.
    pub fn set_memory(&self, bytes: u64) {
        self.set(b"kiln_sim_set_memory\0", bytes);
    }

    /// Lets the driver say that it is of this CUDA version, 13000 for 13.0, and refuse PTX that is later
    /// than a version, 90 for 9.0; with 0, none.
    pub fn set_version(&self, version: u32, latest_ptx: u32) {
        // SAFETY: control.rs defines the function with this type.
        let set =
            unsafe { self.symbol::<extern "C" fn(u32, u32) -> u32>(b"kiln_sim_set_version\0") };
        set(version, latest_ptx);
    }

    /// Refuses images of a kind from now on with one of the driver's codes; with 0, none any more.
    pub fn refuse_images(&self, kind: ImageKind, code: u32) {
        // SAFETY: control.rs defines the function with this type.
        let refuse =
            unsafe { self.symbol::<extern "C" fn(u32, u32) -> u32>(b"kiln_sim_refuse_images\0") };
        refuse(kind as u32, code);
    }

    /// Makes the context unusable, as a failed kernel does. `code` is the driver's, 700 to 719
    /// except 701; others do nothing.
    pub fn inject_error(&self, code: u32) {
        self.set(b"kiln_sim_inject_error\0", code);
    }

    /// Refuses every launch from now on with one of the driver's codes; with 0, none any more.
    pub fn refuse_launches(&self, code: u32) {
        self.set(b"kiln_sim_refuse_launches\0", code);
    }

    /// Refuses one launch with one of the driver's codes: the one after the next `before`.
    pub fn refuse_launch(&self, before: u64, code: u32) {
        // SAFETY: control.rs defines the function with this type.
        let refuse =
            unsafe { self.symbol::<extern "C" fn(u64, u32) -> u32>(b"kiln_sim_refuse_launch\0") };
        refuse(before, code);
    }

    /// As [`inject_error`](Simulator::inject_error), when the next capture has begun.
    pub fn inject_error_in_capture(&self, code: u32) {
        self.set(b"kiln_sim_inject_error_in_capture\0", code);
    }

    /// Lets each call that begins a capture return this much later, so that other threads call the
    /// driver while the capture is on.
    pub fn set_capture_pause(&self, pause: Duration) {
        self.set(b"kiln_sim_set_capture_pause\0", pause.as_micros() as u64);
    }

    /// What was done since the counters were cleared.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        // SAFETY: control.rs defines the function with this type.
        let read = unsafe {
            self.symbol::<unsafe extern "C" fn(*mut Counters) -> u32>(b"kiln_sim_counters\0")
        };
        // SAFETY: the counters are valid to write.
        unsafe { read(&mut counters) };
        counters
    }

    /// Sets the counters to zero.
    pub fn clear_counters(&self) {
        self.command(b"kiln_sim_clear_counters\0");
    }

    /// What was found wrong since the last call: stream races, copies of uninitialised memory,
    /// failed kernels.
    pub fn take_reports(&self) -> Vec<String> {
        self.text(b"kiln_sim_take_reports\0").lines().map(str::to_owned).collect()
    }

    /// The text of the last error, whoever it went to; empty if there was none.
    pub fn last_error(&self) -> String {
        self.text(b"kiln_sim_last_error\0")
    }

    fn set<T>(&self, name: &[u8], value: T) {
        // SAFETY: control.rs defines every setter with one parameter of the type that the callers
        // above pass.
        unsafe { self.symbol::<extern "C" fn(T) -> u32>(name)(value) };
    }

    fn command(&self, name: &[u8]) {
        // SAFETY: control.rs defines the commands without parameters.
        unsafe { self.symbol::<extern "C" fn() -> u32>(name)() };
    }

    fn text(&self, name: &[u8]) -> String {
        // SAFETY: control.rs defines the readers of texts with this type.
        let read =
            unsafe { self.symbol::<unsafe extern "C" fn(*mut c_char, usize) -> usize>(name) };
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            // SAFETY: the buffer has as many bytes as it says.
            let needed = unsafe { read(buffer.as_mut_ptr().cast(), buffer.len()) };
            if needed <= buffer.len() {
                buffer.truncate(needed);
                return String::from_utf8_lossy(&buffer).into_owned();
            }
            buffer.resize(needed, 0);
        }
    }

    /// # Safety
    /// `T` is the type of the function of this name.
    unsafe fn symbol<T>(&self, name: &[u8]) -> Symbol<T> {
        // SAFETY: the caller's promise is passed on.
        match unsafe { self.library.get(name) } {
            Ok(symbol) => symbol,
            Err(error) => panic!("{} is not of this version: {error}", self.path.display()),
        }
    }
}

impl Deref for Exclusive {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        self.simulator
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("KILN_SIM_LIBRARY") {
        return vec![named.into()];
    }
    let program = std::env::current_exe().unwrap_or_default();
    // Tests run in target/<profile>/deps, examples in target/<profile>/examples, programs in
    // target/<profile>.
    let folders = program.ancestors().skip(1).take(3);
    folders.flat_map(|folder| [folder.join(FILE), folder.join("deps").join(FILE)]).collect()
}

/// Whether a request for a driver is answered by this library.
fn is_answered_by(library: &Library) -> bool {
    const ENTRY: &CStr = c"cuInit";
    // SAFETY: asks for an object that is loaded already, so that nothing is run.
    let answered = unsafe { libc::dlopen(DRIVER.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_NOW) };
    if answered.is_null() {
        return false;
    }
    // SAFETY: a handle from dlopen, and a name; only addresses are compared.
    let (theirs, ours) = unsafe {
        (
            libc::dlsym(answered, ENTRY.as_ptr()),
            library.get::<*mut libc::c_void>(ENTRY.to_bytes_with_nul()),
        )
    };
    ours.is_ok_and(|ours| ours.as_raw_ptr() == theirs)
}
