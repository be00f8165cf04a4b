// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which tiles the outputs of a matrix product are cut into, and its sums into how many parts: the row of a
//! table of kernels that was fastest where somebody measured, else the one that a model ranks first.

mod cost;
mod measured;

use super::abi::*;
use super::geometry::{vector, Machine};
use super::launch::Grid;
use crate::backend::cuda::sizes::word;
use crate::Precision;
use cost::Row;

/// Which operand of a product is transposed, as kernels name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cuda) enum Form {
    /// `a b^T`, forward.
    Nt,
    /// `a b`, input gradient.
    Nn,
    /// `a^T b`, weight gradient.
    Tn,
}

/// Extents of a product: `d [m, n]`, summed over `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cuda) struct Extents {
    pub(in crate::backend::cuda) m: usize,
    pub(in crate::backend::cuda) n: usize,
    pub(in crate::backend::cuda) k: usize,
}

/// How a product, or a group of them, is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cuda) struct Tiling {
    pub(in crate::backend::cuda) precision: Precision,
    pub(in crate::backend::cuda) tile: Tile,
    pub(in crate::backend::cuda) splits: usize,
}

/// The tile of outputs that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cuda) enum Tile {
    /// 128 x 128.
    Large,
    /// 128 x 64.
    Tall,
    /// 64 x 128.
    Wide,
    /// 64 x 64.
    Small,
    /// 64 x 64 of any matrices, guarded element by element.
    Guarded,
}

impl Tile {
    /// Rows and columns.
    pub(in crate::backend::cuda) fn sides(self) -> [usize; 2] {
        match self {
            Tile::Large => [128, 128],
            Tile::Tall => [128, 64],
            Tile::Wide => [64, 128],
            Tile::Small | Tile::Guarded => [64, 64],
        }
    }

    /// Tiles of a product along its rows and columns.
    pub(in crate::backend::cuda) fn across(self, product: Extents) -> [usize; 2] {
        let [rows, columns] = self.sides();
        [product.m.div_ceil(rows), product.n.div_ceil(columns)]
    }

    /// Number of tiles of a product.
    pub(in crate::backend::cuda) fn count(self, product: Extents) -> usize {
        self.across(product).iter().product()
    }

    fn outputs(self) -> usize {
        self.sides().iter().product()
    }

    fn name(self) -> &'static str {
        match self {
            Tile::Large => "128x128",
            Tile::Tall => "128x64",
            Tile::Wide => "64x128",
            Tile::Small => "64x64",
            Tile::Guarded => "any",
        }
    }

    /// Whether a product's tiles lie inside its matrices and its rows begin at 16 bytes, so that no element
    /// has to be guarded. Outputs are written eight at a time. Kernels in full precision guard anyway.
    fn fits(self, form: Form, Extents { m, n, k }: Extents, precision: Precision) -> bool {
        if precision == Precision::F32 || self == Tile::Guarded {
            return true;
        }
        let ([rows, columns], vector) = (self.sides(), vector(precision.storage()));
        let aligned = match form {
            Form::Nt | Form::Nn => k % vector == 0 && n % 8 == 0,
            Form::Tn => m % vector == 0 && n % 8 == 0,
        };
        aligned && m >= rows && n >= columns && k > 0
    }
}

/// Whether products need guards for their elements and leave those that do not to another launch.
pub(in crate::backend::cuda) fn is_guarded(
    form: Form,
    product: Extents,
    precision: Precision,
) -> bool {
    !Tile::Small.fits(form, product, precision)
}

impl Tiling {
    /// What was measured to be fastest for such products, else what the model ranks first.
    pub(in crate::backend::cuda) fn choose(
        form: Form,
        products: &[Extents],
        precision: Precision,
        machine: &Machine,
    ) -> Self {
        let known = measured::recall(measured::MEASURED, form, products, precision, machine);
        known.unwrap_or_else(|| Self::by_model(form, products, precision, machine))
    }

