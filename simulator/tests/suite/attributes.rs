// SPDX-License-Identifier: MIT OR Apache-2.0
//! Launches that ask for more than a grid.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::{sys, DevicePtr};
use kiln_simcuda::{DeviceModel, Mode};
use sys::CUlaunchAttributeID as Id;
use sys::CUresult::{
    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE as TOO_LARGE,
    CUDA_ERROR_INVALID_CLUSTER_SIZE as CLUSTER, CUDA_ERROR_NOT_SUPPORTED as UNSUPPORTED,
    CUDA_SUCCESS as SUCCESS,
};

use super::common::{exclusive, Gpu, ScaleParams};

fn cooperative() -> sys::CUlaunchAttribute {
    let value = sys::CUlaunchAttributeValue { cooperative: 1 };
    sys::CUlaunchAttribute { id: Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, pad: [0; 4], value }
}

fn cluster([x, y, z]: [u32; 3]) -> sys::CUlaunchAttribute {
    let dimension = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z };
    let value = sys::CUlaunchAttributeValue { clusterDim: dimension };
    sys::CUlaunchAttribute { id: Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, pad: [0; 4], value }
}

/// y = 2 x for 32 numbers per block.
fn launch(gpu: &Gpu, blocks: u32, attributes: &[sys::CUlaunchAttribute]) -> sys::CUresult {
    let numbers = gpu.stream.clone_htod(&vec![1.5f32; 32 * blocks as usize]).expect("a copy");
    let at = numbers.device_ptr(&gpu.stream).0;
    let mut params = ScaleParams { y: at, x: at, n: 32 * blocks as i32, factor: 2.0 };
    let mut arguments: [*mut c_void; 1] = [(&raw mut params).cast()];
    let mut attributes = attributes.to_vec();
    let config = sys::CUlaunchConfig {
        gridDimX: blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 32,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: gpu.stream.cu_stream(),
        attrs: attributes.as_mut_ptr(),
        numAttrs: attributes.len() as u32,
    };
    let kernel = gpu.kernel("sim_scale");
    // SAFETY: configuration, attributes and the kernel's parameter are copied by the call.
    let status = unsafe {
        sys::cuLaunchKernelEx(&config, kernel.cu_function(), arguments.as_mut_ptr(), null_mut())
    };
    if status == SUCCESS {
        let found = gpu.stream.clone_dtoh(&numbers).expect("a copy");
        assert!(found.iter().all(|&number| number == 3.0), "{found:?}");
    }
    status
}

#[test]
fn blocks_at_the_same_time_have_room() {
    let gpu = Gpu::new(Mode::Plain);
    // 32 blocks of this size on each of 132 multiprocessors.
    assert_eq!(launch(&gpu, 132 * 32, &[cooperative()]), SUCCESS);
    assert_eq!(launch(&gpu, 132 * 32 + 1, &[cooperative()]), TOO_LARGE);
    assert!(gpu.simulator.last_error().contains("there is room for 4224"));
    assert_eq!(launch(&gpu, 132 * 32 + 1, &[]), SUCCESS);
    let counters = gpu.simulator.counters();
    assert_eq!((counters.launches, counters.cooperative_launches), (2, 1));
}

#[test]
fn clusters_divide_the_grid_from_sm_90_on() {
    let gpu = Gpu::new(Mode::Plain);
    for (blocks, shape, status) in [
        (16, [8, 1, 1], SUCCESS),
        (12, [8, 1, 1], CLUSTER),
        (16, [16, 1, 1], CLUSTER),
        (16, [0, 1, 1], CLUSTER),
        (16, [4, 2, 1], CLUSTER),
    ] {
        assert_eq!(launch(&gpu, blocks, &[cluster(shape)]), status, "{shape:?} of {blocks}");
    }
    assert_eq!(launch(&gpu, 16, &[cooperative(), cluster([4, 1, 1])]), SUCCESS);
    let counters = gpu.simulator.counters();
    assert_eq!((counters.cluster_launches, counters.cooperative_launches), (2, 1));
    drop(gpu);
    let simulator = exclusive();
    simulator.set_device(DeviceModel::Sm80);
    let gpu = Gpu::with(simulator, Mode::Plain);
    assert_eq!(launch(&gpu, 16, &[cluster([2, 1, 1])]), UNSUPPORTED);
}

#[test]
fn other_attributes_are_refused() {
    let gpu = Gpu::new(Mode::Plain);
    let value = sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 };
    let id = Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    let attribute = sys::CUlaunchAttribute { id, pad: [0; 4], value };
    assert_eq!(launch(&gpu, 1, &[attribute]), UNSUPPORTED);
    assert!(gpu.simulator.last_error().contains("launch attribute 6 is not simulated"));
}
