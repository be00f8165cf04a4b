// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two builds of the kernels, each a shared object with the runtime that runs it
//! (runtime/engine.h).

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void, CStr};
use std::sync::LazyLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::clock::Epoch;
use crate::memory::Region;
use crate::settings::{Mode, ThreadOrder};

/// One parameter of a kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Parameter {
    pub(crate) bytes: u32,
    pub(crate) kind: ParameterKind,
}

/// What a parameter is by its type, as an engine says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct ParameterKind(u32);

impl ParameterKind {
    pub(crate) const POINTER: ParameterKind = ParameterKind(1);
}

/// A kernel's record in an engine.
#[derive(Debug)]
#[repr(C)]
struct RawKernel {
    name: *const c_char,
    call: *const c_void,
    parameter_count: u32,
    parameters: *const Parameter,
    next: *const RawKernel,
}

const MOST_RACES: usize = 8;

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RawRace {
    pub(crate) earlier: Epoch,
    pub(crate) address: usize,
    pub(crate) code_address: usize,
    pub(crate) earlier_wrote: u32,
    pub(crate) later_writes: u32,
    thread: [c_char; 96],
}

#[repr(C)]
struct RawFailure {
    kind: u32,
    code_address: usize,
    text: [c_char; 768],
}

#[repr(C)]
struct RawLaunch {
    kernel: *const RawKernel,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_bytes: usize,
    arguments: *mut *mut c_void,
    order: u32,
    together: u32,
    seed: u64,
    regions: *mut Region,
    region_count: usize,
    epoch: Epoch,
    clock: *const u64,
    clock_length: usize,
    switches: u64,
    collectives: u64,
    static_shared_bytes: u64,
    failure: RawFailure,
    race_count: u32,
    races: [RawRace; MOST_RACES],
}

/// A launch to run now.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) dynamic_bytes: usize,
    /// Each parameter's bytes, aligned to 16.
    pub(crate) arguments: &'a [Vec<u128>],
    pub(crate) order: ThreadOrder,
    /// Whether all blocks are there at the same time.
    pub(crate) together: bool,
    pub(crate) seed: u64,
    pub(crate) regions: &'a mut [Region],
    pub(crate) epoch: Epoch,
    pub(crate) clock: &'a [u64],
}

/// How a launch ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) switches: u64,
    pub(crate) collectives: u64,
    pub(crate) static_shared_bytes: u64,
    pub(crate) failure: Option<KernelFailure>,
    pub(crate) races: Vec<KernelRace>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    IllegalAddress,
    Misaligned,
    LaunchFailed,
}

#[derive(Debug)]
pub(crate) struct KernelFailure {
    pub(crate) kind: FailureKind,
    /// In the kernel's code; 0 when the text names the line already.
    pub(crate) code_address: usize,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct KernelRace {
    pub(crate) earlier: Epoch,
    pub(crate) earlier_wrote: bool,
    pub(crate) writes: bool,
    pub(crate) address: usize,
    pub(crate) code_address: usize,
    /// Block and thread, and the line if it is known.
    pub(crate) thread: String,
}

#[derive(Debug)]
pub(crate) struct Engine {
    kernels: BTreeMap<String, &'static RawKernel>,
    run: unsafe extern "C" fn(*mut RawLaunch),
}

// SAFETY: the records are constants of a shared object that is never unloaded, and kernels only run
// under the driver's lock.
unsafe impl Send for Engine {}
// SAFETY: as above.
unsafe impl Sync for Engine {}

static ENGINES: LazyLock<Result<[Engine; 2], String>> = LazyLock::new(|| {
    Ok([Engine::load(env!("KILN_ENGINE_PLAIN"))?, Engine::load(env!("KILN_ENGINE_CHECKED"))?])
});

impl Engine {
    /// The engine of a mode.
    ///
    /// # Errors
    /// Says which shared object could not be loaded.
    pub(crate) fn get(mode: Mode) -> Result<&'static Engine, String> {
        ENGINES.as_ref().map(|engines| &engines[mode as usize]).map_err(Clone::clone)
    }

