// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the modes of captures and threads allow, and what breaks a capture whoever does it.

use std::ptr::null_mut;
use std::sync::Arc;
use std::thread;

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaSlice, CudaStream, PushKernelArg};
use kiln_simcuda::{Mode, StreamOrder};
use CUresult::{
    CUDA_ERROR_CAPTURED_EVENT as CAPTURED_EVENT, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT as IMPLICIT,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED as INVALIDATED, CUDA_ERROR_STREAM_CAPTURE_MERGE as MERGE,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED as UNSUPPORTED,
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD as WRONG_THREAD, CUDA_SUCCESS as SUCCESS,
};
use CUstreamCaptureMode::{
    CU_STREAM_CAPTURE_MODE_GLOBAL as GLOBAL, CU_STREAM_CAPTURE_MODE_RELAXED as RELAXED,
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as THREAD_LOCAL,
};

use super::common::{grid, Gpu};

const MODES: [CUstreamCaptureMode; 3] = [GLOBAL, THREAD_LOCAL, RELAXED];
const N: usize = 64;

/// What calls are made with; handles are numbers here, which any thread may pass on.
#[derive(Clone, Copy)]
struct Made {
    memory: u64,
    pinned: usize,
    module: usize,
    stream: usize,
    event: usize,
}

/// A call, by name.
type Call = (&'static str, fn(Made) -> CUresult);

/// Calls that a capture does not see, so that a replay would not repeat them.
// SAFETY: handles are those of `Made`, which live until a call frees them, each once; other pointers
// are places for answers, and copies stay within what was allocated.
const UNSAFE_CALLS: [Call; 11] = [
    ("allocate", |_| unsafe { sys::cuMemAlloc_v2(&mut 0, 64) }),
    ("free", |made| unsafe { sys::cuMemFree_v2(made.memory) }),
    ("allocate pinned", |_| unsafe { sys::cuMemHostAlloc(&mut null_mut(), 64, 0) }),
    ("free pinned", |made| unsafe { sys::cuMemFreeHost(made.pinned as *mut _) }),
    ("load", |_| unsafe { sys::cuModuleLoadData(&mut null_mut(), IMAGE.as_ptr().cast()) }),
    ("unload", |made| unsafe { sys::cuModuleUnload(made.module as *mut _) }),
    ("copy", |made| unsafe { sys::cuMemcpyHtoD_v2(made.memory, [0u8; 64].as_ptr().cast(), 64) }),
    ("wait for a stream", |made| unsafe { sys::cuStreamSynchronize(made.stream as *mut _) }),
    ("query a stream", |made| unsafe { sys::cuStreamQuery(made.stream as *mut _) }),
    ("wait for an event", |made| unsafe { sys::cuEventSynchronize(made.event as *mut _) }),
    ("query an event", |made| unsafe { sys::cuEventQuery(made.event as *mut _) }),
];
const IMAGE: &std::ffi::CStr = c".visible .entry sim_scale\n";

/// Calls that wait for a capture, or whose work would depend on one: here `stream` is the captured
/// one, which is blocking, and `event` is recorded in the capture. Each with its error.
// SAFETY: as above.
const CONFLICTS: [(Call, CUresult); 8] = [
    (("wait for the context", |_| unsafe { sys::cuCtxSynchronize() }), UNSUPPORTED),
    (UNSAFE_CALLS[7], UNSUPPORTED),
    (UNSAFE_CALLS[8], UNSUPPORTED),
    (UNSAFE_CALLS[9], CAPTURED_EVENT),
    (UNSAFE_CALLS[10], CAPTURED_EVENT),
    (("wait for the legacy stream", |_| unsafe { sys::cuStreamSynchronize(null_mut()) }), IMPLICIT),
    (
        ("fill on the legacy stream", |made| unsafe {
            sys::cuMemsetD8Async(made.memory, 0, 64, null_mut())
        }),
        IMPLICIT,
    ),
    (UNSAFE_CALLS[6], IMPLICIT),
];

impl Made {
    fn new(flags: sys::CUstream_flags) -> Self {
        let (mut memory, mut pinned, mut module) = (0, null_mut(), null_mut());
        let (mut stream, mut event) = (null_mut(), null_mut());
        // SAFETY: places for the handles, and an image that ends with a zero.
        let made = unsafe {
            [
                sys::cuMemAlloc_v2(&mut memory, 64),
                sys::cuMemHostAlloc(&mut pinned, 64, 0),
                sys::cuModuleLoadData(&mut module, IMAGE.as_ptr().cast()),
                sys::cuStreamCreate(&mut stream, flags as u32),
                sys::cuEventCreate(&mut event, 0),
                sys::cuEventRecord(event, stream),
                sys::cuStreamSynchronize(stream),
            ]
        };
        assert_eq!(made, [SUCCESS; 7]);
        let (pinned, module) = (pinned as usize, module as usize);
        Made { memory, pinned, module, stream: stream as usize, event: event as usize }
    }

    fn stream(self) -> sys::CUstream {
        self.stream as *mut _
    }
}

fn begin(stream: sys::CUstream, mode: CUstreamCaptureMode) {
    // SAFETY: a stream that lives.
    assert_eq!(unsafe { sys::cuStreamBeginCapture_v2(stream, mode) }, SUCCESS);
}

fn end(stream: sys::CUstream) -> CUresult {
    // SAFETY: a stream that lives, and a place for the graph.
    unsafe { sys::cuStreamEndCapture(stream, &mut null_mut()) }
}

/// The calling thread's mode becomes this one; the one before.
fn exchange(mut mode: CUstreamCaptureMode) -> CUstreamCaptureMode {
    // SAFETY: a mode, and the place for the one before.
    assert_eq!(unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) }, SUCCESS);
    mode
}

