// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions whose results see few channels each, depthwise ones and those of a first layer: which they
//! are, and how large their launches are. Pure arithmetic.

use super::abi::KILN_GEMM_THREADS;
use super::abi_images::*;
use super::gather::Images;
use super::geometry::{Extents, Machine};
use super::launch::Grid;
use super::sizes::word;
use crate::kernel::{sees_few, FEW_CHANNELS, FEW_PRODUCTS};

const _: () = assert!(FEW_CHANNELS == KILN_THIN_CHANNELS as usize);
const _: () = assert!(FEW_PRODUCTS == KILN_THIN_PRODUCTS as usize);

/// How the products of a convolution are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    /// A tile of results for a block, by products of matrices.
    Tiles,
    /// A few results for a thread, from the few channels that each sees.
    Thin,
}

/// Columns of a thread.
const OF_THREAD: usize = 8;
/// Blocks per multiprocessor: each has its weights to fetch before it goes through places.
const BLOCKS: usize = 8;

impl Sums {
    /// Of results, and of gradients of weights: where a group has few inputs.
    pub(super) fn of(images: &Images) -> Self {
        let [inputs, _] = images.of_group();
        Sums::of_few(inputs, images.taps())
    }

    /// Of gradients of inputs: where each has a group for itself, and few results there.
    pub(super) fn of_input_gradient(images: &Images) -> Self {
        match (images.of_group(), images.groups()) {
            ([1, outputs], 2..) => Sums::of_few(outputs, images.taps()),
            _ => Sums::Tiles,
        }
    }

    fn of_few(channels: usize, taps: usize) -> Self {
        match sees_few(channels, taps) {
            true => Sums::Thin,
            false => Sums::Tiles,
        }
    }
}

/// Columns of a block.
fn columns_of_block(columns: usize) -> usize {
    let width = columns.div_ceil(OF_THREAD).next_power_of_two();
    (OF_THREAD * width).min(KILN_THIN_COLUMNS as usize)
}

/// The grid of thin sums of `k` products in each of so many columns, at so many strips of places.
pub(super) fn thin_grid(strips: usize, columns: usize, k: usize, machine: &Machine) -> Grid {
    let of_block = columns_of_block(columns);
    let across = columns.div_ceil(of_block);
    let lanes = KILN_GEMM_THREADS as usize / (of_block / OF_THREAD);
    let most = (BLOCKS * machine.multiprocessors).div_ceil(across.max(1));
    Grid {
        blocks: [word(strips.div_ceil(lanes).min(most)), word(across), 1],
        threads: [KILN_GEMM_THREADS, 1, 1],
        shared: word(4 * k * (of_block + KILN_THIN_PAD as usize)),
    }
}

/// Units of a gradient of weights of thin sums, `n` for each of so many columns of all groups.
pub(super) fn thin_units(Extents { n, .. }: Extents, columns: usize) -> usize {
    columns.div_ceil(columns_of_block(columns)) * n.div_ceil(KILN_THIN_HELD as usize)
}

/// Floats of partial sums of a unit.
pub(super) fn thin_partials() -> usize {
    ((KILN_THIN_HELD + 1) * KILN_THIN_COLUMNS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Conv, Rounding, Window};
    use crate::Shape;

    fn images(channels: [usize; 2], groups: usize, kernel: usize) -> Images {
        let window = Window {
            kernel: [1, kernel, kernel],
            stride: [1; 3],
            dilation: [1; 3],
            padding: [[0; 2]; 3],
            rounding: Rounding::Floor,
        };
        let extent = 33 - kernel;
        let (x, y) = ([2, channels[0], 32, 32], [2, channels[1], extent, extent]);
        Images::new(&Conv::new(window, groups), &Shape::from(x), &Shape::from(y))
    }

    #[test]
    fn few_channels_of_a_group_are_summed_up_in_registers() {
        let ways = |images: &Images| [Sums::of(images), Sums::of_input_gradient(images)];
        let (thin, tiles) = (Sums::Thin, Sums::Tiles);
        assert_eq!(ways(&images([64, 64], 64, 3)), [thin, thin]);
        assert_eq!(ways(&images([64, 128], 64, 3)), [thin, thin]);
        assert_eq!(ways(&images([64, 512], 64, 3)), [thin, tiles]);
        assert_eq!(ways(&images([3, 64], 1, 7)), [thin, tiles]);
        assert_eq!(ways(&images([1, 32], 1, 3)), [thin, tiles]);
        assert_eq!(ways(&images([8, 8], 2, 3)), [thin, tiles]);
        // The weights of a block would not fit into shared memory.
        assert_eq!(ways(&images([3, 64], 1, 11)), [tiles, tiles]);
        assert_eq!(ways(&images([64, 64], 1, 3)), [tiles, tiles]);
    }

    #[test]
    fn blocks_of_thin_sums_fit_into_48_kilobytes() {
        let machine = Machine::new(132, 90);
        let grid = thin_grid(128 * 32 * 8, 64, KILN_THIN_PRODUCTS as usize, &machine);
        assert_eq!((grid.blocks, grid.shared), ([1056, 1, 1], 48_960));
        assert!(grid.shared <= 48 << 10);
        let grid = thin_grid(7, 130, 9, &machine);
        assert_eq!((grid.blocks, grid.shared), ([1, 3, 1], 4 * 9 * 68));
        let grid = thin_grid(100, 3, 9, &machine);
        assert_eq!((grid.blocks, grid.shared), ([1, 1, 1], 4 * 9 * 12));
        let units = |columns, n| thin_units(Extents { m: 1, n, k: 1 }, columns);
        assert_eq!([units(64, 27), units(72, 9), units(5, 10)], [3, 2, 2]);
    }
}
