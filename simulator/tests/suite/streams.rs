// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams, events and graphs: correct programs give the same bits in every order, and missing
//! waits are found.

use std::sync::Arc;

use super::common::{exclusive, grid, Gpu};
use cudarc::driver::{sys, CudaSlice, CudaStream, DriverError, PushKernelArg};
use kiln_simcuda::{Mode, StreamOrder};

const ORDERS: [StreamOrder; 3] = [StreamOrder::Eager, StreamOrder::Lazy, StreamOrder::Random];
const N: usize = 300;

fn status(outcome: Result<(), DriverError>) -> sys::CUresult {
    outcome.err().map_or(sys::CUresult::CUDA_SUCCESS, |error| error.0)
}

/// y += a * x on a stream.
fn axpy(gpu: &Gpu, stream: &Arc<CudaStream>, y: &mut CudaSlice<f32>, x: &CudaSlice<f32>, a: f32) {
    let (kernel, n) = (gpu.kernel("sim_axpy"), N as i32);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(y).arg(x).arg(&a).arg(&n);
    // SAFETY: the arguments are the kernel's; races are what is tested.
    unsafe { launch.launch(grid(3, 128)) }.expect("a launch");
}

enum Wait {
    Present,
    Missing,
}

/// Two streams add to the same buffer in turn.
fn relay(gpu: &Gpu, wait: Wait) -> Vec<f32> {
    let (first, second) =
        (gpu.context.new_stream().expect("a stream"), gpu.context.new_stream().expect("a stream"));
    let x = first.clone_htod(&[1.0f32; N]).expect("a copy");
    let mut y = first.alloc_zeros::<f32>(N).expect("memory");
    first.synchronize().expect("ready");
    axpy(gpu, &first, &mut y, &x, 3.0);
    if let Wait::Present = wait {
        let event = first.record_event(None).expect("an event");
        second.wait(&event).expect("a wait");
    }
    axpy(gpu, &second, &mut y, &x, 3.0);
    let out = second.clone_dtoh(&y).expect("a copy");
    first.synchronize().expect("done");
    second.synchronize().expect("done");
    out
}

#[test]
fn a_missing_wait_is_reported_in_every_order() {
    for order in ORDERS {
        for seed in 0..4 {
            let gpu = Gpu::new(Mode::Checked);
            gpu.simulator.set_stream_order(order);
            gpu.simulator.set_seed(seed);
            assert_eq!(relay(&gpu, Wait::Present), [6.0; N]);
            gpu.no_reports();
            relay(&gpu, Wait::Missing);
            let reports = gpu.simulator.take_reports();
            assert!(!reports.is_empty(), "{order:?}");
            for report in &reports {
                assert!(report.contains("stream race"), "{report}");
                assert!(report.contains("kernel sim_axpy on stream"), "{report}");
            }
            assert!(reports[0].contains("instructions.cu:"), "{reports:?}");
        }
    }
}

#[test]
fn a_missing_wait_changes_the_result_when_lazy() {
    let gpu = Gpu::new(Mode::Plain);
    for (order, expected) in [(StreamOrder::Lazy, 3.0), (StreamOrder::Eager, 6.0)] {
        gpu.simulator.set_stream_order(order);
        assert_eq!(relay(&gpu, Wait::Missing), [expected; N], "{order:?}");
        assert_eq!(relay(&gpu, Wait::Present), [6.0; N], "{order:?}");
    }
}

#[test]
fn a_copy_before_its_kernel_is_a_race() {
    let gpu = Gpu::new(Mode::Checked);
    let other = gpu.context.new_stream().expect("a stream");
    let x = gpu.stream.clone_htod(&[1.0f32; N]).expect("a copy");
    let mut y = gpu.stream.alloc_zeros::<f32>(N).expect("memory");
    gpu.stream.synchronize().expect("ready");
    axpy(&gpu, &gpu.stream, &mut y, &x, 1.0);
    other.clone_dtoh(&y).expect("a copy");
    gpu.stream.synchronize().expect("done");
    let reports = gpu.simulator.take_reports();
    assert!(reports.iter().any(|r| r.contains("a copy of 1200 bytes")), "{reports:?}");
}

