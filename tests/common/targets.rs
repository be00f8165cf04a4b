// SPDX-License-Identifier: MIT OR Apache-2.0
//! The backends that every law is tried on.

use std::num::NonZeroUsize;

use kiln::backend::cpu::Cpu;
#[cfg(target_os = "linux")]
use kiln::backend::cuda::{Capture, Cuda, CudaOptions};
use kiln::backend::Backend;
use kiln::Device;

/// A backend of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Backends of one family give the same bits.
    pub(crate) family: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Cpu(NonZeroUsize),
    #[cfg(target_os = "linux")]
    SimulatedCuda,
}

/// All of them: the CPU with one thread, with two, and with a number that divides no batch evenly,
/// and, on Linux, CUDA's kernels on the simulated driver.
pub(crate) fn targets() -> Vec<Target> {
    let cpu = |threads: usize| Target {
        name: format!("cpu, threads: {threads}"),
        family: "cpu",
        kind: Kind::Cpu(NonZeroUsize::new(threads).expect("one thread or more")),
    };
    Vec::from_iter([1, 2, 3].map(cpu).into_iter().chain(simulated()))
}

#[cfg(target_os = "linux")]
fn simulated() -> Option<Target> {
    kiln_simcuda::load().expect("built with this test");
    let (name, family) = ("cuda, simulated".into(), "cuda");
    Some(Target { name, family, kind: Kind::SimulatedCuda })
}

/// The simulated driver takes a place that only Linux's loader has.
#[cfg(not(target_os = "linux"))]
fn simulated() -> Option<Target> {
    None
}

impl Target {
    /// The device, to build networks on.
    pub(crate) fn device(&self) -> Device {
        match self.kind {
            Kind::Cpu(threads) => Device::cpu_with_threads(threads),
            #[cfg(target_os = "linux")]
            Kind::SimulatedCuda => Device::cuda(0).expect("the simulated driver has a device"),
        }
    }

    /// The backend itself, to run single steps on.
    pub(crate) fn backend(&self) -> Box<dyn Backend> {
        match self.kind {
            Kind::Cpu(threads) => Box::new(Cpu::new(threads)),
            #[cfg(target_os = "linux")]
            Kind::SimulatedCuda => {
                let options = CudaOptions { capture: Capture::Off, ..CudaOptions::default() };
                Box::new(Cuda::new(0, options).expect("the simulated driver has a device"))
            }
        }
    }
}