/// Which thread calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Capturing,
    Another,
}

impl Caller {
    const BOTH: [Caller; 2] = [Caller::Capturing, Caller::Another];

    /// What comes of a call in a thread of this mode.
    fn makes(self, gpu: &Gpu, call: Call, made: Made, mode: CUstreamCaptureMode) -> CUresult {
        let make = || {
            gpu.context.bind_to_thread().expect("a context");
            let before = exchange(mode);
            let status = call.1(made);
            assert_eq!(exchange(before), mode);
            status
        };
        match self {
            Caller::Capturing => make(),
            Caller::Another => thread::scope(|scope| scope.spawn(make).join().expect("no panic")),
        }
    }
}

/// The documentation's table: a thread's mode decides whose captures it minds, a capture's mode
/// whose calls it bears.
#[test]
fn unsafe_calls_are_prohibited_by_the_modes() {
    let gpu = Gpu::new(Mode::Plain);
    for capture in MODES {
        for thread in MODES {
            for caller in Caller::BOTH {
                let prohibited = match caller {
                    Caller::Capturing => capture != RELAXED && thread != RELAXED,
                    Caller::Another => capture == GLOBAL && thread == GLOBAL,
                };
                for call in UNSAFE_CALLS {
                    let made = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
                    begin(gpu.stream.cu_stream(), capture);
                    let status = caller.makes(&gpu, call, made, thread);
                    let ended = end(gpu.stream.cu_stream());
                    let expected =
                        if prohibited { (UNSUPPORTED, INVALIDATED) } else { (SUCCESS, SUCCESS) };
                    let case = format!("{} by {caller:?}: {capture:?}, {thread:?}", call.0);
                    assert_eq!((status, ended), expected, "{case}");
                }
            }
        }
    }
}

