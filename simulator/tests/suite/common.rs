// SPDX-License-Identifier: MIT OR Apache-2.0
//! A context on the simulated driver, through cudarc alone.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, LaunchConfig};
use cudarc::nvrtc::Ptx;
use kiln_simcuda::{Exclusive, Mode};

pub(crate) struct Gpu {
    pub(crate) context: Arc<CudaContext>,
    pub(crate) module: Arc<CudaModule>,
    pub(crate) stream: Arc<CudaStream>,
    /// Dropped last, so that the next test finds no context.
    pub(crate) simulator: Exclusive,
}

const KERNELS: &[&str] = &[
    "sim_warp",
    "sim_bits",
    "sim_convert",
    "sim_mma_bf16",
    "sim_mma_f16",
    "sim_mma_tf32",
    "sim_ldmatrix",
    "sim_async_copy",
    "sim_atomics",
    "sim_reverse",
    "sim_scale",
    "sim_axpy",
    "sim_large_shared",
    "bug_missing_barrier",
    "bug_missing_second_barrier",
    "bug_missing_warp_barrier",
    "bug_divergent_barrier",
    "bug_early_return",
    "bug_divergent_shuffle",
    "bug_uninitialised_shared",
    "bug_past_shared",
    "bug_early_async_read",
    "bug_async_without_barrier",
    "bug_misaligned",
    "bug_async_not_waited",
    "bug_deep_stack",
    "sim_relay",
    "bug_relay_without_wait",
    "bug_relay_early",
    "bug_relay_waits_for_ever",
];

pub(crate) fn exclusive() -> Exclusive {
    kiln_simcuda::load().expect("built with this test").exclusive()
}

impl Gpu {
    pub(crate) fn new(mode: Mode) -> Self {
        Self::with(exclusive(), mode)
    }

    pub(crate) fn with(simulator: Exclusive, mode: Mode) -> Self {
        simulator.set_mode(mode);
        let context = CudaContext::new(0).expect("a simulated GPU");
        // SAFETY: the tests order their streams themselves.
        unsafe { context.disable_event_tracking() };
        let image: String = KERNELS.iter().map(|k| format!(".visible .entry {k}\n")).collect();
        let module = context.load_module(Ptx::from_src(image)).expect("every kernel is built");
        let stream = context.new_stream().expect("a stream");
        Self { context, module, stream, simulator }
    }

    pub(crate) fn kernel(&self, name: &str) -> CudaFunction {
        self.module.load_function(name).expect("a kernel of this name")
    }

    /// Runs what is queued; the text of the error if there is one.
    pub(crate) fn failure(&self) -> Option<String> {
        self.stream.synchronize().err().map(|_| self.simulator.last_error())
    }

    pub(crate) fn no_reports(&self) {
        assert_eq!(self.simulator.take_reports(), Vec::<String>::new());
    }
}

pub(crate) fn grid(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// The parameters of `sim_scale`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ScaleParams {
    pub(crate) y: u64,
    pub(crate) x: u64,
    pub(crate) n: i32,
    pub(crate) factor: f32,
}

// SAFETY: plain data with the kernel's layout.
unsafe impl DeviceRepr for ScaleParams {}

/// Numbers in [-1, 1) from a small generator.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 32) as u32
    }

    pub(crate) fn float(&mut self) -> f32 {
        (self.word() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}
