// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole state of the simulated driver, behind one lock.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::capture::Capture;
use crate::clock::{Clock, Tracks};
use crate::control::Counters;
use crate::event::Event;
use crate::function::Function;
use crate::graph::{Executable, Node};
use crate::memory::Memory;
use crate::module::Module;
use crate::races::OperationNames;
use crate::settings::Settings;
use crate::status::{Result, Status};
use crate::stream::{Kind, Stream, StreamHandle};

/// An opaque pointer of the driver's interface: a context, module, function, event, graph or
/// executable graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Handle(pub(crate) usize);

#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) settings: Settings,
    /// What was wrong with the environment, told when the driver is initialised.
    pub(crate) bad_settings: Option<String>,
    pub(crate) initialised: bool,
    pub(crate) retained: u32,
    pub(crate) streams: BTreeMap<StreamHandle, Stream>,
    pub(crate) events: BTreeMap<Handle, Event>,
    pub(crate) memory: Memory,
    pub(crate) modules: BTreeMap<Handle, Module>,
    pub(crate) functions: BTreeMap<Handle, Function>,
    pub(crate) captures: BTreeMap<Handle, Capture>,
    pub(crate) graphs: BTreeMap<Handle, Vec<Node>>,
    pub(crate) executables: BTreeMap<Handle, Executable>,
    pub(crate) tracks: Tracks,
    /// What the host has waited for.
    pub(crate) host_clock: Clock,
    pub(crate) operations: OperationNames,
    /// The error that made the context unusable.
    pub(crate) sticky: Option<Status>,
    pub(crate) last_error: Option<(Status, String)>,
    /// What launches are refused with, if a test asked for it.
    pub(crate) refused_launches: Option<Status>,
    /// What one launch is refused with, and how many come before it.
    pub(crate) refused_launch: Option<(u64, Status)>,
    /// What the context is lost with when the next capture begins.
    pub(crate) lost_in_capture: Option<Status>,
    /// How much later the call returns that begins a capture.
    pub(crate) capture_pause: Duration,
    pub(crate) texts: Vec<CString>,
    pub(crate) reports: Vec<String>,
    pub(crate) counters: Counters,
    random: u64,
    next_handle: usize,
}

static DRIVER: LazyLock<Mutex<Driver>> = LazyLock::new(|| Mutex::new(Driver::new()));

impl Driver {
    fn new() -> Self {
        let (settings, bad_settings) = match Settings::from_environment() {
            Ok(settings) => (settings, None),
            Err(text) => (Settings::default(), Some(text)),
        };
        let mut driver = Self {
            random: 0,
            bad_settings,
            initialised: false,
            retained: 0,
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            memory: Memory::default(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            captures: BTreeMap::new(),
            graphs: BTreeMap::new(),
            executables: BTreeMap::new(),
            tracks: Tracks::default(),
            host_clock: Clock::default(),
            operations: OperationNames::default(),
            sticky: None,
            last_error: None,
            refused_launches: None,
            refused_launch: None,
            lost_in_capture: None,
            capture_pause: Duration::ZERO,
            texts: Vec::new(),
            reports: Vec::new(),
            counters: Counters::default(),
            next_handle: 0x1000,
            settings,
        };
        driver.seed(driver.settings.seed);
        driver.forget_context();
        driver
    }

    /// The driver, for a call that works whatever the state of the context.
    pub(crate) fn lock() -> MutexGuard<'static, Driver> {
        DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that belongs to a context goes with it, its error too.
    pub(crate) fn forget_context(&mut self) {
        self.events.clear();
        self.modules.clear();
        self.functions.clear();
        self.captures.clear();
        self.graphs.clear();
        self.executables.clear();
        self.memory.clear();
        self.operations = OperationNames::default();
        self.tracks = Tracks::default();
        self.host_clock = Clock::default();
        self.sticky = None;
        self.streams.clear();
        for built_in in [StreamHandle::LEGACY, StreamHandle::PER_THREAD] {
            let track = self.tracks.open();
            self.streams.insert(built_in, Stream::new(Kind::Blocking, track));
        }
    }

    /// As the process began; handles keep counting, so that old ones stay invalid.
    pub(crate) fn restart(&mut self) {
        let next_handle = self.next_handle;
        let texts = std::mem::take(&mut self.texts);
        *self = Self { next_handle, texts, ..Self::new() };
    }

    pub(crate) fn new_handle(&mut self) -> Handle {
        self.next_handle += 16;
        Handle(self.next_handle)
    }

    pub(crate) fn seed(&mut self, seed: u64) {
        self.random = seed.wrapping_mul(2).wrapping_add(1);
    }

    pub(crate) fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// One of `count` at random.
    pub(crate) fn pick(&mut self, count: usize) -> usize {
        (self.next_random() % count as u64) as usize
    }

    /// An error for the caller alone: the context stays usable.
    pub(crate) fn refuse<T>(&mut self, status: Status, text: impl Into<String>) -> Result<T> {
        self.last_error = Some((status, text.into()));
        Err(status)
    }

    /// An error of work that ran: the context is lost, and the work that is still queued with it.
    pub(crate) fn lose_context(&mut self, status: Status, text: String) {
        self.reports.push(text.clone());
        self.last_error = Some((status, text));
        self.sticky = Some(status);
        for stream in self.streams.values_mut() {
            stream.queue.clear();
        }
    }
}

/// An entry point that a lost context refuses.
pub(crate) fn call(body: impl FnOnce(&mut Driver) -> Result<()>) -> Status {
    call_always(|driver| match driver.sticky {
        Some(status) => Err(status),
        None if !driver.initialised => Err(Status::NOT_INITIALIZED),
        None => body(driver),
    })
}

/// An entry point that works with a lost context too.
pub(crate) fn call_always(body: impl FnOnce(&mut Driver) -> Result<()>) -> Status {
    let mut driver = Driver::lock();
    match catch_unwind(AssertUnwindSafe(|| body(&mut driver))) {
        Ok(Ok(())) => Status::SUCCESS,
        Ok(Err(status)) => status,
        Err(_) => {
            driver.last_error =
                Some((Status::UNKNOWN, "the simulated driver itself failed".into()));
            Status::UNKNOWN
        }
    }
}
