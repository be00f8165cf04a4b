// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bugs planted in kernels and in host code: each test fails if its bug goes unnoticed.

use super::common::{grid, Gpu, ScaleParams};
use cudarc::driver::{sys, DevicePtr, DriverError, PushKernelArg};
use cudarc::nvrtc::Ptx;
use kiln_simcuda::{Mode, ThreadOrder};

const ILLEGAL_ADDRESS: DriverError = DriverError(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
const LAUNCH_FAILED: DriverError = DriverError(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED);
const MISALIGNED: DriverError = DriverError(sys::CUresult::CUDA_ERROR_MISALIGNED_ADDRESS);

/// Runs a kernel that takes one or two buffers of 128 ones and demands an error whose text holds
/// all of `parts`.
fn demand(
    mode: Mode,
    name: &str,
    threads: u32,
    buffers: usize,
    error: DriverError,
    parts: &[&str],
) {
    for order in [ThreadOrder::Ascending, ThreadOrder::Descending, ThreadOrder::Random] {
        let gpu = Gpu::new(mode);
        gpu.simulator.set_thread_order(order);
        let ones = vec![1.0f32; 128];
        let data: Vec<_> =
            (0..buffers).map(|_| gpu.stream.clone_htod(&ones).expect("a copy")).collect();
        let kernel = gpu.kernel(name);
        let mut launch = gpu.stream.launch_builder(&kernel);
        for buffer in &data {
            launch.arg(buffer);
        }
        // SAFETY: the arguments are the kernel's; its bug is what is tested.
        unsafe { launch.launch(grid(1, threads)) }.expect("queued");
        let outcome = gpu.stream.synchronize();
        assert_eq!(outcome, Err(error), "{name} in {order:?}");
        let text = gpu.simulator.last_error();
        for part in parts.iter().chain(&[name, "block (0,0,0)", "thread ("]) {
            assert!(text.contains(part), "{order:?}: `{text}` does not say `{part}`");
        }
        assert_eq!(gpu.simulator.take_reports().len(), 1);
    }
}

#[test]
fn missing_barrier() {
    let parts = ["shared-memory race", "planted_bugs.cu:", "no barrier between"];
    demand(Mode::Checked, "bug_missing_second_barrier", 64, 1, LAUNCH_FAILED, &parts);
    for (name, threads) in [("bug_missing_barrier", 64), ("bug_missing_warp_barrier", 32)] {
        let gpu = Gpu::new(Mode::Checked);
        let data = gpu.stream.clone_htod(&[1.0f32; 64]).expect("a copy");
        let kernel = gpu.kernel(name);
        // SAFETY: the argument is the kernel's.
        unsafe { gpu.stream.launch_builder(&kernel).arg(&data).launch(grid(1, threads)) }
            .expect("queued");
        let text = gpu.failure().expect("the bug is found");
        // Whoever comes first reads what nobody has written yet.
        assert!(text.contains("uninitialised shared memory") || text.contains(parts[0]), "{text}");
    }
}

#[test]
fn divergent_barrier() {
    for mode in [Mode::Plain, Mode::Checked] {
        let parts = ["divergent barrier", "planted_bugs.cu:"];
        demand(mode, "bug_divergent_barrier", 64, 1, LAUNCH_FAILED, &parts);
    }
}

#[test]
fn early_return_before_a_barrier() {
    let gpu = Gpu::new(Mode::Plain);
    let data = gpu.stream.clone_htod(&[1.0f32; 64]).expect("a copy");
    let (kernel, n) = (gpu.kernel("bug_early_return"), 40);
    // SAFETY: the arguments are the kernel's.
    unsafe { gpu.stream.launch_builder(&kernel).arg(&data).arg(&n).launch(grid(1, 64)) }
        .expect("queued");
    let text = gpu.failure().expect("the bug is found");
    assert!(text.contains("divergent barrier") && text.contains("returned"), "{text}");
}

#[test]
fn divergent_shuffle() {
    for mode in [Mode::Plain, Mode::Checked] {
        let parts = ["divergent warp", "__shfl_xor_sync"];
        demand(mode, "bug_divergent_shuffle", 32, 1, LAUNCH_FAILED, &parts);
    }
}

#[test]
fn uninitialised_shared_memory() {
    let parts = ["uninitialised shared memory", "planted_bugs.cu:"];
    demand(Mode::Checked, "bug_uninitialised_shared", 64, 1, LAUNCH_FAILED, &parts);
}

#[test]
fn past_the_end_of_shared_memory() {
    demand(Mode::Checked, "bug_past_shared", 64, 1, ILLEGAL_ADDRESS, &["planted_bugs.cu:"]);
}

#[test]
fn async_copy_read_before_its_wait() {
    let parts = ["before the wait for the cp.async", "planted_bugs.cu:"];
    demand(Mode::Checked, "bug_early_async_read", 32, 2, LAUNCH_FAILED, &parts);
}

#[test]
fn async_copy_read_before_its_wait_gives_nans_in_plain_builds() {
    let gpu = Gpu::new(Mode::Plain);
    gpu.simulator.set_thread_order(ThreadOrder::Ascending);
    let (input, mut out) = (
        gpu.stream.clone_htod(&[1.0f32; 128]).expect("a copy"),
        gpu.stream.alloc_zeros::<f32>(32).expect("memory"),
    );
    let kernel = gpu.kernel("bug_early_async_read");
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&mut out).arg(&input);
    // SAFETY: the arguments are the kernel's.
    unsafe { launch.launch(grid(1, 32)) }.expect("queued");
    assert!(gpu.stream.clone_dtoh(&out).expect("a copy").iter().all(|v| v.is_nan()));
}

