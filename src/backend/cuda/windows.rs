// SPDX-License-Identifier: MIT OR Apache-2.0
//! Geometry of kernels on images: windows, and matrices whose columns or rows are normalised. Pure
//! arithmetic.

use super::abi::*;
use super::abi_images::*;
use super::geometry::{divider, vector, Machine};
use super::launch::Grid;
use super::sizes::word;
use crate::op::{spatial, Over, Window, SPATIAL};
use crate::{DType, Shape};

/// A window over an image with results of a shape, both channels-last.
pub(super) fn window(window: &Window, image: &Shape, result: &Shape) -> [KilnWindowAxis; SPATIAL] {
    let (elements, places) = (spatial(image), spatial(result));
    std::array::from_fn(|axis| KilnWindowAxis {
        image: divider(elements[axis]),
        places: divider(places[axis]),
        stride: divider(window.stride[axis]),
        kernel: word(window.kernel[axis]),
        dilation: word(window.dilation[axis]),
        before: word(window.padding[axis][0]),
        after: word(window.padding[axis][1]),
    })
}

/// A matrix whose columns or rows are groups, and how kernels walk it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) over: Over,
    pub(super) groups: KilnGroups,
    vector: usize,
}

/// Longest row that a warp takes alone.
const LONGEST_OF_A_WARP: usize = 1024;
/// Blocks per multiprocessor where each holds sums, and where it holds none.
const SUMMING_BLOCKS: usize = 4;
const PLAIN_BLOCKS: usize = 8;
/// Least rows of a thread: below it, merging parts costs as much as they save.
const LEAST_ROWS: usize = 4;

impl Matrix {
    /// The elements of a tensor as a matrix of pixels by channels, or of rows as they are.
    pub(super) fn new(over: Over, x: &Shape, dtype: DType) -> Self {
        let columns = match over {
            Over::Channels => x.dims().get(1).copied().unwrap_or(1),
            Over::Rows => x.last(),
        };
        let rows = x.elements().checked_div(columns).unwrap_or(0);
        let chunks = columns.div_ceil(vector(dtype));
        let width = chunks.next_power_of_two().min(KILN_BLOCK_THREADS as usize);
        let groups = KilnGroups {
            rows: word(rows),
            columns: word(columns),
            width: word(width),
            splits: 1,
            chunks: divider(chunks),
            ..Default::default()
        };
        Matrix { over, groups, vector: vector(dtype) }
    }

    /// The variant of a kernel that sums over groups, and its grid.
    pub(super) fn summed(&mut self, machine: &Machine) -> (&'static str, Grid) {
        match self.over {
            Over::Channels => ("columns", self.columns(SUMMING_BLOCKS * machine.multiprocessors)),
            Over::Rows if self.groups.columns as usize <= LONGEST_OF_A_WARP => {
                ("rows", Grid::over_rows(self.groups.rows as usize))
            }
            Over::Rows => ("long_rows", Grid::of(self.groups.rows as usize)),
        }
    }

    /// The variant of a kernel that takes elements one by one, and its grid.
    pub(super) fn mapped(&mut self, machine: &Machine) -> (&'static str, Grid) {
        match self.over {
            Over::Channels => ("columns", self.columns(PLAIN_BLOCKS * machine.multiprocessors)),
            Over::Rows => {
                let chunks = self.groups.chunks.divisor as usize;
                ("rows", Grid::over(self.groups.rows as usize * chunks))
            }
        }
    }

    /// Floats that the parts of columns pass on; 0 for one part.
    pub(super) fn partials(&self) -> usize {
        match self.groups.splits {
            1 => 0,
            splits => self.blocks() * (splits * self.groups.width) as usize * (2 * self.vector + 1),
        }
    }

    /// Blocks along the columns.
    pub(super) fn blocks(&self) -> usize {
        self.groups.chunks.divisor.div_ceil(self.groups.width) as usize
    }

    /// As many parts of the rows as occupy the device with about so many blocks.
    fn columns(&mut self, blocks: usize) -> Grid {
        let teams = KILN_BLOCK_THREADS / self.groups.width;
        let per_thread = self.groups.rows.div_ceil(teams) as usize;
        let splits = (blocks / self.blocks()).min(per_thread / LEAST_ROWS).max(1);
        self.groups.splits = word(splits);
        let mut grid = Grid::of(self.blocks());
        grid.blocks[1] = word(splits);
        grid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Rounding;

    const H100: Machine = Machine::new(132, 90);

    #[test]
    fn windows_of_flat_images_have_leading_extents_of_one() {
        let flat = Window {
            kernel: [1, 3, 2],
            stride: [1, 2, 3],
            dilation: [1, 1, 2],
            padding: [[0, 0], [1, 1], [2, 0]],
            rounding: Rounding::Floor,
        };
        let shape = |dims: [usize; 4]| Shape::from(dims);
        let told = window(&flat, &shape([5, 7, 9, 11]), &shape([5, 4, 5, 4]));
        let extents = told.map(|axis| (axis.image.divisor, axis.places.divisor));
        assert_eq!(extents, [(1, 1), (9, 5), (11, 4)]);
        let axes = told.map(|axis| [axis.kernel, axis.stride.divisor, axis.dilation]);
        assert_eq!(axes, [[1, 1, 1], [3, 2, 1], [2, 3, 2]]);
        assert_eq!(told.map(|axis| [axis.before, axis.after]), [[0, 0], [1, 1], [2, 0]]);
    }

    #[test]
    fn few_channels_are_split_until_the_device_is_busy() {
        let image = Shape::from([128, 32, 28, 28]);
        let mut matrix = Matrix::new(Over::Channels, &image, DType::F32);
        let (variant, grid) = matrix.summed(&H100);
        assert_eq!((variant, matrix.groups.width, grid.blocks), ("columns", 8, [1, 528, 1]));
        assert_eq!(matrix.partials(), 528 * 8 * 9);
        let few = Shape::from([2, 1000, 3, 1]);
        let mut matrix = Matrix::new(Over::Channels, &few, DType::Bf16);
        assert_eq!(matrix.summed(&H100).1.blocks, [1, 1, 1]);
        assert_eq!((matrix.groups.width, matrix.partials()), (128, 0));
    }

    #[test]
    fn long_rows_have_a_block_each() {
        let variant = |columns| {
            let mut matrix = Matrix::new(Over::Rows, &Shape::from([9, columns]), DType::F32);
            let (variant, grid) = matrix.summed(&H100);
            (variant, grid.blocks[0])
        };
        assert_eq!(variant(1024), ("rows", 2));
        assert_eq!(variant(1025), ("long_rows", 9));
    }
}
