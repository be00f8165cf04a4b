// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real PTX, where NVIDIA's compiler is installed: its entries and parameter sizes are compared
//! with the host build.

use std::io::Write;

use super::common::{grid, Gpu, ScaleParams};
use cudarc::driver::{DevicePtr, PushKernelArg};
use cudarc::nvrtc::{compile_ptx_with_opts, sys, CompileOptions};
use kiln_simcuda::Mode;

const SOURCE: &str = r#"
struct Params { float* y; const float* x; int n; float factor; EXTRA };
extern "C" __global__ void __launch_bounds__(256) sim_scale(const Params p) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < p.n) p.y[i] = p.factor * p.x[i];
}
extern "C" __global__ void sim_axpy(float* y, const float* x, float a, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
"#;

#[test]
fn compiled_ptx_is_compared_with_the_host_build() {
    // SAFETY: only asks whether a library can be loaded.
    if !unsafe { sys::is_culib_present() } {
        // Straight to the stream: what a passing test prints is not shown.
        let why = "skipped: there is no libnvrtc.so on the library path";
        writeln!(std::io::stderr(), "compiled_ptx_is_compared_with_the_host_build: {why}")
            .expect("a stream");
        return;
    }
    let gpu = Gpu::new(Mode::Checked);
    let compile = |extra: &str| {
        let options = CompileOptions { arch: Some("sm_80"), ..Default::default() };
        compile_ptx_with_opts(SOURCE.replace("EXTRA", extra), options).expect("valid CUDA")
    };
    let module = gpu.context.load_module(compile("")).expect("the sizes agree");
    let kernel = module.load_function("sim_scale").expect("a kernel");
    let x = gpu.stream.clone_htod(&[2.0f32; 100]).expect("a copy");
    let y = gpu.stream.alloc_zeros::<f32>(100).expect("memory");
    let (y_at, x_at) = (y.device_ptr(&gpu.stream).0, x.device_ptr(&gpu.stream).0);
    let params = ScaleParams { y: y_at, x: x_at, n: 100, factor: 3.0 };
    let launch = |threads| {
        // SAFETY: the struct is the kernel's parameter.
        unsafe { gpu.stream.launch_builder(&kernel).arg(&params).launch(grid(1, threads)) }
    };
    launch(256).expect("within the launch bounds");
    assert!(launch(257).is_err(), "the launch bounds of the PTX hold");
    assert_eq!(gpu.stream.clone_dtoh(&y).expect("a copy"), [6.0; 100]);

    assert!(gpu.context.load_module(compile("int more[3];")).is_err());
    let text = gpu.simulator.last_error();
    assert!(text.contains("sim_scale") && text.contains("[40]"), "{text}");
}
