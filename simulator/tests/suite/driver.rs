// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's manners: errors that stick, limits, device facts, modules.

use super::common::{exclusive, grid, Gpu, ScaleParams};
use cudarc::driver::{
    result, sys, CudaContext, DevicePtr, DriverError, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use kiln_simcuda::{DeviceModel, Mode};
use sys::CUdevice_attribute as Attribute;

const OUT_OF_MEMORY: DriverError = DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY);
const INVALID_VALUE: DriverError = DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE);

#[test]
fn libcuda_is_the_simulator() {
    let simulator = exclusive();
    let file = simulator.path().file_name().expect("a file").to_owned();
    assert_eq!(file, "libkiln_simcuda.so");
    // SAFETY: only asks whether a library can be loaded.
    assert!(unsafe { sys::is_culib_present() });
    let context = CudaContext::new(0).expect("a simulated GPU");
    assert_eq!(context.name().expect("a name"), "kiln simulated GPU (sm_90)");
    assert!(CudaContext::new(1).is_err());
}

#[test]
fn a_failed_kernel_makes_the_context_unusable_until_it_is_gone() {
    let gpu = Gpu::new(Mode::Plain);
    let other = gpu.context.new_stream().expect("a stream");
    let kernel = gpu.kernel("sim_scale");
    let params = ScaleParams { y: 4096, x: 4096, n: 1, factor: 1.0 };
    // SAFETY: the struct is the kernel's parameter; its pointers are the bug.
    unsafe { gpu.stream.launch_builder(&kernel).arg(&params).launch(grid(1, 32)) }.expect("queued");
    let illegal = DriverError(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(gpu.stream.synchronize(), Err(illegal));
    assert_eq!(other.synchronize(), Err(illegal));
    assert_eq!(gpu.stream.alloc_zeros::<f32>(4).err(), Some(illegal));
    assert_eq!(gpu.stream.clone_htod(&[1.0f32]).err(), Some(illegal));
    assert!(format!("{illegal:?}").contains("simulated: kernel sim_scale"));
    drop((kernel, other));
    let Gpu { context, module, stream, simulator } = gpu;
    drop((module, stream));
    drop(context);
    let again = Gpu::with(simulator, Mode::Plain);
    assert_eq!(again.failure(), None);
}

#[test]
fn an_injected_error_sticks() {
    let gpu = Gpu::new(Mode::Plain);
    gpu.simulator.inject_error(719);
    let failed = Err(DriverError(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED));
    assert_eq!(gpu.stream.synchronize(), failed);
    assert_eq!(gpu.stream.synchronize(), failed);
}

#[test]
fn memory_runs_out_and_comes_back() {
    let gpu = Gpu::new(Mode::Plain);
    gpu.simulator.set_memory(1 << 20);
    let (free, total) = result::mem_get_info().expect("numbers");
    assert_eq!((free, total), (1 << 20, 1 << 20));
    let most = gpu.stream.alloc_zeros::<u8>(1 << 20).expect("all of it");
    assert_eq!(gpu.stream.alloc_zeros::<u8>(1).err(), Some(OUT_OF_MEMORY));
    assert!(gpu.simulator.last_error().contains("0 of 1048576 are free"));
    drop(most);
    gpu.stream.synchronize().expect("freed");
    assert_eq!(result::mem_get_info().expect("numbers").0, 1 << 20);
    gpu.stream.alloc_zeros::<u8>(1000).expect("room again");
    assert_eq!(gpu.simulator.counters().allocations, 2);
}

#[test]
fn devices_have_their_facts() {
    let expected =
        [(DeviceModel::Sm80, (8, 0), 108, 166_912), (DeviceModel::Sm90, (9, 0), 132, 232_448)];
    for (model, version, multiprocessors, shared) in expected {
        let simulator = exclusive();
        simulator.set_device(model);
        let gpu = Gpu::with(simulator, Mode::Plain);
        assert_eq!(gpu.context.compute_capability().expect("a version"), version);
        let attribute = |name| gpu.context.attribute(name).expect("a number");
        assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), multiprocessors);
        let optin = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        assert_eq!(attribute(optin), shared);
        assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
        let newer = Ptx::from_src(".target sm_90\n.visible .entry sim_scale");
        assert_eq!(gpu.context.load_module(newer).is_ok(), version == (9, 0));
    }
}

