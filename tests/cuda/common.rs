// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver under test, one test at a time, and the devices that are compared.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use kiln::backend::cuda::{Capture, CudaOptions};
use kiln::{Device, Tensor};
pub(crate) use kiln_simcuda::{Exclusive, ImageKind, Mode, StreamOrder, ThreadOrder};

/// Names a real GPU as the device under test: `KILN_TEST_GPU=1`.
const REAL: &str = "KILN_TEST_GPU";

/// The driver under test, for as long as the value lives: the simulated one, or that of a real GPU.
pub(crate) struct Driver(Option<Exclusive>);

/// Either driver, for tests of what kernels compute.
pub(crate) fn driver() -> Driver {
    match is_real() {
        true => Driver(None),
        false => Driver(Some(kiln_simcuda::load().expect("built with this test").exclusive())),
    }
}

/// Whether an error is a real driver's refusal of a form of the kernels, by the name of its code: PTX or machine code that
/// it is too old for, or of another architecture.
pub(crate) fn is_refusal(error: &str) -> bool {
    const REFUSALS: [&str; 6] = [
        "CUDA_ERROR_INVALID_IMAGE",
        "CUDA_ERROR_INVALID_PTX",
        "CUDA_ERROR_JIT_COMPILATION_DISABLED",
        "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
        "CUDA_ERROR_NO_BINARY_FOR_GPU",
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    ];
    is_real() && REFUSALS.iter().any(|name| error.contains(name))
}

fn is_real() -> bool {
    std::env::var_os(REAL).is_some_and(|value| value == "1")
}

/// The simulated driver, for tests of what only it can do or see; `None`, with a line that says why,
/// where the device under test is a real GPU.
pub(crate) fn simulator() -> Option<Exclusive> {
    let Driver(simulator) = driver();
    if simulator.is_none() {
        skipped("needs the switches or the counters of the simulated driver");
    }
    simulator
}

/// Says why a test, or a part of one, cannot be run here.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Straight to the stream: what a passing test prints is not shown.
    writeln!(std::io::stderr(), "{test}: skipped: {why}").expect("a stream");
}

impl Driver {
    /// Fails if the simulated driver saw something wrong.
    pub(crate) fn assert_clean(&self) {
        if let Some(simulator) = &self.0 {
            assert_eq!(simulator.take_reports(), Vec::<String>::new());
        }
    }

    /// The simulated driver, if it is the one under test.
    pub(crate) fn simulator(&self) -> Option<&Exclusive> {
        self.0.as_ref()
    }

    /// Graphs launched since the last time this was asked; a real driver does not count them.
    pub(crate) fn take_graph_launches(&self) -> Option<u64> {
        let launches = self.0.as_ref()?.counters().graph_launches;
        self.0.as_ref()?.clear_counters();
        Some(launches)
    }
}

/// What `body` yields, and the warnings that the library gave meanwhile on this thread.
pub(crate) fn with_warnings<T>(body: impl FnOnce() -> T) -> (T, Vec<String>) {
    let text = Arc::new(Mutex::new(Vec::new()));
    let writer = {
        let text = text.clone();
        move || Shared(text.clone())
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    let result = tracing::subscriber::with_default(subscriber, body);
    let text = text.lock().expect("no panic").clone();
    let text = String::from_utf8(text).expect("text");
    (result, text.lines().map(str::to_owned).collect())
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The GPU under test.
pub(crate) fn gpu() -> Device {
    Device::cuda(0).expect("a device")
}

/// The GPU under test, every run issued step by step.
pub(crate) fn eager_gpu() -> Device {
    let options = CudaOptions { capture: Capture::Off, ..CudaOptions::default() };
    Device::cuda_with(0, options).expect("a device")
}

/// The reference.
pub(crate) fn cpu() -> Device {
    Device::cpu_with_threads(NonZeroUsize::MIN)
}

/// Numbers in [-1, 1) from a small generator.
pub(crate) fn numbers(seed: u64, shape: impl Into<kiln::Shape>) -> Tensor {
    let shape = shape.into();
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let data = std::iter::repeat_with(next).take(shape.elements()).collect();
    Tensor::new(shape, data).expect("as many numbers as the shape has")
}

/// Labels below `classes`, in no order.
pub(crate) fn labels(seed: u64, count: usize, classes: usize) -> Tensor {
    let label = |index: usize| ((index as u64 * 7 + seed * 3 + 5) % classes as u64) as i32;
    Tensor::labels([count], (0..count).map(label).collect()).expect("one label per sample")
}

/// Fails with the worst element unless all are close: relative to the reference's largest element,
/// since sums of either sign are compared.
pub(crate) fn assert_close(what: &str, got: &Tensor, reference: &Tensor, tolerance: f32) {
    assert_eq!(got.shape(), reference.shape(), "{what}");
    let (got, reference) = (got.values().expect("f32"), reference.values().expect("f32"));
    let scale = reference.iter().fold(1e-6f32, |largest, x| largest.max(x.abs()));
    let worst = got
        .iter()
        .zip(reference)
        .enumerate()
        .max_by(|(_, a), (_, b)| (a.0 - a.1).abs().total_cmp(&(b.0 - b.1).abs()));
    if let Some((index, (got, reference))) = worst {
        let error = (got - reference).abs() / scale;
        assert!(error <= tolerance, "{what}[{index}]: {got}, reference {reference}: {error:e}");
    }
}