#[test]
fn work_on_disjoint_parts_of_one_allocation_is_no_race() {
    let gpu = Gpu::new(Mode::Checked);
    let other = gpu.context.new_stream().expect("a stream");
    let arena = gpu.stream.alloc_zeros::<f32>(2 * N).expect("memory");
    gpu.stream.synchronize().expect("ready");
    let base = cudarc::driver::DevicePtr::device_ptr(&arena, &gpu.stream).0;
    let kernel = gpu.kernel("sim_axpy");
    for (stream, at) in [(&gpu.stream, base), (&other, base + 4 * N as u64)] {
        let (a, n) = (1.0f32, N as i32);
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&at).arg(&at).arg(&a).arg(&n);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.launch(grid(3, 128)) }.expect("a launch");
    }
    gpu.context.synchronize().expect("done");
    gpu.no_reports();
}

/// Forks to a second stream and joins again: z += x; y += x, then y += z.
fn fork_and_join(
    gpu: &Gpu,
    main: &Arc<CudaStream>,
    side: &Arc<CudaStream>,
    data: &mut [CudaSlice<f32>; 3],
) {
    let [x, y, z] = data;
    let fork = main.record_event(None).expect("an event");
    side.wait(&fork).expect("a wait");
    axpy(gpu, main, y, x, 1.0);
    axpy(gpu, side, z, x, 1.0);
    let join = side.record_event(None).expect("an event");
    main.wait(&join).expect("a wait");
    axpy(gpu, main, y, z, 1.0);
}

fn fork_data(main: &Arc<CudaStream>) -> [CudaSlice<f32>; 3] {
    let data = [
        main.clone_htod(&[1.0f32; N]).expect("a copy"),
        main.alloc_zeros::<f32>(N).expect("memory"),
        main.alloc_zeros::<f32>(N).expect("memory"),
    ];
    main.synchronize().expect("ready");
    data
}

#[test]
fn a_graph_replays_what_eager_work_does() {
    for mode in [Mode::Plain, Mode::Checked] {
        for order in ORDERS {
            for seed in 0..4 {
                let gpu = Gpu::new(mode);
                gpu.simulator.set_stream_order(order);
                gpu.simulator.set_seed(seed);
                let side = gpu.context.new_stream().expect("a stream");
                let mut eager = fork_data(&gpu.stream);
                for _ in 0..3 {
                    fork_and_join(&gpu, &gpu.stream, &side, &mut eager);
                }
                let mut captured = fork_data(&gpu.stream);
                let thread_local = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
                gpu.stream.begin_capture(thread_local).expect("a capture");
                fork_and_join(&gpu, &gpu.stream, &side, &mut captured);
                let graph = gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0));
                let graph = graph.expect("a graph").expect("work was captured");
                gpu.simulator.clear_counters();
                for _ in 0..3 {
                    graph.launch().expect("a launch");
                }
                let out = gpu.stream.clone_dtoh(&captured[1]).expect("a copy");
                assert_eq!(out, gpu.stream.clone_dtoh(&eager[1]).expect("a copy"));
                assert_eq!(out, [3.0 + 1.0 + 2.0 + 3.0; N]);
                let counters = gpu.simulator.counters();
                assert_eq!((counters.graph_launches, counters.launches), (3, 9));
                gpu.no_reports();
            }
        }
    }
}

