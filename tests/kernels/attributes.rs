// SPDX-License-Identifier: MIT OR Apache-2.0
//! Launches as the backend issues them, with what they ask of a device beyond their grid.

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use kiln_simcuda::{Counters, DeviceModel, Mode};

use crate::abi::KilnCastParams;
use crate::calls::DriverError;
use crate::driver::{skipped, Gpu};
use crate::float::Storage;
use crate::launch::{Attributes, Grid, Launch, Residency};
use crate::memory::Array;

const ALL: Attributes = Attributes { residency: Residency::All, cluster: None };
const COUNT: usize = 3000;

/// A cast of `COUNT` numbers by two blocks.
struct Cast {
    from: Array,
    to: Array,
}

impl Cast {
    fn new() -> Self {
        let numbers: Vec<f32> = (0..COUNT).map(|number| number as f32 / 16.0).collect();
        let (from, to) = (Array::new(Storage::F32, &numbers), Array::output(Storage::F16, COUNT));
        Cast { from, to }
    }

    fn launch(&self, attributes: Attributes) -> Launch {
        let params =
            KilnCastParams { y: self.to.address(), x: self.from.address(), count: COUNT as u32 };
        let grid = Grid { blocks: [2, 1, 1], threads: [256, 1, 1], shared: 0 };
        Launch { attributes, ..Launch::new("cast_f32_f16", grid, params) }
    }

    fn assert_done(&self) {
        let want: Vec<f64> = self.from.values.iter().map(|&x| f64::from(x as f32)).collect();
        let close = |(got, want): (&f64, &f64)| (got - want).abs() <= want / 1024.0;
        assert!(self.to.read().iter().zip(&want).all(close));
    }
}

/// Issues a cast by itself and as a part of a graph; what the simulated driver counted of the graph's run.
fn issued_and_captured(gpu: &Gpu, attributes: Attributes) -> Option<Counters> {
    let (function, stream) = (gpu.function("cast_f32_f16"), gpu.stream());
    let eager = Cast::new();
    // SAFETY: the structure is the kernel's, and its memory outlives the wait below.
    unsafe { eager.launch(attributes).issue(function, stream.cu_stream()) }.expect("a launch");
    stream.synchronize().expect("a run");
    eager.assert_done();
    let captured = Cast::new();
    stream
        .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    // SAFETY: as above.
    unsafe { captured.launch(attributes).issue(function, stream.cu_stream()) }.expect("a launch");
    let graph = stream.end_capture(CUgraphInstantiate_flags(0)).expect("a graph").expect("work");
    if let Some(simulator) = gpu.simulator() {
        simulator.clear_counters();
    }
    graph.launch().expect("a launch");
    stream.synchronize().expect("a run");
    captured.assert_done();
    gpu.simulator().map(|simulator| simulator.counters())
}

pub(crate) fn run() {
    let gpu = Gpu::open(Mode::Plain);
    let runs = |attributes, expected: (u64, u64, u64)| {
        if let Some(counters) = issued_and_captured(&gpu, attributes) {
            let Counters { launches, cooperative_launches, cluster_launches, .. } = counters;
            assert_eq!((launches, cooperative_launches, cluster_launches), expected);
        }
    };
    let pairs = Attributes { cluster: Some([2, 1, 1]), ..Attributes::default() };
    let threes = Attributes { cluster: Some([3, 1, 1]), ..Attributes::default() };
    runs(Attributes::default(), (1, 0, 0));
    runs(ALL, (1, 1, 0));
    if gpu.info().capability >= (9, 0) {
        runs(pairs, (1, 0, 1));
        runs(Attributes { residency: Residency::All, ..pairs }, (1, 1, 1));
        assert_refused(&gpu, threes, &[of(CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE)]);
    } else {
        assert_refused(&gpu, pairs, &BEFORE_CLUSTERS);
    }
    if gpu.simulator().is_none() {
        return skipped("only the simulated driver has devices of two models");
    }
    drop(gpu);
    let older = Gpu::open_model(Mode::Plain, DeviceModel::Sm80);
    assert_refused(&older, pairs, &BEFORE_CLUSTERS);
    let counted = issued_and_captured(&older, ALL).map(|counters| counters.cooperative_launches);
    assert_eq!(counted, Some(1));
}

/// What a device without clusters says of a launch with them.
const BEFORE_CLUSTERS: [DriverError; 1] = [of(CUresult::CUDA_ERROR_NOT_SUPPORTED)];

/// A code by its name.
const fn of(code: CUresult) -> DriverError {
    DriverError(code as u32)
}

/// Fails unless a launch is refused with one of some codes. A real driver may also say that a value is invalid.
fn assert_refused(gpu: &Gpu, attributes: Attributes, codes: &[DriverError]) {
    let (cast, function) = (Cast::new(), gpu.function("cast_f32_f16"));
    let launch = cast.launch(attributes);
    // SAFETY: as above; nothing is launched.
    let issued = unsafe { launch.issue(function, gpu.stream().cu_stream()) };
    let code = issued.expect_err("a refusal");
    let is_invalid = !gpu.info().simulated && code == of(CUresult::CUDA_ERROR_INVALID_VALUE);
    assert!(codes.contains(&code) || is_invalid, "{attributes:?}: {code:?}");
}
