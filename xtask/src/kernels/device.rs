// SPDX-License-Identifier: MIT OR Apache-2.0
//! What bounds the number of blocks on a multiprocessor (CUDA C++ Programming Guide, "Compute Capabilities").

use crate::Result;

/// The architectures that kiln ships code for.
pub(super) const ALL: &str = "sm_80,sm_86,sm_89,sm_90,sm_100,sm_120";

/// One architecture's multiprocessor.
pub(super) struct Device {
    /// Bytes of shared memory, of which each block loses [`RESERVED`].
    pub(super) shared: u32,
    pub(super) threads: u32,
    pub(super) blocks: u32,
    /// Stages of the tensor-core products' pipeline, as kernels/lib/gemm/tile.cuh chooses them.
    pub(super) stages: u32,
}

const REGISTERS: u32 = 65536;
/// Registers are handed out to warps in units of this many per thread.
const REGISTER_UNIT: u32 = 8;
const RESERVED: u32 = 1024;

impl Device {
    pub(super) fn named(arch: &str) -> Result<Self> {
        let (kilobytes, threads, blocks, stages) = match arch {
            "sm_80" => (164, 2048, 32, 4),
            "sm_86" => (100, 1536, 16, 3),
            "sm_89" => (100, 1536, 24, 3),
            "sm_90" | "sm_100" => (228, 2048, 32, 4),
            "sm_120" => (100, 1536, 24, 3),
            _ => return Err(format!("unknown architecture {arch}, expected some of {ALL}").into()),
        };
        Ok(Device { shared: kilobytes * 1024, threads, blocks, stages })
    }

    /// Blocks of a kernel that a multiprocessor holds at a time.
    pub(super) fn occupancy(&self, registers: u32, threads: u32, shared: u32) -> u32 {
        let registers = registers.max(1).next_multiple_of(REGISTER_UNIT) * threads;
        let by_shared = self.shared / (shared + RESERVED);
        (REGISTERS / registers).min(by_shared).min(self.threads / threads).min(self.blocks)
    }
}
