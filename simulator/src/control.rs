// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulator's own entry points: switches, counters and reports. `loader.rs` calls them from
//! tests.

use std::ffi::c_char;
use std::time::Duration;

use crate::driver::{call_always, Driver};
use crate::settings::{DeviceModel, ImageKind, Mode, Named, StreamOrder, ThreadOrder};
use crate::status::{put, Status};

/// What the simulated driver has done since the counters were last cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Kernels run, those in graphs too.
    pub launches: u64,
    /// Of these, those all of whose blocks were to be on the device at the same time.
    pub cooperative_launches: u64,
    /// Of these, those with blocks in clusters.
    pub cluster_launches: u64,
    /// Graphs launched.
    pub graph_launches: u64,
    /// Copies run, in any direction.
    pub copies: u64,
    /// Fills run.
    pub fills: u64,
    /// Device allocations made.
    pub allocations: u64,
    /// Times the host waited for a stream or an event.
    pub host_waits: u64,
    /// Device allocations that exist now.
    pub live_allocations: u64,
    /// Bytes of device memory in use now.
    pub live_bytes: u64,
    /// Bytes of pinned host memory that exist now.
    pub pinned_bytes: u64,
    /// Switches between simulated threads.
    pub switches: u64,
    /// Warp collectives run.
    pub collectives: u64,
    /// Static shared memory that the last kernel reached, in bytes.
    pub static_shared_bytes: u64,
    /// Host time spent in kernels, in nanoseconds: the simulator's own speed, not a GPU's.
    pub kernel_nanoseconds: u64,
    /// Calls that reach the whole device (memory allocated or freed, modules loaded or unloaded, a
    /// wait for the context), made while another thread captured, whether or not the modes allowed
    /// them.
    pub calls_beside_captures: u64,
    /// Contexts made.
    pub contexts: u64,
    /// Modules loaded.
    pub modules: u64,
}

fn switch<T: Named>(number: u32, set: impl FnOnce(&mut Driver, T)) -> Status {
    call_always(|driver| {
        let value = T::from_number(number).ok_or(Status::INVALID_VALUE)?;
        set(driver, value);
        Ok(())
    })
}

#[no_mangle]
extern "C" fn kiln_sim_set_mode(mode: u32) -> Status {
    switch(mode, |driver, mode: Mode| driver.settings.mode = mode)
}

#[no_mangle]
extern "C" fn kiln_sim_set_stream_order(order: u32) -> Status {
    switch(order, |driver, order: StreamOrder| driver.settings.streams = order)
}

#[no_mangle]
extern "C" fn kiln_sim_set_thread_order(order: u32) -> Status {
    switch(order, |driver, order: ThreadOrder| driver.settings.threads = order)
}

#[no_mangle]
extern "C" fn kiln_sim_set_device(model: u32) -> Status {
    switch(model, |driver, model: DeviceModel| driver.settings.device = model)
}

#[no_mangle]
extern "C" fn kiln_sim_set_seed(seed: u64) -> Status {
    call_always(|driver| {
        driver.settings.seed = seed;
        driver.seed(seed);
        Ok(())
    })
}

#[no_mangle]
extern "C" fn kiln_sim_set_memory(bytes: u64) -> Status {
    call_always(|driver| {
        driver.settings.memory = usize::try_from(bytes).map_err(|_| Status::INVALID_VALUE)?;
        Ok(())
    })
}

/// Lets the driver say that it is of this CUDA version, 13000 for 13.0, and compile PTX up to a version,
/// 90 for 9.0, or any with 0.
#[no_mangle]
extern "C" fn kiln_sim_set_version(version: u32, latest_ptx: u32) -> Status {
    call_always(|driver| {
        (driver.settings.version, driver.settings.latest_ptx) = (version, latest_ptx);
        Ok(())
    })
}

/// Refuses images of a kind from now on with this code, and none of it with `SUCCESS`.
#[no_mangle]
extern "C" fn kiln_sim_refuse_images(kind: u32, status: Status) -> Status {
    switch(kind, |driver, kind: ImageKind| driver.settings.refused_images[kind as usize] = status.0)
}