    /// The first by [`cost`]. A model this simple does not tell apart what differs by a sixteenth, so among
    /// such the one with more blocks is taken, up to three per multiprocessor: they wait for memory in turns.
    fn by_model(form: Form, products: &[Extents], precision: Precision, machine: &Machine) -> Self {
        let fitting = |row: &&Row| products.iter().all(|&p| row.tile.fits(form, p, precision));
        let mut ranked = Vec::new();
        for row in cost::rows(precision).iter().filter(fitting) {
            // The last row takes anything, and is slower than any other that does.
            if row.tile == Tile::Guarded && !ranked.is_empty() {
                continue;
            }
            let tiles = count(row.tile, products);
            for splits in 1..=cost::most_splits(tiles, products, precision, machine) {
                let blocks = splits * tiles;
                let cycles = cost::cycles(row, form, products, splits, precision, machine);
                ranked.push((cycles, blocks.min(3 * machine.multiprocessors), row.tile, splits));
            }
        }
        let least = ranked.iter().map(|&(cycles, ..)| cycles).min().unwrap_or(0);
        let near = ranked.into_iter().filter(|&(cycles, ..)| cycles <= least + least / 16);
        let first = near.min_by_key(|&(cycles, blocks, ..)| (std::cmp::Reverse(blocks), cycles));
        let (tile, splits) =
            first.map_or((Tile::Guarded, 1), |(_, _, tile, splits)| (tile, splits));
        Tiling { precision, tile, splits }
    }

    /// That of a batch of products of the same extents. Their sums are not split, and only the kernels of
    /// the smallest tiles know of pairs.
    pub(in crate::backend::cuda) fn of_batch(
        form: Form,
        product: Extents,
        precision: Precision,
    ) -> Self {
        let tile = match is_guarded(form, product, precision) {
            true => Tile::Guarded,
            false => Tile::Small,
        };
        Tiling { precision, tile, splits: 1 }
    }

    /// The kernel's name.
    pub(in crate::backend::cuda) fn kernel(&self, form: Form, tail: &str) -> String {
        let form = match form {
            Form::Nt => "nt",
            Form::Nn => "nn",
            Form::Tn => "tn",
        };
        format!("gemm_{form}{tail}_{}_{}", self.precision, self.tile.name())
    }

    /// Threads and shared memory for a grid of blocks.
    pub(in crate::backend::cuda) fn grid(&self, blocks: [u32; 2], machine: &Machine) -> Grid {
        let threads = match (self.precision, self.tile) {
            (Precision::F32, Tile::Large) => 2 * KILN_GEMM_THREADS,
            _ => KILN_GEMM_THREADS,
        };
        let blocks = [blocks[0], blocks[1], word(self.splits)];
        Grid { blocks, threads: [threads, 1, 1], shared: self.shared(machine) }
    }

    /// Bytes of shared memory of a block.
    fn shared(&self, machine: &Machine) -> u32 {
        let sides = self.tile.sides().map(word);
        match self.precision {
            Precision::F32 => {
                let row = sides.iter().map(|side| (side + KILN_GEMM_F32_PAD) * 4).sum::<u32>();
                KILN_GEMM_F32_STAGES * KILN_GEMM_F32_DEPTH * row
            }
            Precision::Tf32 | Precision::Bf16 | Precision::F16 => {
                machine.stages() * sides.iter().sum::<u32>() * KILN_GEMM_DEPTH_BYTES
            }
        }
    }

    /// Elements of partial sums that a product needs.
    pub(in crate::backend::cuda) fn partials(&self, product: Extents) -> usize {
        match self.splits {
            1 => 0,
            splits => self.tile.count(product) * splits * self.tile.outputs(),
        }
    }
}

/// Tiles of all products of a launch.
fn count(tile: Tile, products: &[Extents]) -> usize {
    products.iter().map(|&product| tile.count(product)).sum()
}

#[cfg(test)]
mod tests;