#[test]
fn async_copy_of_another_thread_without_a_barrier() {
    let gpu = Gpu::new(Mode::Checked);
    let data = gpu.stream.clone_htod(&[1.0f32; 128]).expect("a copy");
    let kernel = gpu.kernel("bug_async_without_barrier");
    // SAFETY: the arguments are the kernel's.
    unsafe { gpu.stream.launch_builder(&kernel).arg(&data).arg(&data).launch(grid(1, 32)) }
        .expect("queued");
    let text = gpu.failure().expect("the bug is found");
    assert!(text.contains("uninitialised") || text.contains("race"), "{text}");
}

#[test]
fn async_copy_never_waited_for() {
    for mode in [Mode::Plain, Mode::Checked] {
        demand(mode, "bug_async_not_waited", 32, 1, LAUNCH_FAILED, &["still in flight"]);
    }
}

#[test]
fn misaligned_vector() {
    demand(Mode::Checked, "bug_misaligned", 1, 2, MISALIGNED, &["planted_bugs.cu:", "16 bytes"]);
}

#[test]
fn stack_overflow() {
    for mode in [Mode::Plain, Mode::Checked] {
        demand(mode, "bug_deep_stack", 1, 1, LAUNCH_FAILED, &["stack overflow"]);
    }
}

/// Scales `n` elements of buffers that have `room` of them.
fn scale(gpu: &Gpu, room: usize, n: i32) -> Option<String> {
    let x = gpu.stream.clone_htod(&vec![1.0f32; room]).expect("a copy");
    let y = gpu.stream.alloc_zeros::<f32>(room).expect("memory");
    let (x_at, y_at) = (x.device_ptr(&gpu.stream).0, y.device_ptr(&gpu.stream).0);
    launch_scale(gpu, y_at, x_at, n);
    gpu.failure()
}

fn launch_scale(gpu: &Gpu, y: u64, x: u64, n: i32) {
    let (kernel, params) = (gpu.kernel("sim_scale"), ScaleParams { y, x, n, factor: 2.0 });
    let blocks = (n as u32).div_ceil(256);
    // SAFETY: the struct is the kernel's parameter.
    unsafe { gpu.stream.launch_builder(&kernel).arg(&params).launch(grid(blocks, 256)) }
        .expect("queued");
}

#[test]
fn one_element_past_a_buffer() {
    let gpu = Gpu::new(Mode::Checked);
    assert_eq!(scale(&gpu, 10, 10), None);
    let text = scale(&gpu, 10, 11).expect("the bug is found");
    assert!(
        text.contains("thread (10,0,0)") && text.contains("0 bytes past the end of a 40-byte"),
        "{text}"
    );
    assert!(text.contains("instructions.cu:"), "{text}");
    drop(gpu);
    // The guard page sees it in plain builds if the buffer fills its last 256 bytes.
    let gpu = Gpu::new(Mode::Plain);
    assert_eq!(scale(&gpu, 1024, 1024), None);
    let text = scale(&gpu, 1024, 1025).expect("the bug is found");
    assert!(text.contains("past the end of a 4096-byte"), "{text}");
}

