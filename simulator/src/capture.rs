// SPDX-License-Identifier: MIT OR Apache-2.0
//! What may be called while a stream is being captured, as the driver's documentation has it
//! (`cuStreamBeginCapture`, `cuThreadExchangeStreamCaptureMode`): calls that are potentially unsafe
//! are prohibited by the modes of the capture and of the calling thread, and calls that would have
//! to wait for a capture, or depend on one, break it whoever makes them.

use std::cell::Cell;
use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::driver::{call, call_always, Driver, Handle};
use crate::graph::{Node, StreamCapture};
use crate::status::{put, Result, Status};
use crate::stream::{Kind, StreamHandle};

/// A capture that is under way.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) nodes: Vec<Node>,
    pub(crate) origin: StreamHandle,
    pub(crate) broken: bool,
    mode: CaptureMode,
    thread: Thread,
}

/// Whose potentially unsafe calls a capture, or a thread, does not bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CaptureMode {
    /// Those of all threads.
    Global,
    /// Those of the capturing thread.
    ThreadLocal,
    /// Nobody's.
    Relaxed,
}

/// How far a potentially unsafe call reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// One stream or event.
    Stream,
    /// The whole device: memory, modules, or a wait for everything.
    Device,
}

/// A host thread, by a number that is there even while its other thread-local values are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thread(u64);

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static MODE: Cell<CaptureMode> = const { Cell::new(CaptureMode::Global) };
}

impl Thread {
    fn current() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if NUMBER.get() == 0 {
            NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        Thread(NUMBER.get())
    }
}

impl CaptureMode {
    fn from_number(number: c_uint) -> Result<Self> {
        match number {
            0 => Ok(CaptureMode::Global),
            1 => Ok(CaptureMode::ThreadLocal),
            2 => Ok(CaptureMode::Relaxed),
            _ => Err(Status::INVALID_VALUE),
        }
    }
}

impl Capture {
    /// Whether a thread in this mode is prohibited from potentially unsafe calls by this capture.
    fn prohibits(&self, thread: Thread, mode: CaptureMode) -> bool {
        if self.thread == thread {
            return self.mode != CaptureMode::Relaxed && mode != CaptureMode::Relaxed;
        }
        self.mode == CaptureMode::Global && mode == CaptureMode::Global
    }
}

impl Driver {
    /// A potentially unsafe call: nothing in a captured graph would repeat what it does.
    pub(crate) fn unsafe_call(&mut self, what: &str, reach: Reach) -> Result<()> {
        let (thread, mode) = (Thread::current(), MODE.get());
        let is_beside = self.captures.values().any(|capture| capture.thread != thread);
        if reach == Reach::Device && is_beside {
            self.counters.calls_beside_captures += 1;
        }
        self.break_captures(
            |_, capture| capture.prohibits(thread, mode),
            Status::STREAM_CAPTURE_UNSUPPORTED,
            &format!("{what} while a stream is being captured"),
        )
    }

    /// A call that waits for everything in the context, captured streams too.
    pub(crate) fn context_call(&mut self, what: &str) -> Result<()> {
        self.unsafe_call(what, Reach::Device)?;
        self.break_captures(
            |_, _| true,
            Status::STREAM_CAPTURE_UNSUPPORTED,
            &format!("{what} while one of its streams is being captured"),
        )
    }

    /// A stream that is about to be used. The legacy stream is ordered with every blocking stream,
    /// and nothing can be ordered with one that is being captured.
    pub(crate) fn used_stream(&mut self, handle: StreamHandle) -> Result<StreamHandle> {
        let handle = handle.resolve();
        self.stream(handle)?;
        if handle == StreamHandle::LEGACY {
            let blocking: Vec<Handle> = self.captured_blocking_streams();
            self.break_captures(
                |graph, _| blocking.contains(graph),
                Status::STREAM_CAPTURE_IMPLICIT,
                "the legacy stream was used while a blocking stream is being captured",
            )?;
        }
        Ok(handle)
    }

    /// Something that the capture of this stream does not survive; an error in any case.
    pub(crate) fn break_capture_of<T>(&mut self, stream: StreamHandle, text: &str) -> Result<T> {
        let graph = self.stream(stream)?.capture.as_ref().map(|point| point.graph);
        let status = Status::STREAM_CAPTURE_UNSUPPORTED;
        self.break_captures(|found, _| Some(*found) == graph, status, text)?;
        self.refuse(status, text)
    }

    /// Breaks the captures that are picked; an error if there was one.
    pub(crate) fn break_captures(
        &mut self,
        picks: impl Fn(&Handle, &Capture) -> bool,
        status: Status,
        text: &str,
    ) -> Result<()> {
        let mut found = false;
        for (graph, capture) in &mut self.captures {
            if picks(graph, capture) {
                capture.broken = true;
                found = true;
            }
        }
        match found {
            true => self.refuse(status, text),
            false => Ok(()),
        }
    }

    /// The capture of a stream that is used within it: an error once it is broken.
    pub(crate) fn unbroken(&mut self, graph: Handle) -> Result<&mut Capture> {
        match self.captures.get_mut(&graph) {
            Some(capture) if !capture.broken => Ok(capture),
            _ => Err(Status::STREAM_CAPTURE_INVALIDATED),
        }
    }

    /// The captures that blocking streams take part in.
    fn captured_blocking_streams(&self) -> Vec<Handle> {
        let blocking = self.streams.values().filter(|stream| stream.kind == Kind::Blocking);
        blocking.filter_map(|stream| Some(stream.capture.as_ref()?.graph)).collect()
    }

