// SPDX-License-Identifier: MIT OR Apache-2.0
//! The backends that every law is tried on.

use std::num::NonZeroUsize;

use kiln::backend::cpu::Cpu;
use kiln::backend::Backend;
use kiln::Device;

/// A backend of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Backends of one family give the same bits.
    pub(crate) family: &'static str,
    threads: NonZeroUsize,
}

/// All of them: the CPU with one thread, with two, and with a number that divides no batch evenly.
pub(crate) fn targets() -> Vec<Target> {
    let cpu = |threads: usize| Target {
        name: format!("cpu, threads: {threads}"),
        family: "cpu",
        threads: NonZeroUsize::new(threads).expect("one thread or more"),
    };
    [1, 2, 3].map(cpu).into()
}

impl Target {
    /// The device, to build networks on.
    pub(crate) fn device(&self) -> Device {
        Device::cpu_with_threads(self.threads)
    }

    /// The backend itself, to run single steps on.
    pub(crate) fn backend(&self) -> Box<dyn Backend> {
        Box::new(Cpu::new(self.threads))
    }
}
