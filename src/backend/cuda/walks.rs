// SPDX-License-Identifier: MIT OR Apache-2.0
//! Launches whose blocks wait for each other: which fit on a device, and whether a device may run them.

use std::fmt;

use cudarc::driver::sys::CUdevice_attribute as Attribute;

use super::abi_recurrent::*;
use super::driver::CudaFunction;
use super::geometry::{Machine, Steps};
use super::gpu::Gpu;
use super::launch::{Grid, Item, Residency};
use super::options::{CudaOptions, Walks};
use super::sizes::word;
use super::verdict::Verdict;
use super::LoadedImage;
use crate::{Precision, Result};

/// A recurrent layer as one launch multiplies it in every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) samples: usize,
    pub(super) units: usize,
    /// Columns that a unit takes in the product.
    pub(super) tiles: usize,
    /// Terms of a sum.
    pub(super) k: usize,
    /// Parts of a sum.
    pub(super) splits: usize,
}

/// Why a recurrent layer makes a launch for each step, or, where units are projected, two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// All steps in one launch are only for devices that allow it and whose self-test has passed.
    Device,
    /// Its units are projected.
    Projection,
    /// There is nothing to compute.
    Empty,
    /// So many units are not whole blocks.
    Units(usize),
    /// Not all blocks can be on the device at the same time.
    Room {
        /// How many there are.
        blocks: usize,
        /// How many fit.
        room: usize,
    },
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Apart::Device => f.write_str("the device's self-test has not passed"),
            Apart::Projection => f.write_str("units are projected"),
            Apart::Empty => f.write_str("there is nothing to compute"),
            Apart::Units(units) => {
                write!(f, "{units} units are not whole blocks of {KILN_WALK_UNITS}")
            }
            Apart::Room { blocks, room } => {
                write!(f, "of {blocks} blocks that wait for each other, {room} fit on the device")
            }
        }
    }
}

/// Bytes of shared memory that the system keeps for each block.
const RESERVED: usize = 1024;
/// Blocks on a multiprocessor that the kernels' launch bounds leave registers for.
const BLOCKS: usize = 2;

impl Walk {
    /// The grid, of which all blocks can be on the device at the same time.
    pub(super) fn grid(&self, precision: Precision, machine: &Machine) -> Result<Grid, Apart> {
        let width = KILN_WALK_UNITS as usize;
        if machine.steps == Steps::Apart {
            return Err(Apart::Device);
        }
        if self.samples == 0 || self.units == 0 {
            return Err(Apart::Empty);
        }
        if !self.units.is_multiple_of(width) {
            return Err(Apart::Units(self.units));
        }
        let shared = self.shared(precision);
        let each = (machine.shared as usize / (shared + RESERVED)).min(BLOCKS);
        let room = each * machine.multiprocessors;
        let blocks = [self.samples.div_ceil(KILN_WALK_ROWS as usize), self.units / width];
        let all = blocks[0].saturating_mul(blocks[1]);
        if all > room {
            return Err(Apart::Room { blocks: all, room });
        }
        Ok(Grid {
            blocks: [word(blocks[0]), word(blocks[1]), 1],
            threads: [KILN_WALK_THREADS, 1, 1],
            shared: word(shared),
        })
    }

    /// Bytes of shared memory of a block, as `kernels/lib/walk.cuh` divides it.
    fn shared(&self, precision: Precision) -> usize {
        let bytes = precision.storage().bytes();
        let [rows, width] = [KILN_WALK_ROWS as usize, KILN_WALK_UNITS as usize];
        let depth = 64 / bytes;
        let split = self.k.div_ceil(depth).div_ceil(self.splits) * 16;
        let padded = (self.k * bytes / 4).next_multiple_of(8);
        let pass = (KILN_WALK_PASS_WORDS as usize / split).clamp(1, self.splits);
        let weights = self.tiles * width * (padded + 4);
        let of_rows = rows * ((pass * split).min(padded) + 4);
        4 * (weights + of_rows + self.splits * self.tiles * rows * width)
    }
}

