// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of a cooperative launch, which are there at the same time and wait for each other.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::{sys, DevicePtr};
use kiln_simcuda::{Mode, ThreadOrder};

use super::common::Gpu;

const BLOCKS: u32 = 5;
const ROUNDS: u32 = 4;
const THREADS: u32 = 64;

#[derive(Clone, Copy, PartialEq)]
enum Launched {
    Together,
    OneByOne,
}

/// The sums of every round, or the error.
fn relay(gpu: &Gpu, kernel: &str, launched: Launched) -> Result<Vec<u32>, String> {
    let numbers = (BLOCKS * ROUNDS * THREADS) as usize;
    let x = gpu.stream.clone_htod(&vec![7u32; numbers]).expect("a copy");
    let counter = gpu.stream.clone_htod(&[0u32]).expect("a copy");
    let (mut at, mut count) = (x.device_ptr(&gpu.stream).0, counter.device_ptr(&gpu.stream).0);
    let mut rounds = ROUNDS;
    let mut arguments: [*mut c_void; 3] =
        [(&raw mut at).cast(), (&raw mut count).cast(), (&raw mut rounds).cast()];
    let value = sys::CUlaunchAttributeValue { cooperative: 1 };
    let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    let mut together = [sys::CUlaunchAttribute { id, pad: [0; 4], value }];
    let config = sys::CUlaunchConfig {
        gridDimX: BLOCKS,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: THREADS,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: gpu.stream.cu_stream(),
        attrs: together.as_mut_ptr(),
        numAttrs: u32::from(launched == Launched::Together),
    };
    let kernel = gpu.kernel(kernel);
    // SAFETY: configuration, attribute and the kernel's parameters are copied by the call; memory that
    // they name outlives the wait below.
    let queued = unsafe {
        sys::cuLaunchKernelEx(&config, kernel.cu_function(), arguments.as_mut_ptr(), null_mut())
    };
    assert_eq!(queued, sys::CUresult::CUDA_SUCCESS);
    match gpu.failure() {
        Some(text) => Err(text),
        None => Ok(gpu.stream.clone_dtoh(&x).expect("a copy")),
    }
}

fn expected() -> Vec<u32> {
    let mut sums = Vec::new();
    let mut before = 0;
    for _ in 0..ROUNDS {
        let round: Vec<u32> = (0..BLOCKS).map(|block| block + before).collect();
        sums.extend(round.iter().flat_map(|&sum| [sum; THREADS as usize]));
        before = round.iter().sum();
    }
    sums
}

/// Every order of threads, in random order with several seeds.
fn orders() -> Vec<(ThreadOrder, u64)> {
    let random = (1..6).map(|seed| (ThreadOrder::Random, seed));
    [(ThreadOrder::Ascending, 1), (ThreadOrder::Descending, 1)].into_iter().chain(random).collect()
}

fn in_order(mode: Mode, (order, seed): (ThreadOrder, u64)) -> Gpu {
    let gpu = Gpu::new(mode);
    gpu.simulator.set_thread_order(order);
    gpu.simulator.set_seed(seed);
    gpu
}

#[test]
fn blocks_that_wait_see_what_the_others_wrote_in_any_order() {
    for mode in [Mode::Plain, Mode::Checked] {
        for order in orders() {
            let gpu = in_order(mode, order);
            assert_eq!(relay(&gpu, "sim_relay", Launched::Together), Ok(expected()), "{order:?}");
            assert_eq!(gpu.simulator.counters().cooperative_launches, 1);
            gpu.no_reports();
        }
    }
}

#[test]
fn a_missing_wait_gives_wrong_sums_and_is_a_race() {
    for order in orders() {
        let gpu = in_order(Mode::Plain, order);
        let found = relay(&gpu, "bug_relay_without_wait", Launched::Together);
        assert_ne!(found, Ok(expected()), "{order:?}");
        drop(gpu);
        let gpu = in_order(Mode::Checked, order);
        let error = relay(&gpu, "bug_relay_without_wait", Launched::Together).expect_err("a race");
        let part = "device-memory race between blocks";
        assert!(error.contains(part) && error.contains("cooperation.cu:"), "{error}");
        gpu.simulator.take_reports();
    }
}

/// What a counter is added to before other threads have written is not ordered by it.
#[test]
fn an_early_count_is_a_race() {
    for order in orders() {
        let gpu = in_order(Mode::Checked, order);
        let error = relay(&gpu, "bug_relay_early", Launched::Together).expect_err("a race");
        assert!(error.contains("device-memory race between blocks"), "{order:?}: {error}");
        gpu.simulator.take_reports();
    }
}

#[test]
fn waiting_for_ever_is_a_deadlock() {
    for order in orders() {
        let gpu = in_order(Mode::Plain, order);
        let error = relay(&gpu, "bug_relay_waits_for_ever", Launched::Together);
        let error = error.expect_err("a deadlock");
        assert!(error.contains("deadlock") && error.contains("wait_until"), "{error}");
        gpu.simulator.take_reports();
    }
}

#[test]
fn waiting_needs_a_cooperative_launch() {
    let gpu = Gpu::new(Mode::Plain);
    let error = relay(&gpu, "sim_relay", Launched::OneByOne).expect_err("nobody is there");
    assert!(error.contains("the launch is not cooperative"), "{error}");
    gpu.simulator.take_reports();
}