    fn load(path: &str) -> Result<Self, String> {
        // SAFETY: the object was built with this crate; loading it only registers its kernels.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library
            .map_err(|error| format!("cannot load the kernels built for the host: {error}"))?;
        type First = unsafe extern "C" fn() -> *const RawKernel;
        type Run = unsafe extern "C" fn(*mut RawLaunch);
        // SAFETY: runtime/engine.h declares both with these types, and the library is never
        // unloaded.
        let (first, run) = unsafe {
            let first = library.get::<First>(b"kiln_engine_first_kernel").map(|symbol| *symbol);
            let run = library.get::<Run>(b"kiln_engine_run").map(|symbol| *symbol);
            (first.map_err(|error| error.to_string())?, run.map_err(|error| error.to_string())?)
        };
        std::mem::forget(library);
        let mut kernels = BTreeMap::new();
        // SAFETY: the list's records are constants of the library.
        let mut next = unsafe { first().as_ref() };
        while let Some(kernel) = next {
            // SAFETY: as above; a name is a string literal.
            let name = unsafe { CStr::from_ptr(kernel.name) }.to_string_lossy().into_owned();
            if kernels.insert(name.clone(), kernel).is_some() {
                return Err(format!("two kernels are called {name}"));
            }
            // SAFETY: as above.
            next = unsafe { kernel.next.as_ref() };
        }
        Ok(Self { kernels, run })
    }

    /// The parameters of a kernel, or `None` if the host has no kernel of this name.
    pub(crate) fn parameters(&self, name: &str) -> Option<&'static [Parameter]> {
        let kernel = *self.kernels.get(name)?;
        // SAFETY: the record says how many parameters its array has.
        Some(unsafe {
            std::slice::from_raw_parts(kernel.parameters, kernel.parameter_count as usize)
        })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.kernels.keys().map(String::as_str)
    }

    pub(crate) fn run(&self, request: Request<'_>) -> Option<Outcome> {
        let kernel = *self.kernels.get(request.kernel)?;
        let mut arguments: Vec<*mut c_void> =
            request.arguments.iter().map(|bytes| bytes.as_ptr() as *mut c_void).collect();
        let mut launch = Box::new(RawLaunch {
            kernel,
            grid: request.grid,
            block: request.block,
            dynamic_bytes: request.dynamic_bytes,
            arguments: arguments.as_mut_ptr(),
            order: request.order as u32,
            together: u32::from(request.together),
            seed: request.seed,
            regions: request.regions.as_mut_ptr(),
            region_count: request.regions.len(),
            epoch: request.epoch,
            clock: request.clock.as_ptr(),
            clock_length: request.clock.len(),
            switches: 0,
            collectives: 0,
            static_shared_bytes: 0,
            failure: RawFailure { kind: 0, code_address: 0, text: [0; 768] },
            race_count: 0,
            races: [RawRace {
                earlier: Epoch::NONE,
                address: 0,
                code_address: 0,
                earlier_wrote: 0,
                later_writes: 0,
                thread: [0; 96],
            }; MOST_RACES],
        });
        // SAFETY: every pointer in the request outlives the call, and the driver's lock keeps
        // launches apart.
        unsafe { (self.run)(&mut *launch) };
        Some(launch.outcome())
    }
}

impl RawLaunch {
    fn outcome(&self) -> Outcome {
        let kind = match self.failure.kind {
            0 => None,
            1 => Some(FailureKind::IllegalAddress),
            2 => Some(FailureKind::Misaligned),
            _ => Some(FailureKind::LaunchFailed),
        };
        let races = self.races.iter().take(self.race_count as usize).map(|race| KernelRace {
            earlier: race.earlier,
            earlier_wrote: race.earlier_wrote != 0,
            writes: race.later_writes != 0,
            address: race.address,
            code_address: race.code_address,
            thread: text(&race.thread),
        });
        Outcome {
            switches: self.switches,
            collectives: self.collectives,
            static_shared_bytes: self.static_shared_bytes,
            failure: kind.map(|kind| KernelFailure {
                kind,
                code_address: self.failure.code_address,
                text: text(&self.failure.text),
            }),
            races: races.collect(),
        }
    }
}

/// The string in a buffer that the runtime always ends with a zero.
fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|c| *c as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
