// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel launches: the checks at the call, and running the kernel when its stream reaches it.

use std::ffi::{c_uint, c_void};
use std::slice;
use std::sync::Arc;
use std::time::Instant;

use crate::attributes::{Attributes, LaunchAttribute};
use crate::driver::{call, Driver, Handle};
use crate::engine::{
    Engine, FailureKind, KernelFailure, KernelRace, Outcome, Parameter, ParameterKind, Request,
};
use crate::execute::{Failure, Work};
use crate::memory::{Tracking, When};
use crate::races::Moment;
use crate::settings::Mode;
use crate::status::{Result, Status};
use crate::stream::StreamHandle;
use crate::symbols::source_line;

/// A launch whose arguments were copied when it was queued.
#[derive(Debug)]
pub(crate) struct KernelLaunch {
    pub(crate) name: Arc<str>,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_bytes: usize,
    /// What the kernel may use of both kinds of shared memory.
    shared_limit: u32,
    attributes: Attributes,
    arguments: Vec<Vec<u128>>,
}

/// `CUlaunchConfig`.
#[derive(Debug)]
#[repr(C)]
struct LaunchConfig {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    dynamic_bytes: c_uint,
    stream: StreamHandle,
    attributes: *const LaunchAttribute,
    attribute_count: c_uint,
}

impl Driver {
    /// Memory is followed in checked mode only: plain kernels do not say what they touch.
    pub(crate) fn tracking(&self) -> Tracking {
        match self.settings.mode {
            Mode::Plain => Tracking::None,
            Mode::Checked => Tracking::Full,
        }
    }

    /// # Safety
    /// `parameters` holds a pointer to each of the kernel's parameters, and the configuration one to
    /// as many attributes as it says.
    unsafe fn launch(
        &mut self,
        function: Handle,
        config: &LaunchConfig,
        parameters: *const *const c_void,
    ) -> Result<()> {
        let Some(found) = self.functions.get(&function) else { return Err(Status::INVALID_HANDLE) };
        let attributes: &[LaunchAttribute] = match config.attributes.is_null() {
            true => &[],
            // SAFETY: by the caller's promise.
            false => unsafe {
                slice::from_raw_parts(config.attributes, config.attribute_count as usize)
            },
        };
        let (device, extents) = (self.device(), [config.grid, config.block]);
        let shape = found
            .check_shape(device, config.grid, config.block, config.dynamic_bytes)
            .and_then(|()| Attributes::of(attributes))
            .and_then(|asked| {
                asked.check(found, device, extents, config.dynamic_bytes).map(|()| asked)
            });
        let (name, sizes, shared_limit) =
            (found.name.clone(), found.parameters, found.shared_limit(self.device()));
        let attributes = match shape {
            Ok(attributes) => attributes,
            Err((status, problem)) => {
                return self.refuse(status, format!("launch of {name}: {problem}"))
            }
        };
        if let Some(status) = self.refusal() {
            return self
                .refuse(status, format!("launch of {name}: a refusal that a test asked for"));
        }
        // SAFETY: the caller's promise is passed on.
        let arguments = unsafe { self.take_arguments(&name, sizes, parameters) }?;
        let launch = KernelLaunch {
            name,
            grid: config.grid,
            block: config.block,
            dynamic_bytes: config.dynamic_bytes as usize,
            shared_limit,
            attributes,
            arguments,
        };
        self.enqueue(config.stream, Work::Launch(Arc::new(launch)))
    }

    /// What this launch is refused with, if a test asked for it.
    fn refusal(&mut self) -> Option<Status> {
        let this_one = self.refused_launch.take_if(|(before, _)| *before == 0);
        if let Some((before, _)) = &mut self.refused_launch {
            *before -= 1;
        }
        self.refused_launches.or(this_one.map(|(_, status)| status))
    }

    /// Copies the arguments, as the driver does before the launch returns.
    ///
    /// # Safety
    /// `from` holds a pointer to each of the kernel's parameters, or is null.
    unsafe fn take_arguments(
        &mut self,
        kernel: &str,
        parameters: &[Parameter],
        from: *const *const c_void,
    ) -> Result<Vec<Vec<u128>>> {
        if from.is_null() && !parameters.is_empty() {
            let text = format!("launch of {kernel}: {} parameters are missing", parameters.len());
            return self.refuse(Status::INVALID_VALUE, text);
        }
        let mut arguments = Vec::with_capacity(parameters.len());
        for (index, parameter) in parameters.iter().enumerate() {
            let size = parameter.bytes as usize;
            let mut bytes = vec![0u128; size.div_ceil(16)];
            // SAFETY: by the caller's promise there is a pointer for each parameter, to as many
            // bytes as it has.
            unsafe {
                let argument = *from.add(index);
                if argument.is_null() {
                    return Err(Status::INVALID_VALUE);
                }
                let copy = bytes.as_mut_ptr().cast::<u8>();
                copy.copy_from_nonoverlapping(argument.cast::<u8>(), size);
            }
            let pointer = bytes[0] as usize;
            if parameter.kind == ParameterKind::POINTER && pointer != 0 {
                if let Some(complaint) = self.memory.complain(pointer, 0, When::Queued) {
                    let text = format!("launch of {kernel}: argument {index}: {complaint}");
                    return self.refuse(Status::INVALID_VALUE, text);
                }
            }
            arguments.push(bytes);
        }
        Ok(arguments)
    }