    fn begin_capture(&mut self, stream: StreamHandle, mode: c_uint) -> Result<()> {
        let (stream, mode) = (stream.resolve(), CaptureMode::from_number(mode)?);
        if stream == StreamHandle::LEGACY {
            return self.refuse(
                Status::STREAM_CAPTURE_UNSUPPORTED,
                "the legacy default stream cannot be captured",
            );
        }
        if self.stream(stream)?.capture.is_some() {
            return self.refuse(Status::ILLEGAL_STATE, "the stream is being captured already");
        }
        let (graph, thread) = (self.new_handle(), Thread::current());
        let capture = Capture { nodes: Vec::new(), origin: stream, broken: false, mode, thread };
        self.captures.insert(graph, capture);
        self.stream(stream)?.capture = Some(StreamCapture { graph, frontier: Vec::new() });
        if let Some(status) = self.lost_in_capture.take() {
            self.lose_context(status, "an error within a capture that a test asked for".into());
        }
        Ok(())
    }

    fn end_capture(&mut self, stream: StreamHandle) -> Result<Handle> {
        let stream = stream.resolve();
        let Some(point) = self.stream(stream)?.capture.clone() else {
            return self.refuse(Status::ILLEGAL_STATE, "the stream is not being captured");
        };
        let Some(capture) = self.captures.get(&point.graph).filter(|c| c.origin == stream) else {
            return self.refuse(
                Status::STREAM_CAPTURE_UNMATCHED,
                "a capture ends on the stream it began on",
            );
        };
        if capture.mode != CaptureMode::Relaxed && capture.thread != Thread::current() {
            return self.refuse(
                Status::STREAM_CAPTURE_WRONG_THREAD,
                "a capture that is not relaxed ends in the thread it began in",
            );
        }
        let Some(capture) = self.captures.remove(&point.graph) else {
            return Err(Status::ILLEGAL_STATE);
        };
        let joined = ancestors(&capture.nodes, &point.frontier);
        let mut unjoined = false;
        for other in self.streams.values_mut() {
            if let Some(part) = other.capture.take_if(|part| part.graph == point.graph) {
                unjoined |= part.frontier.iter().any(|node| !joined[*node]);
            }
        }
        if capture.broken {
            return Err(Status::STREAM_CAPTURE_INVALIDATED);
        }
        if unjoined {
            return self.refuse(
                Status::STREAM_CAPTURE_UNJOINED,
                "a stream that joined the capture was not waited for at its end",
            );
        }
        self.graphs.insert(point.graph, capture.nodes);
        Ok(point.graph)
    }

    /// A stream that goes away leaves its capture broken, or ends it if it began there.
    pub(crate) fn drop_capture_of(&mut self, stream: StreamHandle) -> Result<()> {
        let Some(point) = self.stream(stream)?.capture.take() else { return Ok(()) };
        let Some(capture) = self.captures.get_mut(&point.graph) else { return Ok(()) };
        capture.broken = true;
        if capture.origin == stream {
            self.captures.remove(&point.graph);
            for other in self.streams.values_mut() {
                other.capture.take_if(|part| part.graph == point.graph);
            }
        }
        Ok(())
    }
}

fn ancestors(nodes: &[Node], frontier: &[usize]) -> Vec<bool> {
    let mut seen = vec![false; nodes.len()];
    let mut left = frontier.to_vec();
    while let Some(node) = left.pop() {
        if !std::mem::replace(&mut seen[node], true) {
            left.extend(&nodes[node].after);
        }
    }
    seen
}

/// Returns late if a test asked for that, so that other threads call while the capture is on.
#[no_mangle]
extern "C" fn cuStreamBeginCapture_v2(stream: StreamHandle, mode: c_uint) -> Status {
    let mut pause = Duration::ZERO;
    let status = call(|driver| {
        driver.begin_capture(stream, mode)?;
        pause = driver.capture_pause;
        Ok(())
    });
    if !pause.is_zero() {
        sleep(pause);
    }
    status
}

#[no_mangle]
unsafe extern "C" fn cuStreamEndCapture(stream: StreamHandle, graph: *mut Handle) -> Status {
    call(|driver| {
        let ended = driver.end_capture(stream);
        // SAFETY: the caller gives a place for the handle, null after an error.
        unsafe { put(graph, *ended.as_ref().unwrap_or(&Handle(0))) }.ok()?;
        ended.map(|_| ())
    })
}

/// 0: not being captured, 1: being captured, 2: being captured in vain.
#[no_mangle]
unsafe extern "C" fn cuStreamIsCapturing(stream: StreamHandle, state: *mut c_int) -> Status {
    call(|driver| {
        if stream.resolve() == StreamHandle::LEGACY
            && !driver.captured_blocking_streams().is_empty()
        {
            return Err(Status::STREAM_CAPTURE_IMPLICIT);
        }
        let point = driver.captured_point(stream)?;
        let number = match point.map(|point| driver.unbroken(point.graph).is_ok()) {
            None => 0,
            Some(true) => 1,
            Some(false) => 2,
        };
        // SAFETY: the caller gives a place for the number.
        unsafe { put(state, number) }.ok()
    })
}

/// Sets the calling thread's mode and gives the one it had.
#[no_mangle]
unsafe extern "C" fn cuThreadExchangeStreamCaptureMode(mode: *mut c_uint) -> Status {
    call_always(|_| {
        if mode.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller gives a mode.
        let wanted = CaptureMode::from_number(unsafe { mode.read() })?;
        // SAFETY: as above, and its place is the caller's for the answer.
        unsafe { put(mode, MODE.replace(wanted) as c_uint) }.ok()
    })
}
