// SPDX-License-Identifier: MIT OR Apache-2.0
//! Grids, tiles and shared memory from shapes and device facts: pure arithmetic.

use super::abi::*;
use super::abi_recurrent::*;
use super::launch::Grid;
use crate::{DType, Precision};

impl Grid {
    /// Enough blocks of [`KILN_BLOCK_THREADS`] threads for this many threads.
    pub(super) fn over(threads: usize) -> Self {
        Self::of(threads.div_ceil(KILN_BLOCK_THREADS as usize))
    }

    /// Blocks of [`KILN_BLOCK_THREADS`] threads.
    pub(super) fn of(blocks: usize) -> Self {
        let threads = [KILN_BLOCK_THREADS, 1, 1];
        Grid { blocks: [blocks as u32, 1, 1], threads, shared: 0 }
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
    fn stages(&self) -> u32 {
        match self.architecture {
            86 | 89 | 120.. => KILN_GEMM_STAGES_SMALL,
            _ => KILN_GEMM_STAGES,
        }
    }
}

/// Which operand of a product is transposed, as kernels name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `a b^T`, forward.
    Nt,
    /// `a b`, input gradient.
    Nn,
    /// `a^T b`, weight gradient.
    Tn,
}

/// Extents of a product: `d [m, n]`, summed over `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extents {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

/// How a product, or a group of them, is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiling {
    pub(super) precision: Precision,
    pub(super) tile: Tile,
    pub(super) splits: usize,
}

/// The tile of outputs that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// 128 x 128.
    Large,
    /// 64 x 64.
    Small,
    /// 64 x 64 of any matrices, guarded element by element.
    Guarded,
}

/// Least part of `k` that is worth a block of its own: below it, adding up the parts costs as much
/// as it saves. From the byte counts of the products, not yet measured on a GPU.
const LEAST_SPLIT: usize = 128;
/// Most parts: the last block to arrive reads them all. Not yet measured on a GPU.
const MOST_SPLITS: usize = 16;

impl Tile {
    pub(super) fn edge(self) -> usize {
        match self {
            Tile::Large => 128,
            Tile::Small | Tile::Guarded => 64,
        }
    }

    /// Number of tiles of a product.
    pub(super) fn count(self, product: Extents) -> usize {
        product.m.div_ceil(self.edge()) * product.n.div_ceil(self.edge())
    }

    fn name(self) -> &'static str {
        match self {
            Tile::Large => "128x128",
            Tile::Small => "64x64",
            Tile::Guarded => "any",
        }
    }
}

impl Tiling {
    /// The largest tile that all products allow and that occupies the device, and as many splits
    /// along `k` as it has multiprocessors left.
    pub(super) fn choose(
        form: Form,
        products: &[Extents],
        precision: Precision,
        machine: &Machine,
    ) -> Self {
        let vector = vector(precision.storage());
        let fits = |product: &Extents, tile| inside(form, *product, tile, vector);
        let all_inside = |tile: Tile| products.iter().all(|product| fits(product, tile));
        let tiles = |tile: Tile| products.iter().map(|product| tile.count(*product)).sum::<usize>();
        let fills = tiles(Tile::Large) >= machine.multiprocessors;
        let tile = match precision {
            Precision::F32 if fills => Tile::Large,
            Precision::F32 => Tile::Small,
            _ if fills && all_inside(Tile::Large) => Tile::Large,
            _ if all_inside(Tile::Small) => Tile::Small,
            _ => Tile::Guarded,
        };
        let longest = products.iter().map(|product| product.k).max().unwrap_or(0);
        let idle = machine.multiprocessors / tiles(tile).max(1);
        let splits = idle.min(longest / LEAST_SPLIT).clamp(1, MOST_SPLITS);
        Tiling { precision, tile, splits }
    }

    /// The kernel's name.
    pub(super) fn kernel(&self, form: Form, tail: &str) -> String {
        let form = match form {
            Form::Nt => "nt",
            Form::Nn => "nn",
            Form::Tn => "tn",
        };
        format!("gemm_{form}{tail}_{}_{}", self.precision, self.tile.name())
    }

    /// Threads and shared memory for a grid of blocks.
    pub(super) fn grid(&self, blocks: [u32; 2], machine: &Machine) -> Grid {
        let edge = self.tile.edge() as u32;
        let (threads, shared) = match self.precision {
            Precision::F32 => {
                let threads = if self.tile == Tile::Large { 256 } else { KILN_GEMM_THREADS };
                let row = 2 * (edge + KILN_GEMM_F32_PAD) * 4;
                (threads, KILN_GEMM_F32_STAGES * KILN_GEMM_F32_DEPTH * row)
            }
            Precision::Tf32 | Precision::Bf16 | Precision::F16 => {
                (KILN_GEMM_THREADS, machine.stages() * 2 * edge * KILN_GEMM_DEPTH_BYTES)
            }
        };
        let blocks = [blocks[0], blocks[1], self.splits as u32];
        Grid { blocks, threads: [threads, 1, 1], shared }
    }

    /// Elements of partial sums that a product needs.
    pub(super) fn partials(&self, product: Extents) -> usize {
        match self.splits {
            1 => 0,
            splits => self.tile.count(product) * splits * self.tile.edge().pow(2),
        }
    }
}

/// Whether a product's tiles lie inside its matrices and its rows begin at 16 bytes, so that no
/// element has to be guarded. Outputs are written eight at a time.
fn inside(form: Form, Extents { m, n, k }: Extents, tile: Tile, vector: usize) -> bool {
    let aligned = match form {
        Form::Nt | Form::Nn => k % vector == 0 && n % 8 == 0,
        Form::Tn => m % vector == 0 && n % 8 == 0,
    };
    aligned && m >= tile.edge() && n >= tile.edge() && k > 0
}