#[test]
fn a_missing_join_inside_a_graph_is_a_race() {
    let gpu = Gpu::new(Mode::Checked);
    let side = gpu.context.new_stream().expect("a stream");
    let [x, mut y, mut z] = fork_data(&gpu.stream);
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    gpu.stream.begin_capture(mode).expect("a capture");
    let fork = gpu.stream.record_event(None).expect("an event");
    side.wait(&fork).expect("a wait");
    axpy(&gpu, &side, &mut z, &x, 1.0);
    axpy(&gpu, &gpu.stream, &mut y, &z, 1.0); // reads z before the join
    let join = side.record_event(None).expect("an event");
    gpu.stream.wait(&join).expect("a wait");
    axpy(&gpu, &gpu.stream, &mut y, &x, 1.0);
    let graph = gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0)).expect("a graph");
    graph.expect("work").launch().expect("a launch");
    gpu.stream.synchronize().expect("done");
    let reports = gpu.simulator.take_reports();
    assert!(!reports.is_empty() && reports.iter().all(|r| r.contains("in a graph")), "{reports:?}");
}

#[test]
fn an_unjoined_stream_or_a_wait_of_the_host_ends_a_capture() {
    let gpu = Gpu::new(Mode::Plain);
    let side = gpu.context.new_stream().expect("a stream");
    let [x, mut y, _] = fork_data(&gpu.stream);
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    let end = || gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0)).map(|_| ());

    gpu.stream.begin_capture(mode).expect("a capture");
    side.wait(&gpu.stream.record_event(None).expect("an event")).expect("a wait");
    axpy(&gpu, &side, &mut y, &x, 1.0);
    assert_eq!(status(end()), sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);

    gpu.stream.begin_capture(mode).expect("a capture");
    let waited = status(gpu.stream.synchronize());
    assert_eq!(waited, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(status(end()), sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    gpu.stream.begin_capture(mode).expect("a capture");
    assert!(gpu.stream.alloc_zeros::<f32>(4).is_err());
    assert_eq!(status(end()), sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    // The streams work again afterwards.
    axpy(&gpu, &gpu.stream, &mut y, &x, 1.0);
    assert_eq!(gpu.stream.clone_dtoh(&y).expect("a copy"), [1.0; N]);
}

#[test]
fn pinned_memory_is_read_when_the_copy_runs() {
    let gpu = Gpu::new(Mode::Plain);
    gpu.simulator.set_stream_order(StreamOrder::Lazy);
    // SAFETY: written before it is read.
    let mut pinned = unsafe { gpu.context.alloc_pinned::<f32>(N) }.expect("memory");
    pinned.as_mut_slice().expect("idle").fill(1.0);
    let mut y = gpu.stream.alloc_zeros::<f32>(N).expect("memory");
    let at = pinned.as_mut_ptr().expect("idle");
    gpu.stream.memcpy_htod(&pinned, &mut y).expect("a copy");
    // SAFETY: the memory is ours; that the copy may still be reading it is the planted bug.
    unsafe { at.write(2.0) };
    let out = gpu.stream.clone_dtoh(&y).expect("a copy");
    assert_eq!((out[0], out[1]), (2.0, 1.0), "a lazy copy sees the later write");
    // Pageable memory is read at the call.
    let mut pageable = vec![1.0f32; N];
    gpu.stream.memcpy_htod(&pageable, &mut y).expect("a copy");
    pageable[0] = 2.0;
    assert_eq!(gpu.stream.clone_dtoh(&y).expect("a copy")[0], 1.0);
}

#[test]
fn cudarc_orders_streams_by_itself_when_asked() {
    for order in ORDERS {
        let gpu = Gpu::with(exclusive(), Mode::Checked);
        gpu.simulator.set_stream_order(order);
        // SAFETY: on is the safe state.
        unsafe { gpu.context.enable_event_tracking() };
        assert_eq!(relay(&gpu, Wait::Missing), [6.0; N]);
        gpu.no_reports();
    }
}

#[test]
fn polling_an_event_ends() {
    let gpu = Gpu::new(Mode::Plain);
    let [x, mut y, _] = fork_data(&gpu.stream);
    for order in ORDERS {
        gpu.simulator.set_stream_order(order);
        axpy(&gpu, &gpu.stream, &mut y, &x, 1.0);
        let event = gpu.stream.record_event(None).expect("an event");
        let polls = (0..100).take_while(|_| !event.is_complete()).count();
        assert!(polls < 10, "{polls} polls");
    }
}
