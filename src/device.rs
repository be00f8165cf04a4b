// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that networks run on.

use std::num::NonZeroUsize;

use crate::backend::cpu::Cpu;
use crate::backend::Backend;
use crate::Result;

/// Where a network lives and runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Cpu { threads: NonZeroUsize },
}

impl Device {
    /// The best device of this machine.
    ///
    /// # Errors
    /// None at present; a device that answers but cannot be opened will be one.
    pub fn best() -> Result<Self> {
        Ok(Self::cpu())
    }

    /// The CPU, with as many threads as the machine runs at the same time.
    pub fn cpu() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::cpu_with_threads(threads)
    }

    /// The CPU with a given number of threads. Results do not depend on it.
    pub fn cpu_with_threads(threads: NonZeroUsize) -> Self {
        Device { kind: Kind::Cpu { threads } }
    }

    /// Opens the device.
    pub(crate) fn open(&self) -> Result<Box<dyn Backend>> {
        match self.kind {
            Kind::Cpu { threads } => Ok(Box::new(Cpu::new(threads))),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Cpu { threads: NonZeroUsize::MIN } => write!(f, "cpu, 1 thread"),
            Kind::Cpu { threads } => write!(f, "cpu, {threads} threads"),
        }
    }
}
