// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events: marks in a stream that other streams and the host can wait for.

use std::ffi::c_uint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::capture::Reach;
use crate::clock::Clock;
use crate::driver::{call, call_always, Driver, Handle};
use crate::execute::Work;
use crate::graph::CapturedEvent;
use crate::status::{put, Result, Status};
use crate::stream::StreamHandle;

/// One recording of an event: the event may be recorded anew while others still wait for this one.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) stream: StreamHandle,
    pub(crate) clock: Clock,
    done: AtomicBool,
    at: OnceLock<Instant>,
}

impl Record {
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) fn finish(&self) {
        self.at.get_or_init(Instant::now);
        self.done.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) latest: Option<Arc<Record>>,
    /// Set when the latest recording was captured into a graph.
    pub(crate) captured: Option<CapturedEvent>,
}

impl Driver {
    fn event(&mut self, handle: Handle) -> Result<&mut Event> {
        self.events.get_mut(&handle).ok_or(Status::INVALID_HANDLE)
    }

    fn record_event(&mut self, event: Handle, stream: StreamHandle) -> Result<()> {
        let stream = self.used_stream(stream)?;
        self.event(event)?;
        if let Some(captured) = self.captured_point(stream)? {
            self.unbroken(captured.graph)?;
            self.event(event)?.captured = Some(captured);
            return Ok(());
        }
        let host = self.host_clock.clone();
        let mut clock = self.stream(stream)?.clock.clone();
        clock.join(&host);
        let record =
            Arc::new(Record { stream, clock, done: AtomicBool::new(false), at: OnceLock::new() });
        *self.event(event)? = Event { latest: Some(record.clone()), captured: None };
        self.enqueue(stream, Work::Record(record))
    }

    fn wait_event(&mut self, stream: StreamHandle, event: Handle) -> Result<()> {
        let stream = self.used_stream(stream)?;
        let state = self.event(event)?;
        if let Some(captured) = state.captured.clone() {
            return self.join_capture(stream, captured);
        }
        let Some(record) = state.latest.clone() else { return Ok(()) };
        if let Some(point) = self.captured_point(stream)? {
            return self.break_captures(
                |graph, _| *graph == point.graph,
                Status::STREAM_CAPTURE_ISOLATION,
                "a captured stream waits for an event from outside the capture",
            );
        }
        self.stream(stream)?.clock.join(&record.clock);
        self.enqueue(stream, Work::Wait(record))
    }

    /// The latest recording, if the event was ever recorded. The host cannot wait for a captured
    /// one, and the capture does not survive that it is asked to.
    fn latest_record(&mut self, event: Handle) -> Result<Option<Arc<Record>>> {
        if let Some(point) = self.event(event)?.captured.clone() {
            let text = "the host waits for an event that was captured into a graph";
            self.break_captures(|graph, _| *graph == point.graph, Status::CAPTURED_EVENT, text)?;
            return self.refuse(Status::CAPTURED_EVENT, text);
        }
        Ok(self.event(event)?.latest.clone())
    }
}

#[no_mangle]
unsafe extern "C" fn cuEventCreate(event: *mut Handle, _flags: c_uint) -> Status {
    call(|driver| {
        let handle = driver.new_handle();
        driver.events.insert(handle, Event::default());
        // SAFETY: the caller gives a place for the handle.
        unsafe { put(event, handle) }.ok()
    })
}

#[no_mangle]
extern "C" fn cuEventDestroy_v2(event: Handle) -> Status {
    call_always(|driver| driver.events.remove(&event).map(|_| ()).ok_or(Status::INVALID_HANDLE))
}

#[no_mangle]
extern "C" fn cuEventRecord(event: Handle, stream: StreamHandle) -> Status {
    call(|driver| driver.record_event(event, stream))
}

#[no_mangle]
extern "C" fn cuEventRecordWithFlags(
    event: Handle,
    stream: StreamHandle,
    _flags: c_uint,
) -> Status {
    call(|driver| driver.record_event(event, stream))
}

#[no_mangle]
extern "C" fn cuStreamWaitEvent(stream: StreamHandle, event: Handle, _flags: c_uint) -> Status {
    call(|driver| driver.wait_event(stream, event))
}

/// Polling makes one step of progress, so that a loop around it ends.
#[no_mangle]
extern "C" fn cuEventQuery(event: Handle) -> Status {
    call(|driver| {
        let record = driver.latest_record(event)?;
        driver.unsafe_call("an event was queried", Reach::Stream)?;
        let Some(record) = record else { return Ok(()) };
        if !record.is_done() {
            driver.step_towards(record.stream)?;
            return Err(Status::NOT_READY);
        }
        driver.host_clock.join(&record.clock);
        Ok(())
    })
}

#[no_mangle]
extern "C" fn cuEventSynchronize(event: Handle) -> Status {
    call(|driver| {
        let record = driver.latest_record(event)?;
        driver.unsafe_call("an event was waited for", Reach::Stream)?;
        let Some(record) = record else { return Ok(()) };
        driver.counters.host_waits += 1;
        driver.run_until(record.stream, |_| record.is_done())?;
        driver.host_clock.join(&record.clock);
        Ok(())
    })
}

/// Host time between two events: it says nothing about a GPU, but it is positive and increases.
#[no_mangle]
unsafe extern "C" fn cuEventElapsedTime_v2(
    milliseconds: *mut f32,
    start: Handle,
    end: Handle,
) -> Status {
    call(|driver| {
        let mut when = |event| match driver.latest_record(event)? {
            Some(record) => record.at.get().copied().ok_or(Status::NOT_READY),
            None => Err(Status::INVALID_HANDLE),
        };
        let elapsed = when(end)?.saturating_duration_since(when(start)?);
        // SAFETY: the caller gives a place for the number.
        unsafe { put(milliseconds, elapsed.as_secs_f32() * 1e3) }.ok()
    })
}

#[no_mangle]
unsafe extern "C" fn cuEventElapsedTime(
    milliseconds: *mut f32,
    start: Handle,
    end: Handle,
) -> Status {
    // SAFETY: the caller's promise is passed on.
    unsafe { cuEventElapsedTime_v2(milliseconds, start, end) }
}