/// Makes the context unusable as if a kernel had failed with this code.
#[no_mangle]
extern "C" fn kiln_sim_inject_error(status: Status) -> Status {
    call_always(|driver| {
        if !status.is_sticky() {
            return Err(Status::INVALID_VALUE);
        }
        driver.lose_context(status, "an error that a test asked for".into());
        Ok(())
    })
}

/// Refuses every launch from now on with this code, and none with `SUCCESS`. The context stays
/// usable.
#[no_mangle]
extern "C" fn kiln_sim_refuse_launches(status: Status) -> Status {
    call_always(|driver| {
        driver.refused_launches = (status != Status::SUCCESS).then_some(status);
        Ok(())
    })
}

/// Refuses one launch with this code: the one after the next `before`.
#[no_mangle]
extern "C" fn kiln_sim_refuse_launch(before: u64, status: Status) -> Status {
    call_always(|driver| {
        driver.refused_launch = Some((before, status));
        Ok(())
    })
}

/// Makes the context unusable with this code when the next capture has begun.
#[no_mangle]
extern "C" fn kiln_sim_inject_error_in_capture(status: Status) -> Status {
    call_always(|driver| {
        if !status.is_sticky() {
            return Err(Status::INVALID_VALUE);
        }
        driver.lost_in_capture = Some(status);
        Ok(())
    })
}

/// Lets each call that begins a capture return this much later.
#[no_mangle]
extern "C" fn kiln_sim_set_capture_pause(microseconds: u64) -> Status {
    call_always(|driver| {
        driver.capture_pause = Duration::from_micros(microseconds);
        Ok(())
    })
}

/// A new driver: no context, the environment's settings, no reports, counters at zero. Whoever
/// still holds handles of the old context gets errors for them.
#[no_mangle]
extern "C" fn kiln_sim_reset() -> Status {
    call_always(|driver| {
        driver.restart();
        Ok(())
    })
}

#[no_mangle]
unsafe extern "C" fn kiln_sim_counters(counters: *mut Counters) -> Status {
    call_always(|driver| {
        let mut found = driver.counters;
        found.live_allocations = driver.memory.live_count() as u64;
        found.live_bytes = driver.memory.used as u64;
        found.pinned_bytes = driver.memory.pinned_bytes() as u64;
        // SAFETY: the caller gives a place for the counters.
        unsafe { put(counters, found) }.ok()
    })
}

#[no_mangle]
extern "C" fn kiln_sim_clear_counters() -> Status {
    call_always(|driver| {
        driver.counters = Counters::default();
        Ok(())
    })
}

/// Copies the reports, one a line, and forgets them; gives the bytes they need. With too little
/// room nothing is copied or forgotten.
#[no_mangle]
unsafe extern "C" fn kiln_sim_take_reports(buffer: *mut c_char, room: usize) -> usize {
    let mut driver = Driver::lock();
    let lines: Vec<String> =
        driver.reports.iter().map(|report| report.replace('\n', " ")).collect();
    let text = lines.join("\n");
    // SAFETY: the caller's promise is passed on.
    if unsafe { copy_text(&text, buffer, room) } {
        driver.reports.clear();
    }
    text.len()
}

/// Copies the text of the last error; gives the bytes it needs.
#[no_mangle]
unsafe extern "C" fn kiln_sim_last_error(buffer: *mut c_char, room: usize) -> usize {
    let driver = Driver::lock();
    let text = driver.last_error.as_ref().map_or("", |error| &error.1);
    // SAFETY: the caller's promise is passed on.
    unsafe { copy_text(text, buffer, room) };
    text.len()
}

/// # Safety
/// `buffer` has `room` bytes.
unsafe fn copy_text(text: &str, buffer: *mut c_char, room: usize) -> bool {
    if text.len() > room || buffer.is_null() {
        return false;
    }
    // SAFETY: the buffer has at least as many bytes as the text.
    unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
    true
}