#[test]
fn launches_beyond_the_limits_are_refused() {
    let gpu = Gpu::new(Mode::Plain);
    let x = gpu.stream.alloc_zeros::<f32>(64).expect("memory");
    let kernel = gpu.kernel("sim_reverse");
    let try_launch = |config: LaunchConfig| {
        // SAFETY: the argument is the kernel's.
        unsafe { gpu.stream.launch_builder(&kernel).arg(&x).launch(config) }.map(|_| ())
    };
    let wide = LaunchConfig { grid_dim: (1, 70_000, 1), ..grid(1, 32) };
    let hungry = LaunchConfig { shared_mem_bytes: 100_000, ..grid(1, 32) };
    for config in [grid(0, 32), grid(1, 0), grid(1, 1025), wide, hungry] {
        assert_eq!(try_launch(config), Err(INVALID_VALUE), "{config:?}");
    }
    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    kernel.set_attribute(attribute, 100_000).expect("the device has as much");
    assert_eq!(try_launch(hungry), Ok(()));
    assert!(kernel.set_attribute(attribute, 300_000).is_err());
    assert_eq!(gpu.failure(), None);

    let bounded = ".visible .entry sim_reverse(.param .u64 p) .maxntid 64 { }";
    let module = gpu.context.load_module(Ptx::from_src(bounded)).expect("valid");
    let kernel = module.load_function("sim_reverse").expect("a kernel");
    // SAFETY: as above.
    let outcome = unsafe { gpu.stream.launch_builder(&kernel).arg(&x).launch(grid(1, 65)) };
    let refused = sys::CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    assert_eq!(outcome.map(|_| ()), Err(DriverError(refused)));
    let blocks = kernel.occupancy_max_active_blocks_per_multiprocessor(64, 64 * 1024, None);
    assert_eq!(blocks, Ok(3));
}

#[test]
fn binary_images_are_taken_by_name() {
    let _gpu = Gpu::new(Mode::Plain);
    let mut module = std::ptr::null_mut();
    // SAFETY: the image is an ELF header, which is not read further; the function is not used past
    // the module.
    unsafe {
        let image = b"\x7fELF\x02\x01\x01\0";
        let loaded = sys::cuModuleLoadData(&mut module, image.as_ptr().cast());
        assert_eq!(loaded, sys::CUresult::CUDA_SUCCESS);
        assert!(result::module::get_function(module, c"sim_scale".to_owned()).is_ok());
        assert!(result::module::get_function(module, c"sim_absent".to_owned()).is_err());
        let mut function = result::module::get_function(module, c"sim_scale".to_owned());
        let (mut offset, mut bytes) = (9, 0);
        let kernel = *function.as_mut().expect("a kernel");
        let found = sys::cuFuncGetParamInfo(kernel, 0, &mut offset, &mut bytes);
        assert_eq!((found, offset, bytes), (sys::CUresult::CUDA_SUCCESS, 0, 24));
        let past = sys::cuFuncGetParamInfo(kernel, 1, &mut offset, &mut bytes);
        assert_eq!(past, sys::CUresult::CUDA_ERROR_INVALID_VALUE);
    }
}

#[test]
fn entry_points_are_found_by_name() {
    let _simulator = exclusive();
    let find = |name: &std::ffi::CStr| {
        let (mut address, mut answer) = (
            std::ptr::null_mut(),
            sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS,
        );
        // SAFETY: places for both answers.
        unsafe { sys::cuGetProcAddress_v2(name.as_ptr(), &mut address, 13000, 0, &mut answer) };
        !address.is_null()
    };
    assert!(find(c"cuMemAlloc") && find(c"cuInit"));
    assert!(!find(c"cuNoSuchFunction"));
}

#[test]
fn ranges_are_checked_at_the_call() {
    let gpu = Gpu::new(Mode::Plain);
    let x = gpu.stream.alloc_zeros::<f32>(8).expect("memory");
    let at = x.device_ptr(&gpu.stream).0;
    gpu.stream.synchronize().expect("the memory exists");
    let mut host = [0.0f32; 9];
    // SAFETY: the copies are refused or in bounds.
    unsafe {
        assert_eq!(result::memcpy_dtoh_sync(&mut host, at), Err(INVALID_VALUE));
        assert!(gpu.simulator.last_error().contains("pass the end of a 32-byte allocation"));
        assert_eq!(result::memcpy_dtoh_sync(&mut host[..8], at), Ok(()));
        assert_eq!(result::free_sync(at + 4), Err(INVALID_VALUE));
    }
}

#[test]
fn static_and_dynamic_shared_memory_share_the_limit() {
    for (dynamic, fits) in [(8 * 1024, true), (8 * 1024 + 128, false)] {
        let gpu = Gpu::new(Mode::Checked);
        let x = gpu.stream.alloc_zeros::<f32>(32).expect("memory");
        let kernel = gpu.kernel("sim_large_shared");
        let config = LaunchConfig { shared_mem_bytes: dynamic, ..grid(1, 32) };
        // SAFETY: the argument is the kernel's.
        unsafe { gpu.stream.launch_builder(&kernel).arg(&x).launch(config) }.expect("queued");
        let failure = gpu.failure();
        assert_eq!(failure.is_none(), fits, "{failure:?}");
        assert!(failure.is_none_or(|text| text.contains("40960 bytes of static")));
    }
}
