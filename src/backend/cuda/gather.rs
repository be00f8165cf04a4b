// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the operands of a convolution's products lie, and how large the products are: pure arithmetic.

use super::abi::*;
use super::geometry::{divider, Extents, Machine};
use super::launch::Grid;
use crate::op::{spatial, Conv, SPATIAL};
use crate::{Precision, Shape};

/// A convolution in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Images {
    conv: Conv,
    samples: usize,
    elements: [usize; SPATIAL],
    places: [usize; SPATIAL],
    /// Channels of all groups.
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// Edge of the tile of outputs that a block computes.
const TILE: usize = 64;
/// Least part of `k` that is worth a block of its own, and most parts: as for linear layers, but sums
/// over the places of all samples are longer.
const LEAST_SPLIT: usize = 128;
const MOST_SPLITS: usize = 64;

impl Images {
    pub(super) fn new(conv: &Conv, x: &Shape, y: &Shape) -> Self {
        Images {
            conv: *conv,
            samples: x.samples(),
            elements: spatial(x),
            places: spatial(y),
            inputs: x.dims()[1],
            outputs: y.dims()[1],
        }
    }

    pub(super) fn groups(&self) -> usize {
        self.conv.groups
    }

    /// Channels of a group of images and of results.
    pub(super) fn of_group(&self) -> [usize; 2] {
        [self.inputs / self.conv.groups, self.outputs / self.conv.groups]
    }

    /// Places of one sample.
    pub(super) fn sample_places(&self) -> usize {
        self.places.iter().product()
    }

    /// `y = x * weights^T`, for one group.
    pub(super) fn forward(&self) -> (Extents, KilnGather) {
        let [inputs, outputs] = self.of_group();
        let (m, k) = (self.samples * self.sample_places(), self.conv.window.taps() * inputs);
        (Extents { m, n: outputs, k }, self.image_elements())
    }

    /// `dx = dy * weights`, for one group.
    pub(super) fn input_gradient(&self) -> (Extents, KilnGather) {
        let [inputs, outputs] = self.of_group();
        let m = self.samples * self.elements.iter().product::<usize>();
        let k = self.conv.window.taps() * outputs;
        (Extents { m, n: inputs, k }, self.result_places())
    }

    /// `dw = dy^T * x`, for one group.
    pub(super) fn weight_gradient(&self) -> (Extents, KilnGather) {
        let [inputs, outputs] = self.of_group();
        let (n, k) = (self.conv.window.taps() * inputs, self.samples * self.sample_places());
        (Extents { m: outputs, n, k }, self.image_elements())
    }

    /// Elements of images under the taps of places.
    fn image_elements(&self) -> KilnGather {
        let window = &self.conv.window;
        KilnGather {
            positions: self.places.map(divider),
            taps: window.kernel.map(divider),
            steps: [divider(1); SPATIAL],
            scales: window.stride.map(|stride| stride as i32),
            offsets: window.padding.map(|[before, _]| -(before as i32)),
            reaches: window.dilation.map(|dilation| dilation as i32),
            extents: self.elements.map(|extent| extent as u32),
            stride: self.inputs as u32,
            channels: divider(self.of_group()[0]),
        }
    }

    /// Places whose taps are elements of images.
    fn result_places(&self) -> KilnGather {
        let window = &self.conv.window;
        KilnGather {
            positions: self.elements.map(divider),
            taps: window.kernel.map(divider),
            steps: window.stride.map(divider),
            scales: [1; SPATIAL],
            offsets: window.padding.map(|[before, _]| before as i32),
            reaches: window.dilation.map(|dilation| -(dilation as i32)),
            extents: self.places.map(|extent| extent as u32),
            stride: self.outputs as u32,
            channels: divider(self.of_group()[1]),
        }
    }
}

/// The grid of a product of each group, and into how many parts its sums are split.
pub(super) fn conv_grid(
    Extents { m, n, k }: Extents,
    groups: usize,
    precision: Precision,
    machine: &Machine,
) -> (Grid, usize) {
    let (rows, columns) = (m.div_ceil(TILE), n.div_ceil(TILE) * groups);
    let idle = 2 * machine.multiprocessors / (rows * columns).max(1);
    let splits = idle.min(k / LEAST_SPLIT).clamp(1, MOST_SPLITS);
    let tiling = super::geometry::Tiling { precision, tile: super::geometry::Tile::Small, splits };
    (tiling.grid([rows as u32, columns as u32], machine), splits)
}

/// Floats of partial sums for a grid.
pub(super) fn partials(grid: &Grid) -> usize {
    grid.blocks.iter().map(|&blocks| blocks as usize).product::<usize>() * TILE * TILE
}

