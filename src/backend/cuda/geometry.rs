// SPDX-License-Identifier: MIT OR Apache-2.0
//! Grids, tiles and shared memory from shapes and device facts: pure arithmetic.

use super::abi::*;
use super::abi_recurrent::*;
use super::launch::Grid;
use super::sizes::word;
pub(super) use super::tiling::{is_guarded, Extents, Form, Tile, Tiling};
use crate::backend::Grouping;
use crate::{DType, Precision};

impl Grid {
    /// Enough blocks of [`KILN_BLOCK_THREADS`] threads for this many threads.
    pub(super) fn over(threads: usize) -> Self {
        Self::of(threads.div_ceil(KILN_BLOCK_THREADS as usize))
    }

    /// Blocks of [`KILN_BLOCK_THREADS`] threads.
    pub(super) fn of(blocks: usize) -> Self {
        let threads = [KILN_BLOCK_THREADS, 1, 1];
        Grid { blocks: [word(blocks), 1, 1], threads, shared: 0 }
    }

    /// A warp per row.
    pub(super) fn over_rows(rows: usize) -> Self {
        Self::of(rows.div_ceil(KILN_ROWS_PER_BLOCK as usize))
    }
}

/// What launches depend on about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Number of multiprocessors.
    pub(super) multiprocessors: usize,
    /// Architecture that the kernels were compiled for: 90 for sm_90.
    pub(super) architecture: u32,
    /// Shared memory of a multiprocessor in bytes.
    pub(super) shared: u32,
    /// How recurrent layers make their steps.
    pub(super) steps: Steps,
}

/// How recurrent layers make their steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steps {
    /// All in one launch, where it fits.
    Together,
    /// One launch each.
    Apart,
}

impl Machine {
    /// A device as its architecture is built at most, with every kernel that there is.
    pub(super) const fn new(multiprocessors: usize, architecture: u32) -> Self {
        // Source: CUDA C++ programming guide, "Technical Specifications per Compute Capability".
        let shared = match architecture {
            80 | 87 => 164 << 10,
            90..120 => 228 << 10,
            _ => 100 << 10,
        };
        Machine { multiprocessors, architecture, shared, steps: Steps::Together }
    }

    /// Stages of the tensor-core products. As in `kernels/lib/gemm/tile.cuh`: a stage less where a
    /// multiprocessor has 100 KB of shared memory.
    pub(super) fn stages(&self) -> u32 {
        match self.architecture {
            86 | 89 | 120.. => KILN_GEMM_STAGES_SMALL,
            _ => KILN_GEMM_STAGES,
        }
    }
}

/// Least part of `k` that is worth a block of its own: below it, adding up the parts costs as much
/// as it saves. From the byte counts of the products, not yet measured on a GPU.
const LEAST_SPLIT: usize = 128;
/// Most parts: the last block to arrive reads them all. Not yet measured on a GPU.
const MOST_SPLITS: usize = 16;

/// Which weight gradients share a launch. Two blocks of the smallest tile for each multiprocessor keep it busy.
pub(super) fn grouping(precision: Precision, machine: &Machine) -> Grouping {
    let tile: usize = Tile::Small.sides().iter().product();
    Grouping {
        fills: 2 * machine.multiprocessors * tile,
        most: KILN_GEMM_GROUP as usize,
        whole: (precision != Precision::F32).then_some([Tile::Small.sides()[0], 8]),
    }
}

/// Elements in 16 bytes, the widest access of a thread.
pub(super) fn vector(dtype: DType) -> usize {
    16 / dtype.bytes()
}

/// Grid of a batch of matrices to be transposed: a block per tile.
pub(super) fn transpose_grid([matrices, rows, columns]: [usize; 3]) -> Grid {
    let tiles = |extent: usize| word(extent.div_ceil(KILN_TRANSPOSE_TILE as usize));
    Grid {
        blocks: [tiles(columns), tiles(rows), word(matrices)],
        threads: [KILN_TRANSPOSE_TILE, KILN_TRANSPOSE_ROWS, 1],
        shared: 0,
    }
}

/// Grid of the last linear layer with its loss, and the rows of a block: so few that half of the device is
/// busy, since warps take their rows one after the other.
pub(super) fn linear_loss_grid(
    rows: usize,
    precision: Precision,
    machine: &Machine,
) -> (Grid, usize) {
    let tile = KILN_LINEAR_LOSS_ROWS + KILN_LINEAR_LOSS_CLASSES;
    // The scores lie behind the area in which warps stage their sums; three stages hold both.
    let stages = match precision {
        Precision::F32 => KILN_GEMM_STAGES_SMALL,
        Precision::Tf32 | Precision::Bf16 | Precision::F16 => machine.stages(),
    };
    let shared = stages * tile * KILN_GEMM_DEPTH_BYTES;
    let most = KILN_LINEAR_LOSS_ROWS as usize;
    let share = rows.div_ceil((machine.multiprocessors / 2).max(1));
    let of_block = share.next_multiple_of(LOSS_WARPS).clamp(LOSS_WARPS, most);
    let blocks = [word(rows.div_ceil(of_block)), 1, 1];
    (Grid { blocks, threads: [KILN_GEMM_THREADS, 1, 1], shared }, of_block)
}