/// What launches depend on about a device.
///
/// # Errors
/// [`crate::Error::Device`] if the device does not say.
pub(super) fn machine(gpu: &Gpu, image: LoadedImage, options: &CudaOptions) -> Result<Machine> {
    let attribute = |attribute| {
        let value = gpu.context().attribute(attribute);
        value.map_err(|error| gpu.error("asking the device", error))
    };
    let shared = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?;
    let cooperates = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? != 0;
    let wanted = match options.walks {
        Walks::Always => true,
        Walks::Never => false,
        Walks::Verified => is_verified(gpu, image, options.precision),
    };
    Ok(Machine {
        multiprocessors: gpu.info().multiprocessors,
        architecture: image.architecture(gpu.info()),
        shared: u32::try_from(shared).unwrap_or(0),
        steps: if cooperates && wanted { Steps::Together } else { Steps::Apart },
    })
}

/// A verdict that cannot be read is none.
fn is_verified(gpu: &Gpu, image: LoadedImage, precision: Precision) -> bool {
    match Verdict::recall(gpu.info(), image, precision) {
        Ok(verdict) => verdict.is_some_and(|verdict| verdict.passed()),
        Err(error) => {
            tracing::debug!(device = gpu.name(), "the self-test's verdict is not known: {error}");
            false
        }
    }
}

/// Whether the device has room for all blocks of every launch that needs it; the driver knows what
/// registers and shared memory leave.
///
/// # Errors
/// [`crate::Error::Device`] if a kernel cannot be loaded, or the driver does not say.
pub(super) fn have_room<'a>(
    gpu: &Gpu,
    items: impl Iterator<Item = &'a Item>,
    mut kernel: impl FnMut(&str, u32) -> Result<CudaFunction>,
) -> Result<bool> {
    for item in items {
        let Item::Launch(launch) = item else { continue };
        if launch.attributes.residency != Residency::All {
            continue;
        }
        let Grid { blocks, threads, shared } = launch.grid;
        let threads = threads.iter().product();
        let fits = kernel(&launch.kernel, shared)?
            .blocks_per_multiprocessor(threads, shared as usize)
            .map_err(|error| gpu.error("asking for room", error))?;
        let blocks: usize = blocks.iter().map(|&extent| extent as usize).product();
        if blocks > fits as usize * gpu.info().multiprocessors {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: Machine = Machine::new(132, 90);

    fn lstm(samples: usize, units: usize, splits: usize) -> [Walk; 2] {
        let forward = Walk { samples, units, tiles: 4, k: units, splits };
        [forward, Walk { tiles: 1, k: 4 * units, ..forward }]
    }

    #[test]
    fn a_walk_fits_if_all_blocks_do() {
        let [forward, back] = lstm(64, 256, 2).map(|walk| walk.grid(Precision::F32, &H100));
        let forward = forward.expect("128 blocks");
        assert_eq!((forward.blocks, forward.threads), ([4, 32, 1], [256, 1, 1]));
        assert_eq!(forward.shared, 4 * (32 * 260 + 16 * 260 + 2 * 4 * 128));
        assert_eq!(back.expect("128 blocks").shared, 4 * (8 * 1028 + 16 * 516 + 2 * 128));
        for (why, walk) in [
            ("of 512 blocks that wait for each other, 132 fit on the device", lstm(64, 1024, 2)[0]),
            (
                "of 2048 blocks that wait for each other, 264 fit on the device",
                lstm(1024, 256, 1)[0],
            ),
            ("100 units are not whole blocks of 8", lstm(64, 100, 1)[0]),
            ("there is nothing to compute", lstm(0, 64, 1)[1]),
        ] {
            let found = walk.grid(Precision::F32, &H100).map_err(|apart| apart.to_string());
            assert_eq!(found, Err(why.to_owned()));
        }
        let never = Machine { steps: Steps::Apart, ..H100 };
        assert_eq!(lstm(64, 256, 2)[0].grid(Precision::F32, &never), Err(Apart::Device));
    }

    #[test]
    fn weights_take_half_the_room_in_sixteen_bits() {
        let [walk, _] = lstm(16, 512, 1);
        let shared = |precision| walk.grid(precision, &H100).map(|grid| grid.shared);
        assert_eq!(shared(Precision::F32), shared(Precision::Tf32));
        assert_eq!(shared(Precision::Bf16), Ok(4 * (48 * 260 + 4 * 128)));
        let small = Machine::new(128, 89);
        let none = Err(Apart::Room { blocks: 96, room: 0 });
        assert_eq!(lstm(16, 768, 1)[0].grid(Precision::F32, &small), none);
        assert!(lstm(16, 768, 1)[0].grid(Precision::F16, &small).is_ok());
    }
}