/// Tiles along the columns of one group.
pub(super) fn column_tiles(n: usize) -> KilnDivider {
    divider(n.div_ceil(TILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Rounding, Window};

    /// As `gather_row`, `gather_tap` and `gather_pixel` of the kernels.
    fn found(gather: &KilnGather, row: usize, tap: usize) -> Option<usize> {
        let split = |mut number: usize, extents: [KilnDivider; 3]| {
            let mut at = [0; 3];
            for axis in (0..3).rev() {
                at[axis] = (number % extents[axis].divisor as usize) as i32;
                number /= extents[axis].divisor as usize;
            }
            (number, at)
        };
        let (sample, position) = split(row, gather.positions);
        let (_, tap) = split(tap, gather.taps);
        let mut pixel = sample;
        for axis in 0..3 {
            let at = position[axis] * gather.scales[axis]
                + gather.offsets[axis]
                + tap[axis] * gather.reaches[axis];
            let step = gather.steps[axis].divisor as i32;
            if at < 0 || at % step != 0 || at / step >= gather.extents[axis] as i32 {
                return None;
            }
            pixel = pixel * gather.extents[axis] as usize + (at / step) as usize;
        }
        Some(pixel)
    }

    fn images(window: Window) -> Images {
        let x = Shape::from([2, 4, 4, 7, 9]);
        let [depth, height, width] = window.places(&x).expect("a window that fits");
        let y = Shape::from([2, 6, depth, height, width]);
        Images::new(&Conv::new(window, 2), &x, &y)
    }

    fn windows() -> [Window; 3] {
        let rounding = Rounding::Floor;
        let (kernel, stride) = ([1, 3, 3], [1; 3]);
        let padding = [[0; 2], [1; 2], [1; 2]];
        let same = Window { kernel, stride, dilation: [1; 3], padding, rounding };
        let (kernel, stride) = ([2, 3, 2], [2, 3, 1]);
        let padding = [[1, 0], [2, 1], [0, 3]];
        let odd = Window { kernel, stride, dilation: [1, 2, 3], padding, rounding };
        let one = Window { kernel: [1; 3], padding: [[0; 2]; 3], stride: [2; 3], ..same };
        [same, odd, one]
    }

    #[test]
    fn taps_of_places_lie_where_the_window_says() {
        for window in windows() {
            let images = images(window);
            let (Extents { m, n, k }, gather) = images.forward();
            assert_eq!((n, k), (3, 2 * window.taps()));
            let [_, height, width] = images.places;
            let [_, tall, wide] = window.kernel;
            for row in 0..m {
                let (sample, place) = (row / images.sample_places(), row % images.sample_places());
                let place = [place / width / height, place / width % height, place % width];
                for tap in 0..window.taps() {
                    let at = [tap / wide / tall, tap / wide % tall, tap % wide];
                    let plane: usize = images.elements.iter().product();
                    let source = window.source(images.elements, place, at);
                    let want = source.map(|source| sample * plane + source);
                    assert_eq!(found(&gather, row, tap), want, "{window:?} {row} {tap}");
                }
            }
        }
    }

    /// An element finds a place under a tap exactly if the place's tap is the element.
    #[test]
    fn gradients_find_the_places_that_used_an_element() {
        for window in windows() {
            let images = images(window);
            let ((forward, from_images), (backward, from_results)) =
                (images.forward(), images.input_gradient());
            assert_eq!((backward.n, backward.k), (2, 3 * window.taps()));
            for tap in 0..window.taps() {
                let uses: Vec<(usize, usize)> = (0..forward.m)
                    .filter_map(|place| Some((found(&from_images, place, tap)?, place)))
                    .collect();
                let mut used: Vec<(usize, usize)> = (0..backward.m)
                    .filter_map(|element| Some((element, found(&from_results, element, tap)?)))
                    .collect();
                used.sort_unstable_by_key(|(_, place)| *place);
                assert_eq!(used, uses, "{window:?} {tap}");
            }
        }
    }

    #[test]
    fn long_sums_are_split_until_the_device_is_busy() {
        let machine = Machine { multiprocessors: 132, architecture: 90 };
        let weights = Extents { m: 64, n: 576, k: 128 * 14 * 14 };
        let (grid, splits) = conv_grid(weights, 1, Precision::Tf32, &machine);
        assert_eq!((grid.blocks, grid.threads[0], splits), ([1, 9, 29], 128, 29));
        assert_eq!(partials(&grid), 9 * 29 * 64 * 64);
        let forward = Extents { m: 128 * 28 * 28, n: 64, k: 288 };
        let (grid, splits) = conv_grid(forward, 2, Precision::F32, &machine);
        assert_eq!((grid.blocks, splits), ([1568, 2, 1], 1));
    }
}