/// Elements in 16 bytes, the widest access of a thread.
pub(super) fn vector(dtype: DType) -> usize {
    16 / dtype.bytes()
}

/// Grid of a batch of matrices to be transposed: a block per tile.
pub(super) fn transpose_grid([matrices, rows, columns]: [usize; 3]) -> Grid {
    let tiles = |extent: usize| extent.div_ceil(KILN_TRANSPOSE_TILE as usize) as u32;
    Grid {
        blocks: [tiles(columns), tiles(rows), matrices as u32],
        threads: [KILN_TRANSPOSE_TILE, KILN_TRANSPOSE_ROWS, 1],
        shared: 0,
    }
}

/// Grid of the last linear layer with its loss.
pub(super) fn linear_loss_grid(rows: usize, precision: Precision, machine: &Machine) -> Grid {
    let tile = KILN_LINEAR_LOSS_ROWS + KILN_LINEAR_LOSS_CLASSES;
    // The scores lie behind the area in which warps stage their sums; three stages hold both.
    let stages = match precision {
        Precision::F32 => KILN_GEMM_STAGES_SMALL,
        Precision::Tf32 | Precision::Bf16 | Precision::F16 => machine.stages(),
    };
    let shared = stages * tile * KILN_GEMM_DEPTH_BYTES;
    let blocks = rows.div_ceil(KILN_LINEAR_LOSS_ROWS as usize) as u32;
    Grid { blocks: [blocks, 1, 1], threads: [KILN_GEMM_THREADS, 1, 1], shared }
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
    let blocks = [rows as u32, columns as u32, splits as u32];
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
    grid.blocks[2] = splits as u32;
    (grid, splits)
}

/// The constants of an exact division by `divisor`, which is not zero (Granlund & Montgomery,
/// PLDI'94).
pub(super) fn divider(divisor: usize) -> KilnDivider {
    let divisor = (divisor as u32).max(1);
    let shift = 32 - (divisor - 1).leading_zeros();
    let multiplier = (1u128 << (32 + shift)).div_ceil(u128::from(divisor)) - (1u128 << 32);
    KilnDivider { divisor, multiplier: multiplier as u32, shift }
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
    fn small_products_are_split_until_the_device_is_busy() {
        let hidden = Extents { m: 256, n: 512, k: 784 };
        let tiling = Tiling::choose(Form::Nt, &[hidden], Precision::F32, &H100);
        assert_eq!((tiling.tile, tiling.splits), (Tile::Small, 4));
        assert!(tiling.tile.count(hidden) * tiling.splits <= H100.multiprocessors);
        assert_eq!(tiling.partials(hidden), 32 * 4 * 64 * 64);
        let large = Extents { m: 8192, n: 8192, k: 8192 };
        let tiling = Tiling::choose(Form::Nt, &[large], Precision::Tf32, &H100);
        assert_eq!((tiling.tile, tiling.splits), (Tile::Large, 1));
    }

    #[test]
    fn odd_products_are_guarded_on_tensor_cores() {
        for (m, n, k) in [(64, 64, 31), (63, 64, 32), (64, 66, 32), (64, 10, 64), (64, 64, 0)] {
            let product = Extents { m, n, k };
            let tiling = Tiling::choose(Form::Nt, &[product], Precision::Tf32, &H100);
            assert_eq!(tiling.tile, Tile::Guarded, "{product:?}");
        }
    }

    #[test]
    fn rows_of_16_bit_numbers_are_aligned_by_eights() {
        let product = Extents { m: 64, n: 64, k: 36 };
        let tile = |precision| Tiling::choose(Form::Nt, &[product], precision, &H100).tile;
        assert_eq!(tile(Precision::Tf32), Tile::Small);
        assert_eq!(tile(Precision::Bf16), Tile::Guarded);
    }

    #[test]
    fn every_choice_names_a_kernel() {
        let known = |name: &String| {
            use crate::backend::cuda::image::SOURCES;
            SOURCES.iter().any(|source| source.kernels.contains(&name.as_str()))
        };
        for form in [Form::Nt, Form::Nn, Form::Tn] {
            for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
                for edge in [1, 64, 65, 128, 2048] {
                    let product = Extents { m: edge, n: edge, k: edge };
                    let tiling = Tiling::choose(form, &[product], precision, &H100);
                    assert!(known(&tiling.kernel(form, "")), "{form:?} {tiling:?}");
                    let special = precision != Precision::F32 && tiling.tile != Tile::Guarded;
                    if form == Form::Nt && special {
                        assert!(known(&tiling.kernel(form, "_relu_dropout")), "{tiling:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn shared_memory_meets_the_bars() {
        let tiling = Tiling { precision: Precision::Tf32, tile: Tile::Large, splits: 1 };
        assert_eq!(tiling.grid([1, 1], &H100).shared, 64 << 10);
        let ada = Machine::new(128, 89);
        assert_eq!(tiling.grid([1, 1], &ada).shared, 48 << 10);
        assert_eq!(linear_loss_grid(33, Precision::F32, &H100).blocks, [2, 1, 1]);
        assert_eq!(linear_loss_grid(33, Precision::F32, &H100).shared, 18_432);
        assert_eq!(linear_loss_grid(33, Precision::Tf32, &H100).shared, 24_576);
        assert_eq!(linear_loss_grid(33, Precision::Bf16, &H100).shared, 24_576);
    }
}