#[test]
fn no_mode_saves_a_capture_from_what_waits_for_it_or_depends_on_it() {
    let gpu = Gpu::new(Mode::Plain);
    for capture in MODES {
        for caller in Caller::BOTH {
            for (call, error) in CONFLICTS {
                let made = Made::new(sys::CUstream_flags::CU_STREAM_DEFAULT);
                begin(made.stream(), capture);
                // SAFETY: handles that live.
                let recorded = unsafe { sys::cuEventRecord(made.event as *mut _, made.stream()) };
                assert_eq!(recorded, SUCCESS);
                let status = caller.makes(&gpu, call, made, RELAXED);
                let case = format!("{} by {caller:?}: {capture:?}", call.0);
                assert_eq!((status, end(made.stream())), (error, INVALIDATED), "{case}");
                // Nothing is left behind.
                begin(made.stream(), capture);
                assert_eq!(end(made.stream()), SUCCESS, "{case}");
            }
        }
    }
}

#[test]
fn the_legacy_stream_minds_blocking_streams_alone() {
    let gpu = Gpu::new(Mode::Plain);
    for (flags, expected) in [
        (sys::CUstream_flags::CU_STREAM_NON_BLOCKING, SUCCESS),
        (sys::CUstream_flags::CU_STREAM_DEFAULT, IMPLICIT),
    ] {
        let made = Made::new(flags);
        begin(made.stream(), THREAD_LOCAL);
        let mut state = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        // SAFETY: a handle of the driver's, and a place for the answer.
        assert_eq!(unsafe { sys::cuStreamIsCapturing(null_mut(), &mut state) }, expected);
        let fill = CONFLICTS[6].0;
        assert_eq!(Caller::Another.makes(&gpu, fill, made, GLOBAL), expected);
        let ended = if expected == SUCCESS { SUCCESS } else { INVALIDATED };
        assert_eq!(end(made.stream()), ended);
    }
}

#[test]
fn a_capture_that_is_not_relaxed_ends_in_its_thread() {
    let gpu = Gpu::new(Mode::Plain);
    for mode in MODES {
        let made = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
        begin(made.stream(), mode);
        let call: Call = ("end", |made| end(made.stream()));
        let status = Caller::Another.makes(&gpu, call, made, GLOBAL);
        let expected = if mode == RELAXED { SUCCESS } else { WRONG_THREAD };
        assert_eq!(status, expected, "{mode:?}");
        if mode != RELAXED {
            assert_eq!(end(made.stream()), SUCCESS, "{mode:?}");
        }
    }
}

#[test]
fn a_captured_event_is_waited_for_once_it_is_recorded_anew() {
    let gpu = Gpu::new(Mode::Plain);
    let made = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
    let event = made.event as *mut _;
    // SAFETY: handles that live.
    let (record, wait, host_wait) = unsafe {
        (
            || sys::cuEventRecord(event, made.stream()),
            || sys::cuStreamWaitEvent(gpu.stream.cu_stream(), event, 0),
            || sys::cuEventSynchronize(event),
        )
    };
    begin(made.stream(), THREAD_LOCAL);
    assert_eq!(record(), SUCCESS);
    assert_eq!(end(made.stream()), SUCCESS);
    assert_eq!((wait(), host_wait()), (CAPTURED_EVENT, CAPTURED_EVENT));
    assert_eq!(record(), SUCCESS);
    assert_eq!((wait(), host_wait()), (SUCCESS, SUCCESS));
}

/// y += x, on a stream.
fn add(gpu: &Gpu, stream: &Arc<CudaStream>, y: &mut CudaSlice<f32>, x: &CudaSlice<f32>) {
    let (kernel, a, n) = (gpu.kernel("sim_axpy"), 1.0f32, N as i32);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(y).arg(x).arg(&a).arg(&n);
    // SAFETY: the arguments are the kernel's.
    unsafe { launch.launch(grid(1, N as u32)) }.expect("a launch");
}

