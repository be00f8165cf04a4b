// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams: queues of work that run in order.

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};

use crate::capture::Reach;
use crate::clock::{Clock, Track};
use crate::driver::{call, call_always, Driver, Handle};
use crate::execute::{Item, Work};
use crate::graph::StreamCapture;
use crate::status::{put, Result, Status};

/// A `CUstream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct StreamHandle(pub(crate) usize);

impl StreamHandle {
    pub(crate) const LEGACY: StreamHandle = StreamHandle(1);
    pub(crate) const PER_THREAD: StreamHandle = StreamHandle(2);

    /// The null handle is the legacy default stream.
    pub(crate) fn resolve(self) -> Self {
        if self.0 == 0 {
            Self::LEGACY
        } else {
            self
        }
    }
}

/// How a stream was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In order with the legacy stream.
    Blocking,
    NonBlocking,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) kind: Kind,
    pub(crate) queue: VecDeque<Item>,
    pub(crate) track: Track,
    /// Everything that happens before the next piece of work.
    pub(crate) clock: Clock,
    pub(crate) capture: Option<StreamCapture>,
}

impl Stream {
    pub(crate) fn new(kind: Kind, track: Track) -> Self {
        Self { kind, queue: VecDeque::new(), track, clock: Clock::default(), capture: None }
    }
}

impl Driver {
    pub(crate) fn stream(&mut self, handle: StreamHandle) -> Result<&mut Stream> {
        self.streams.get_mut(&handle.resolve()).ok_or(Status::INVALID_HANDLE)
    }

    fn create_stream(&mut self, kind: Kind) -> StreamHandle {
        let handle = StreamHandle(self.new_handle().0);
        let track = self.tracks.open();
        self.streams.insert(handle, Stream::new(kind, track));
        handle
    }

    fn synchronize_stream(&mut self, handle: StreamHandle) -> Result<()> {
        let handle = self.used_stream(handle)?;
        if self.stream(handle)?.capture.is_some() {
            return self
                .break_capture_of(handle, "a stream that is being captured was synchronised");
        }
        self.unsafe_call("a stream was synchronised", Reach::Stream)?;
        self.finish_stream(handle)
    }

    /// Runs what the stream waits for and all of its work; the host then knows that it is done.
    pub(crate) fn finish_stream(&mut self, handle: StreamHandle) -> Result<()> {
        let handle = handle.resolve();
        self.counters.host_waits += 1;
        self.run_until(handle, |driver| {
            driver.streams.get(&handle).is_none_or(|stream| stream.queue.is_empty())
        })?;
        let clock = self.stream(handle)?.clock.clone();
        self.host_clock.join(&clock);
        Ok(())
    }

    /// Runs all work that was queued; what is being captured is none of it.
    pub(crate) fn finish_all(&mut self) -> Result<()> {
        let handles: Vec<_> = self.streams.keys().copied().collect();
        handles.into_iter().try_for_each(|handle| self.finish_stream(handle))
    }
}

const NON_BLOCKING: c_uint = 1;

// Blocking streams are told from non-blocking ones where streams are captured. Elsewhere the legacy
// stream orders nothing but itself, which allows every order that a program of non-blocking streams
// can meet, and more for others.
#[no_mangle]
unsafe extern "C" fn cuStreamCreate(stream: *mut StreamHandle, flags: c_uint) -> Status {
    call(|driver| {
        let kind = if flags & NON_BLOCKING == 0 { Kind::Blocking } else { Kind::NonBlocking };
        let handle = driver.create_stream(kind);
        // SAFETY: the caller gives a place for the handle.
        unsafe { put(stream, handle) }.ok()
    })
}

#[no_mangle]
unsafe extern "C" fn cuStreamCreateWithPriority(
    stream: *mut StreamHandle,
    flags: c_uint,
    _priority: c_int,
) -> Status {
    // SAFETY: the caller's promise is passed on.
    unsafe { cuStreamCreate(stream, flags) }
}

/// The stream's work is finished first, as if the destroyed stream had been left to run. A capture
/// that it takes part in is broken.
#[no_mangle]
extern "C" fn cuStreamDestroy_v2(stream: StreamHandle) -> Status {
    call_always(|driver| {
        let handle = stream.resolve();
        driver.drop_capture_of(handle)?;
        let finished = match driver.sticky {
            Some(status) => Err(status),
            None => driver.run_until(handle, |driver| {
                driver.streams.get(&handle).is_none_or(|s| s.queue.is_empty())
            }),
        };
        driver.streams.remove(&handle);
        finished
    })
}

#[no_mangle]
extern "C" fn cuStreamSynchronize(stream: StreamHandle) -> Status {
    call(|driver| driver.synchronize_stream(stream))
}

/// Polling makes one step of progress, so that a loop around it ends.
#[no_mangle]
extern "C" fn cuStreamQuery(stream: StreamHandle) -> Status {
    call(|driver| {
        let handle = driver.used_stream(stream)?;
        if driver.stream(handle)?.capture.is_some() {
            return driver.break_capture_of(handle, "a stream that is being captured was queried");
        }
        driver.unsafe_call("a stream was queried", Reach::Stream)?;
        let state = driver.stream(handle)?;
        if !state.queue.is_empty() {
            driver.step_towards(handle)?;
            return Err(Status::NOT_READY);
        }
        let clock = state.clock.clone();
        driver.host_clock.join(&clock);
        Ok(())
    })
}

#[no_mangle]
unsafe extern "C" fn cuStreamGetPriority(stream: StreamHandle, priority: *mut c_int) -> Status {
    call(|driver| {
        driver.stream(stream)?;
        // SAFETY: the caller gives a place for the number.
        unsafe { put(priority, 0) }.ok()
    })
}

#[no_mangle]
unsafe extern "C" fn cuStreamGetCtx(stream: StreamHandle, context: *mut Handle) -> Status {
    call(|driver| {
        driver.stream(stream)?;
        // SAFETY: the caller gives a place for the handle.
        unsafe { put(context, crate::context::PRIMARY) }.ok()
    })
}

/// The function runs when the stream reaches it. It must not call the driver, as on a GPU.
#[no_mangle]
unsafe extern "C" fn cuLaunchHostFunc(
    stream: StreamHandle,
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    data: *mut c_void,
) -> Status {
    call(|driver| {
        let Some(function) = function else { return Err(Status::INVALID_VALUE) };
        driver.enqueue(stream, Work::HostCall { function, data: data as usize })
    })
}
