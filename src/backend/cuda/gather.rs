// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the operands of a convolution's products lie, and how large the products are: pure arithmetic.

use super::abi::*;
use super::abi_images::*;
use super::geometry::{divider, Extents, Machine};
use super::launch::Grid;
use super::sizes::{signed, word};
use super::thin::{thin_partials, thin_units, Sums};
use crate::graph::MemoryFormat;
use crate::kernel::BiasGradient;
use crate::op::{spatial, Conv, Window, SPATIAL};
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
    /// How the images lie in memory; results lie channels-last.
    format: MemoryFormat,
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
            format: MemoryFormat::ChannelsLast,
        }
    }

    /// The same of images that lie in another format.
    pub(super) fn lying(self, format: MemoryFormat) -> Self {
        Images { format, ..self }
    }

    pub(super) fn groups(&self) -> usize {
        self.conv.groups
    }

    /// Taps of the window.
    pub(super) fn taps(&self) -> usize {
        self.conv.window.taps()
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

    /// [`forward`](Self::forward) with the places of a pool's window one behind the other; the pool yields
    /// `y`.
    pub(super) fn pooled(&self, pool: &Window, y: &Shape) -> (Extents, KilnGather) {
        let (extents, gather) = self.forward();
        let windows = spatial(y);
        let m = self.samples * windows.iter().product::<usize>() * pool.taps();
        (Extents { m, ..extents }, KilnGather { positions: windows.map(divider), ..gather })
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
        let elements: usize = self.elements.iter().product();
        let (position, channel) = match self.format {
            MemoryFormat::ChannelsLast => (self.inputs, 1),
            MemoryFormat::Contiguous => (1, elements),
        };
        KilnGather {
            positions: self.places.map(divider),
            taps: window.kernel.map(divider),
            steps: [divider(1); SPATIAL],
            scales: window.stride.map(signed),
            offsets: window.padding.map(|[before, _]| -signed(before)),
            reaches: window.dilation.map(signed),
            extents: self.elements.map(word),
            sample: word(self.inputs * elements),
            position: word(position),
            channel: word(channel),
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
            offsets: window.padding.map(|[before, _]| signed(before)),
            reaches: window.dilation.map(|dilation| -signed(dilation)),
            extents: self.places.map(word),
            sample: word(self.outputs * self.sample_places()),
            position: word(self.outputs),
            channel: 1,
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
    (tiling.grid([word(rows), word(columns)], machine), splits)
}

/// A layer in a launch of weight gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gradients {
    pub(super) extents: Extents,
    pub(super) groups: usize,
    pub(super) bias: BiasGradient,
    pub(super) sums: Sums,
}

impl Gradients {
    /// Tiles of the weights, or units of columns by taps and channels.
    pub(super) fn tiles(&self) -> usize {
        let Extents { m, n, .. } = self.extents;
        match self.sums {
            Sums::Tiles => m.div_ceil(TILE) * n.div_ceil(TILE) * self.groups,
            Sums::Thin => thin_units(self.extents, m * self.groups),
        }
    }

    /// Runs of columns that a block sums up. Thin sums have the bias along.
    fn runs(&self) -> usize {
        match (self.bias, self.sums) {
            (BiasGradient::Computed, Sums::Tiles) => {
                (self.extents.m * self.groups).div_ceil(KILN_GEMM_BIAS_COLUMNS as usize)
            }
            _ => 0,
        }
    }

    /// What has a ticket: tiles and runs.
    pub(super) fn units(&self) -> usize {
        self.tiles() + self.runs()
    }

    /// Floats of partial sums in so many parts.
    pub(super) fn partials(&self, splits: usize) -> usize {
        let of_tile = match self.sums {
            Sums::Tiles => TILE * TILE,
            Sums::Thin => thin_partials(),
        };
        match splits {
            1 => 0,
            _ => {
                let of_runs = self.runs() * KILN_GEMM_BIAS_COLUMNS as usize;
                splits * (self.tiles() * of_tile + of_runs)
            }
        }
    }
}

/// Into how many parts the sums of each layer of a launch are split: so many that blocks work about as
/// long and the device is busy.
pub(super) fn weight_splits(layers: &[Gradients], machine: &Machine) -> Vec<usize> {
    let work = |layer: &Gradients| layer.tiles() * layer.extents.k;
    let all: usize = layers.iter().map(work).sum();
    let share = all.div_ceil(2 * machine.multiprocessors).max(1);
    let splits = |layer: &Gradients| {
        let k = layer.extents.k;
        (k / share).min(k / LEAST_SPLIT).clamp(1, MOST_SPLITS)
    };
    layers.iter().map(splits).collect()
}

/// The grid of a launch of so many blocks with a tile each.
pub(super) fn grid_of(blocks: usize, precision: Precision, machine: &Machine) -> Grid {
    let tile = super::geometry::Tile::Small;
    super::geometry::Tiling { precision, tile, splits: 1 }.grid([word(blocks), 1], machine)
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
    use crate::op::Rounding;

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
        let mut pixel = 0;
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
        Some(sample * (gather.sample / gather.position) as usize + pixel)
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

    /// As many blocks as two per multiprocessor hold, each with about as many sums.
    #[test]
    fn layers_of_one_launch_are_split_as_their_work_asks_for() {
        let machine = Machine::new(132, 90);
        let (bias, sums) = (BiasGradient::Absent, Sums::Tiles);
        let layer = |m, n, k| Gradients { extents: Extents { m, n, k }, groups: 1, bias, sums };
        let layers = [layer(64, 27, 128 * 1024), layer(128, 576, 128 * 256), layer(8, 8, 4)];
        assert_eq!(weight_splits(&layers, &machine), [47, 11, 1]);
        assert_eq!(layers.map(|layer| layer.tiles()), [1, 18, 1]);
        assert_eq!((layers[2].partials(1), layers[0].partials(47)), (0, 47 * 64 * 64));
    }

    /// Planes of channels are found at the same positions, in another place.
    #[test]
    fn images_may_lie_plane_by_plane() {
        let [same, ..] = windows();
        let last = images(same).forward().1;
        let planes = images(same).lying(MemoryFormat::Contiguous).forward().1;
        let elements = 4 * 7 * 9;
        assert_eq!([last.sample, last.position, last.channel], [4 * elements, 4, 1]);
        assert_eq!([planes.sample, planes.position, planes.channel], [4 * elements, 1, elements]);
        assert_eq!(planes.positions, last.positions);
    }

    #[test]
    fn long_sums_are_split_until_the_device_is_busy() {
        let machine = Machine::new(132, 90);
        let weights = Extents { m: 64, n: 576, k: 128 * 14 * 14 };
        let (grid, splits) = conv_grid(weights, 1, Precision::Tf32, &machine);
        assert_eq!((grid.blocks, grid.threads[0], splits), ([1, 9, 29], 128, 29));
        assert_eq!(partials(&grid), 9 * 29 * 64 * 64);
        let (bias, sums) = (BiasGradient::Computed, Sums::Tiles);
        let layer = Gradients { extents: weights, groups: 1, bias, sums };
        assert_eq!(weight_splits(&[layer], &machine), [29]);
        assert_eq!((layer.units(), layer.partials(29)), (10, 29 * (9 * 64 * 64 + 64)));
        let first = Extents { m: 64, n: 27, k: weights.k };
        let layer = Gradients { extents: first, sums: Sums::Thin, ..layer };
        assert_eq!((layer.units(), layer.partials(29)), (3, 29 * 3 * 10 * 64));
        let forward = Extents { m: 128 * 28 * 28, n: 64, k: 288 };
        let (grid, splits) = conv_grid(forward, 2, Precision::F32, &machine);
        assert_eq!((grid.blocks, splits), ([1568, 2, 1], 1));
    }
}
