// SPDX-License-Identifier: MIT OR Apache-2.0
//! Launches as the backend issues them, with what they ask of a device beyond their grid.

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::DriverError;
use kiln_simcuda::{Counters, DeviceModel, Mode};

use crate::abi::KilnCastParams;
use crate::driver::Gpu;
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

/// Issues a cast by itself and as a part of a graph; what was counted of the graph's run.
fn issued_and_captured(gpu: &Gpu, attributes: Attributes) -> Counters {
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
    gpu.turn().clear_counters();
    graph.launch().expect("a launch");
    stream.synchronize().expect("a run");
    captured.assert_done();
    gpu.turn().counters()
}

pub(crate) fn run() {
    let gpu = Gpu::open(Mode::Plain);
    let counted = |attributes| {
        let counters = issued_and_captured(&gpu, attributes);
        (counters.launches, counters.cooperative_launches, counters.cluster_launches)
    };
    let pairs = Attributes { cluster: Some([2, 1, 1]), ..Attributes::default() };
    assert_eq!(counted(Attributes::default()), (1, 0, 0));
    assert_eq!(counted(ALL), (1, 1, 0));
    assert_eq!(counted(pairs), (1, 0, 1));
    assert_eq!(counted(Attributes { residency: Residency::All, ..pairs }), (1, 1, 1));
    let refused = |gpu: &Gpu, attributes| {
        let (cast, function) = (Cast::new(), gpu.function("cast_f32_f16"));
        let launch = cast.launch(attributes);
        // SAFETY: as above; nothing is launched.
        let error = unsafe { launch.issue(function, gpu.stream().cu_stream()) }.err();
        error.map(|DriverError(code)| code)
    };
    let threes = Attributes { cluster: Some([3, 1, 1]), ..Attributes::default() };
    assert_eq!(refused(&gpu, threes), Some(CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE));
    drop(gpu);
    let older = Gpu::open_model(Mode::Plain, DeviceModel::Sm80);
    assert_eq!(refused(&older, pairs), Some(CUresult::CUDA_ERROR_NOT_SUPPORTED));
    assert_eq!(issued_and_captured(&older, ALL).cooperative_launches, 1);
}