    pub(crate) fn run_kernel(
        &mut self,
        launch: &KernelLaunch,
        moment: &Moment,
    ) -> std::result::Result<(), Failure> {
        let unknown = |text: String| Failure { status: Status::LAUNCH_FAILED, text };
        let engine = Engine::get(self.settings.mode).map_err(unknown)?;
        let mut regions = self.memory.regions();
        let request = Request {
            kernel: &launch.name,
            grid: launch.grid,
            block: launch.block,
            dynamic_bytes: launch.dynamic_bytes,
            arguments: &launch.arguments,
            order: self.settings.threads,
            together: launch.attributes.cooperative,
            seed: self.next_random(),
            regions: &mut regions,
            epoch: moment.epoch,
            clock: moment.clock.ticks(),
        };
        let started = Instant::now();
        let outcome = engine
            .run(request)
            .ok_or_else(|| unknown(format!("kernel {} has no host build", launch.name)))?;
        self.counters.kernel_nanoseconds += started.elapsed().as_nanos() as u64;
        if self.settings.mode == Mode::Plain {
            self.memory.forget_initialised();
        }
        self.conclude(launch, moment, outcome)
    }

    fn conclude(
        &mut self,
        launch: &KernelLaunch,
        moment: &Moment,
        outcome: Outcome,
    ) -> std::result::Result<(), Failure> {
        self.counters.launches += 1;
        self.counters.cooperative_launches += u64::from(launch.attributes.cooperative);
        self.counters.cluster_launches += u64::from(launch.attributes.cluster.is_some());
        self.counters.switches += outcome.switches;
        self.counters.collectives += outcome.collectives;
        self.counters.static_shared_bytes = outcome.static_shared_bytes;
        for race in outcome.races {
            let report = self.describe_race(&launch.name, moment, &race);
            self.reports.push(report);
        }
        if let Some(failure) = outcome.failure {
            return Err(failure.into());
        }
        let shared = outcome.static_shared_bytes + launch.dynamic_bytes as u64;
        if shared > u64::from(launch.shared_limit) {
            let text = format!(
                "kernel {}: {} bytes of static and {} of dynamic shared memory pass its {} bytes",
                launch.name, outcome.static_shared_bytes, launch.dynamic_bytes, launch.shared_limit
            );
            return Err(Failure { status: Status::LAUNCH_FAILED, text });
        }
        Ok(())
    }

    fn describe_race(&self, name: &str, moment: &Moment, race: &KernelRace) -> String {
        let verb = |writes: bool| if writes { "write" } else { "read" };
        let place = match self.memory.find(race.address) {
            Some((start, allocation)) => format!(
                "{} bytes into a {}-byte allocation",
                race.address - start,
                allocation.bytes
            ),
            None => format!("{:#x}", race.address),
        };
        let line = source_line_of(race.code_address);
        format!(
            "stream race at {place}: {} by {} ({name}, {}{line}) is not ordered after the {} by {}",
            verb(race.writes),
            self.operations.get(moment.epoch),
            race.thread,
            verb(race.earlier_wrote),
            self.operations.get(race.earlier),
        )
    }
}

impl From<KernelFailure> for Failure {
    fn from(failure: KernelFailure) -> Self {
        let status = match failure.kind {
            FailureKind::IllegalAddress => Status::ILLEGAL_ADDRESS,
            FailureKind::Misaligned => Status::MISALIGNED_ADDRESS,
            FailureKind::LaunchFailed => Status::LAUNCH_FAILED,
        };
        Failure {
            status,
            text: format!("{}{}", failure.text, source_line_of(failure.code_address)),
        }
    }
}

/// ` at file:line`, or nothing if the line is not known or already told.
fn source_line_of(code_address: usize) -> String {
    if code_address == 0 {
        return String::new();
    }
    source_line(code_address).map(|line| format!(" at {line}")).unwrap_or_default()
}

#[no_mangle]
unsafe extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    dynamic_bytes: c_uint,
    stream: StreamHandle,
    parameters: *const *const c_void,
    extra: *const *const c_void,
) -> Status {
    call(|driver| {
        if !extra.is_null() {
            return driver.refuse(
                Status::NOT_SUPPORTED,
                "launch parameters in one buffer (`extra`) are not simulated",
            );
        }
        let config = LaunchConfig {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            dynamic_bytes,
            stream,
            attributes: std::ptr::null(),
            attribute_count: 0,
        };
        // SAFETY: the caller gives the parameters that the function has.
        unsafe { driver.launch(function, &config, parameters) }
    })
}

/// Cooperative launches and clusters are checked; other attributes are refused, since nothing here
/// would honour them.
#[no_mangle]
unsafe extern "C" fn cuLaunchKernelEx(
    config: *const LaunchConfig,
    function: Handle,
    parameters: *const *const c_void,
    _extra: *const *const c_void,
) -> Status {
    call(|driver| {
        // SAFETY: the caller gives a configuration or null.
        let Some(config) = (unsafe { config.as_ref() }) else { return Err(Status::INVALID_VALUE) };
        // SAFETY: the caller gives the parameters that the function has, and the attributes that
        // the configuration counts.
        unsafe { driver.launch(function, config, parameters) }
    })
}