#[test]
fn uninitialised_device_memory() {
    let gpu = Gpu::new(Mode::Checked);
    // SAFETY: that it is uninitialised is the test.
    let x = unsafe { gpu.stream.alloc::<f32>(64) }.expect("memory");
    let y = gpu.stream.alloc_zeros::<f32>(64).expect("memory");
    // A copy of what was never written is reported, too, and carries the state along.
    let copied = gpu.stream.clone_dtod(&x).expect("a copy");
    gpu.stream.clone_dtoh(&copied).expect("a copy");
    let reports = gpu.simulator.take_reports();
    assert!(
        reports.len() == 1 && reports[0].contains("uninitialised device memory"),
        "{reports:?}"
    );
    launch_scale(&gpu, y.device_ptr(&gpu.stream).0, copied.device_ptr(&gpu.stream).0, 64);
    let text = gpu.failure().expect("the bug is found");
    assert!(text.contains("read of 4 bytes of uninitialised device memory"), "{text}");
    assert!(text.contains("instructions.cu:"), "{text}");
}

#[test]
fn use_after_free() {
    for mode in [Mode::Plain, Mode::Checked] {
        let gpu = Gpu::new(mode);
        let x = gpu.stream.clone_htod(&[1.0f32; 64]).expect("a copy");
        let y = gpu.stream.alloc_zeros::<f32>(64).expect("memory");
        let stale = x.device_ptr(&gpu.stream).0;
        drop(x);
        gpu.stream.synchronize().expect("freed");
        launch_scale(&gpu, y.device_ptr(&gpu.stream).0, stale, 64);
        let text = gpu.failure().expect("the bug is found");
        assert!(text.contains("256-byte allocation that was freed"), "{mode:?}: {text}");
    }
}

#[test]
fn host_pointer_in_a_struct() {
    let gpu = Gpu::new(Mode::Checked);
    let host = [1.0f32; 64];
    let y = gpu.stream.alloc_zeros::<f32>(64).expect("memory");
    launch_scale(&gpu, y.device_ptr(&gpu.stream).0, host.as_ptr() as u64, 64);
    let text = gpu.failure().expect("the bug is found");
    assert!(text.contains("is not device memory"), "{text}");
}

#[test]
fn host_pointer_as_an_argument() {
    let gpu = Gpu::new(Mode::Plain);
    let host = [1.0f32; 64];
    let y = gpu.stream.alloc_zeros::<f32>(64).expect("memory");
    let (kernel, x, a, n) = (gpu.kernel("sim_axpy"), host.as_ptr() as u64, 1.0f32, 64);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&y).arg(&x).arg(&a).arg(&n);
    // SAFETY: the launch is refused.
    let outcome = unsafe { launch.launch(grid(1, 64)) }.map(|_| ());
    assert_eq!(outcome, Err(DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE)));
    let text = gpu.simulator.last_error();
    assert!(text.contains("sim_axpy") && text.contains("argument 1"), "{text}");
}

#[test]
fn wrong_parameter_size() {
    let gpu = Gpu::new(Mode::Plain);
    let ptx = |bytes: u32| {
        Ptx::from_src(format!(
            ".version 8.0\n.target sm_80\n.visible .entry sim_scale(\n\
             .param .align 8 .b8 sim_scale_param_0[{bytes}]\n)\n.maxntid 256, 1, 1\n{{ ret; }}\n"
        ))
    };
    assert!(gpu.context.load_module(ptx(24)).is_ok());
    assert!(gpu.context.load_module(ptx(32)).is_err());
    let text = gpu.simulator.last_error();
    assert!(text.contains("sim_scale") && text.contains("[32]") && text.contains("[24]"), "{text}");
}

#[test]
fn unknown_kernel() {
    let gpu = Gpu::new(Mode::Plain);
    assert!(gpu.context.load_module(Ptx::from_src(".visible .entry sim_absent()")).is_err());
    assert!(gpu.simulator.last_error().contains("KILN_EXPORT(sim_absent)"));
    assert!(gpu.module.load_function("sim_absent").is_err());
}