/// Warps of a block of the last linear layer with its loss, each of which takes as many rows.
const LOSS_WARPS: usize = (KILN_GEMM_THREADS / 32) as usize;

/// Parts of the rows of a bias gradient: each block has a few rounds of loads to wait for.
pub(super) fn bias_parts(rows: usize) -> usize {
    const ROWS: usize = 512;
    const MOST: usize = 32;
    (rows / ROWS).clamp(1, MOST)
}

/// Grid of a step of a recurrent layer, of so many blocks of samples and columns and of sums of `k` terms.
pub(super) fn recurrent_grid(
    [rows, columns]: [usize; 2],
    k: usize,
    precision: Precision,
    machine: &Machine,
) -> Grid {
    let idle = machine.multiprocessors / (rows * columns).max(1);
    let splits = idle.min(k / LEAST_SPLIT).clamp(1, MOST_SPLITS);
    let tile = KILN_RECURRENT_ROWS + KILN_RECURRENT_COLUMNS;
    let shared = match precision {
        Precision::F32 => {
            KILN_GEMM_F32_STAGES * KILN_GEMM_F32_DEPTH * (tile + 2 * KILN_GEMM_F32_PAD) * 4
        }
        Precision::Tf32 | Precision::Bf16 | Precision::F16 => {
            machine.stages() * tile * KILN_GEMM_DEPTH_BYTES
        }
    };
    let blocks = [word(rows), word(columns), word(splits)];
    Grid { blocks, threads: [KILN_GEMM_THREADS, 1, 1], shared }
}

/// Blocks of a sum of squares: two per multiprocessor, each with work for several rounds.
pub(super) fn norm_blocks(count: usize, machine: &Machine) -> usize {
    let per_block = (KILN_BLOCK_THREADS * KILN_OPTIMIZER_VECTOR) as usize;
    count.div_ceil(4 * per_block).clamp(1, 2 * machine.multiprocessors)
}

/// Columns of a sum over rows: blocks along the columns, and parts of the rows.
pub(super) fn column_sum_grid(
    [rows, columns]: [usize; 2],
    dtype: DType,
    machine: &Machine,
) -> (Grid, usize) {
    let blocks = columns.div_ceil(32 * vector(dtype));
    let idle = machine.multiprocessors / blocks.max(1);
    let splits = idle.min(rows / LEAST_SPLIT).clamp(1, MOST_SPLITS);
    let mut grid = Grid::of(blocks);
    grid.blocks[2] = word(splits);
    (grid, splits)
}

/// The constants of an exact division by `divisor`, which is not zero (Granlund & Montgomery,
/// PLDI'94).
pub(super) fn divider(divisor: usize) -> KilnDivider {
    let divisor = word(divisor).max(1);
    let shift = 32 - (divisor - 1).leading_zeros();
    let multiplier = (1u128 << (32 + shift)).div_ceil(u128::from(divisor)) - (1u128 << 32);
    // Below 2^32, since the divisor is above 2^(shift - 1).
    KilnDivider { divisor, multiplier: u32::try_from(multiplier).unwrap_or(u32::MAX), shift }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: Machine = Machine::new(132, 90);

    #[test]
    fn division_is_exact() {
        for divisor in [1usize, 2, 3, 7, 10, 31, 64, 98, 1000, 65_537, u32::MAX as usize] {
            let KilnDivider { multiplier, shift, .. } = divider(divisor);
            for n in [0u32, 1, 2, 9, 97, 98, 1000, 123_456_789, u32::MAX - 1, u32::MAX] {
                let high = (u64::from(n) * u64::from(multiplier)) >> 32;
                let quotient = (high + u64::from(n)) >> shift;
                assert_eq!(quotient, u64::from(n) / divisor as u64, "{n} / {divisor}");
            }
        }
    }

    #[test]
    fn the_loss_of_a_small_batch_occupies_half_of_the_device() {
        let grid = |rows, precision| linear_loss_grid(rows, precision, &H100);
        assert_eq!(grid(33, Precision::F32).0.blocks, [9, 1, 1]);
        assert_eq!(grid(33, Precision::F32).0.shared, 18_432);
        assert_eq!(grid(33, Precision::Tf32).0.shared, 24_576);
        assert_eq!(grid(33, Precision::Bf16).0.shared, 24_576);
        for machine in [H100, Machine::new(108, 80)] {
            let (grid, rows) = linear_loss_grid(256, Precision::Bf16, &machine);
            assert!(4 * grid.blocks[0] as usize >= machine.multiprocessors, "{grid:?}");
            assert!(rows % 4 == 0 && grid.blocks[0] as usize * rows >= 256);
        }
        assert_eq!(grid(65_536, Precision::Bf16).1, 32);
        assert_eq!(grid(0, Precision::Bf16).0.blocks, [0, 1, 1]);
    }

    #[test]
    fn biases_of_large_batches_are_summed_in_parts() {
        assert_eq!([0, 256, 1023, 1024, 4096, 65_536].map(bias_parts), [1, 1, 1, 2, 8, 32]);
    }
}