/// Captures, replays and plain work of several threads, each on a stream of its own.
#[test]
fn threads_capture_and_work_side_by_side() {
    for seed in 0..3 {
        let gpu = Gpu::new(Mode::Checked);
        gpu.simulator.set_stream_order(StreamOrder::Random);
        gpu.simulator.set_seed(seed);
        gpu.simulator.set_capture_pause(std::time::Duration::from_millis(1));
        let work = |captures: bool| {
            gpu.context.bind_to_thread().expect("a context");
            let stream = gpu.context.new_stream().expect("a stream");
            let x = stream.clone_htod(&[1.0f32; N]).expect("a copy");
            let mut y = stream.alloc_zeros::<f32>(N).expect("memory");
            for _ in 0..10 {
                if captures {
                    begin(stream.cu_stream(), THREAD_LOCAL);
                    add(&gpu, &stream, &mut y, &x);
                    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0));
                    graph.expect("a graph").expect("work").launch().expect("a launch");
                } else {
                    add(&gpu, &stream, &mut y, &x);
                }
            }
            assert_eq!(stream.clone_dtoh(&y).expect("a copy"), [10.0; N]);
        };
        thread::scope(|scope| {
            for thread in 0..4 {
                let work = &work;
                scope.spawn(move || work(thread % 2 == 0));
            }
        });
        gpu.no_reports();
    }
}

#[test]
fn captures_of_two_threads_break_one_by_one_unless_they_merge() {
    let gpu = Gpu::new(Mode::Plain);
    let merge: Call = ("merge", |made| {
        let own = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
        begin(own.stream(), THREAD_LOCAL);
        // SAFETY: handles that live.
        let merged = unsafe { sys::cuStreamWaitEvent(own.stream(), made.event as *mut _, 0) };
        assert_eq!(end(own.stream()), INVALIDATED);
        merged
    });
    let allocate: Call = ("allocate", |_| {
        let own = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
        begin(own.stream(), THREAD_LOCAL);
        let status = UNSAFE_CALLS[0].1(own);
        assert_eq!(end(own.stream()), INVALIDATED);
        status
    });
    for (call, status, ended) in [(allocate, UNSUPPORTED, SUCCESS), (merge, MERGE, INVALIDATED)] {
        let made = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
        begin(made.stream(), THREAD_LOCAL);
        // SAFETY: handles that live.
        assert_eq!(unsafe { sys::cuEventRecord(made.event as *mut _, made.stream()) }, SUCCESS);
        assert_eq!(Caller::Another.makes(&gpu, call, made, GLOBAL), status, "{}", call.0);
        assert_eq!(end(made.stream()), ended, "{}", call.0);
    }
}

#[test]
fn a_destroyed_stream_takes_its_capture_along() {
    let gpu = Gpu::new(Mode::Plain);
    let made = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
    begin(made.stream(), GLOBAL);
    // SAFETY: a stream that is not used again.
    assert_eq!(unsafe { sys::cuStreamDestroy_v2(made.stream()) }, SUCCESS);
    let made = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
    assert_eq!(Caller::Another.makes(&gpu, UNSAFE_CALLS[1], made, GLOBAL), SUCCESS);
}

#[test]
fn calls_beside_captures_are_counted_whether_or_not_they_are_allowed() {
    let gpu = Gpu::new(Mode::Plain);
    for mode in MODES {
        let made = Made::new(sys::CUstream_flags::CU_STREAM_NON_BLOCKING);
        gpu.simulator.clear_counters();
        begin(gpu.stream.cu_stream(), mode);
        for (caller, counted) in [(Caller::Capturing, 0), (Caller::Another, 1)] {
            caller.makes(&gpu, UNSAFE_CALLS[0], made, GLOBAL);
            caller.makes(&gpu, UNSAFE_CALLS[7], made, GLOBAL);
            let counters = gpu.simulator.counters();
            assert_eq!(counters.calls_beside_captures, counted, "{caller:?}, {mode:?}");
        }
        end(gpu.stream.cu_stream());
    }
}
