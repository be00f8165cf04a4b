// SPDX-License-Identifier: MIT OR Apache-2.0
//! max_pool, avg_pool and their gradients, over images with leading extents, strides that leave rows
//! over, padding, dilation and places that hang over.

use crate::abi_images::*;
use crate::driver::{divider, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

/// A window over images: depth, height, width.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) samples: usize,
    pub(crate) channels: usize,
    pub(crate) image: [usize; 3],
    pub(crate) places: [usize; 3],
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) dilation: [usize; 3],
    pub(crate) before: [usize; 3],
    pub(crate) after: [usize; 3],
}

/// What a sum is divided by: elements under the window, with padding or without, or 7.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Divisor {
    Padded,
    Valid,
    Fixed,
}

/// Halves of a flat image, a 3 x 3 window that hangs over, and a volume with everything.
const CASES: [Case; 3] = [
    Case {
        samples: 2,
        channels: 16,
        image: [1, 6, 4],
        places: [1, 3, 2],
        kernel: [1, 2, 2],
        stride: [1, 2, 2],
        dilation: [1; 3],
        before: [0; 3],
        after: [0; 3],
    },
    Case {
        samples: 3,
        channels: 5,
        image: [1, 7, 6],
        places: [1, 4, 4],
        kernel: [1, 3, 3],
        stride: [1, 2, 2],
        dilation: [1; 3],
        before: [0, 1, 1],
        after: [0, 1, 1],
    },
    Case {
        samples: 2,
        channels: 8,
        image: [3, 5, 7],
        places: [2, 3, 3],
        kernel: [2, 2, 3],
        stride: [2, 1, 1],
        dilation: [1, 2, 2],
        before: [1, 0, 0],
        after: [0; 3],
    },
];

pub(crate) fn run(gpu: &Gpu) {
    for storage in Storage::ALL {
        for case in gpu.cases(&CASES, &CASES[1..]) {
            largest(gpu, storage, case);
            largest_gradient(gpu, storage, case);
            for divisor in [Divisor::Padded, Divisor::Valid, Divisor::Fixed] {
                mean(gpu, storage, case, divisor);
                mean_gradient(gpu, storage, case, divisor);
            }
        }
    }
}

impl Case {
    fn window(&self) -> [KilnWindowAxis; 3] {
        [0, 1, 2].map(|axis| KilnWindowAxis {
            image: divider(self.image[axis]),
            places: divider(self.places[axis]),
            stride: divider(self.stride[axis]),
            kernel: self.kernel[axis] as u32,
            dilation: self.dilation[axis] as u32,
            before: self.before[axis] as u32,
            after: self.after[axis] as u32,
        })
    }

    pub(crate) fn pixels(&self) -> usize {
        self.image.iter().product()
    }

    pub(crate) fn spots(&self) -> usize {
        self.places.iter().product()
    }

    /// Every place of the window, in order.
    pub(crate) fn each_place(&self) -> Vec<[usize; 3]> {
        positions(self.places)
    }

    /// The taps at a place that lie in the image: their numbers, and those of the elements.
    pub(crate) fn sources(&self, place: [usize; 3]) -> Vec<(usize, usize)> {
        let under = |(tap, at): (usize, [usize; 3])| {
            let mut element = 0;
            for axis in 0..3 {
                let padded = place[axis] * self.stride[axis] + at[axis] * self.dilation[axis];
                let along = padded.checked_sub(self.before[axis])?;
                if along >= self.image[axis] {
                    return None;
                }
                element = element * self.image[axis] + along;
            }
            Some((tap, element))
        };
        positions(self.kernel).into_iter().enumerate().filter_map(under).collect()
    }

    fn params(&self, storage: Storage) -> KilnPoolParams {
        KilnPoolParams {
            samples: self.samples as u32,
            channels: self.channels as u32,
            chunks: divider(self.channels.div_ceil(storage.vector())),
            window: self.window(),
            ..KilnPoolParams::default()
        }
    }

    fn grid(&self, storage: Storage, positions: usize) -> Grid {
        let chunks = self.channels.div_ceil(storage.vector());
        Grid::of((self.samples * positions * chunks).div_ceil(256))
    }

    /// What lies at places, channels innermost, plane by plane.
    fn by_planes<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let (spots, channels) = (self.spots(), self.channels);
        let from = |at: usize| {
            let (sample, channel) = (at / spots / channels, at / spots % channels);
            values[(sample * spots + at % spots) * channels + channel]
        };
        (0..values.len()).map(from).collect()
    }

    /// What the sum at a place is divided by.
    fn divisor(&self, place: [usize; 3], divisor: Divisor) -> f64 {
        if divisor == Divisor::Fixed {
            return 7.0;
        }
        let padded = usize::from(divisor == Divisor::Padded);
        let along = |axis: usize| {
            let first = (place[axis] * self.stride[axis]) as isize - self.before[axis] as isize;
            let end = self.image[axis] as isize + (padded * self.after[axis]) as isize;
            let begin = first.max(-((padded * self.before[axis]) as isize));
            ((first + self.kernel[axis] as isize).min(end) - begin).max(0) as f64
        };
        along(0) * along(1) * along(2)
    }
}

fn positions([depth, height, width]: [usize; 3]) -> Vec<[usize; 3]> {
    let planes = (0..depth).flat_map(|d| (0..height).map(move |h| (d, h)));
    planes.flat_map(|(d, h)| (0..width).map(move |w| [d, h, w])).collect()
}

/// The largest elements of an image with ties, and where they were.
fn maxima(case: &Case, x: &[f64]) -> (Vec<f64>, Vec<u32>) {
    let (mut values, mut indices) = (Vec::new(), Vec::new());
    for sample in 0..case.samples {
        for place in case.each_place() {
            for channel in 0..case.channels {
                let (mut largest, mut from) = (f64::NEG_INFINITY, None);
                for (_, element) in case.sources(place) {
                    let value = x[(sample * case.pixels() + element) * case.channels + channel];
                    if from.is_none() || value > largest || value.is_nan() {
                        (largest, from) = (value, Some(element));
                    }
                }
                values.push(largest);
                indices.push(from.unwrap_or(0) as u32);
            }
        }
    }
    (values, indices)
}

/// Numbers with many ties, and NaNs.
fn tied(count: usize) -> Vec<f32> {
    let mut numbers = Numbers::new(count);
    let number = |_| match numbers.below(20) {
        0 => f32::NAN,
        other => (other % 7) as f32 - 3.0,
    };
    (0..count).map(number).collect()
}

fn largest(gpu: &Gpu, storage: Storage, case: &Case) {
    let x = Array::new(storage, &tied(case.samples * case.pixels() * case.channels));
    let count = case.samples * case.spots() * case.channels;
    let (y, index) = (Array::output(storage, count), Memory::of_words(&vec![u32::MAX; count]));
    let params = KilnPoolParams {
        y: y.address(),
        x: x.address(),
        index: index.address(),
        ..case.params(storage)
    };
    let kernel = format!("max_pool_{}", storage.name());
    gpu.launch(&kernel, case.grid(storage, case.spots()), &params);
    let (values, indices) = maxima(case, &x.values);
    let want: Vec<Want> = values.into_iter().map(Want::plain).collect();
    let told = format!("{case:?}");
    gpu.ledger().compare(&kernel, &told, &y.read(), &want, Exactness::new(storage, 0.0));
    let bytes: Vec<u8> = indices.iter().flat_map(|index| index.to_ne_bytes()).collect();
    gpu.ledger().compare_bytes(&kernel, &told, &index.read(), &bytes);
    // Where nobody asks for indices there are none; results may lie plane by plane.
    for planar in [0, 1] {
        let y = Array::output(storage, count);
        gpu.launch(
            &kernel,
            case.grid(storage, case.spots()),
            &KilnPoolParams { y: y.address(), x: x.address(), planar, ..case.params(storage) },
        );
        let want = if planar == 1 { case.by_planes(&want) } else { want.clone() };
        gpu.ledger().compare(&kernel, &told, &y.read(), &want, Exactness::new(storage, 0.0));
    }
}

fn largest_gradient(gpu: &Gpu, storage: Storage, case: &Case) {
    let pixels = case.samples * case.pixels() * case.channels;
    let (_, indices) = maxima(case, &tied(pixels).into_iter().map(f64::from).collect::<Vec<_>>());
    let count = case.samples * case.spots() * case.channels;
    let dy = Array::new(storage, &Numbers::new(count).nonzero(count));
    let index = Memory::of_words(&indices);
    let kernel = format!("max_pool_gradient_{}", storage.name());
    let planes = Array::new(storage, &case.by_planes(&narrow(&dy)));
    let mut sums = vec![Want { value: 0.0, magnitude: 0.0 }; pixels];
    for (at, (&index, &dy)) in indices.iter().zip(&dy.values).enumerate() {
        let (sample, channel) = (at / case.channels / case.spots(), at % case.channels);
        add(&mut sums[(sample * case.pixels() + index as usize) * case.channels + channel], dy);
    }
    let exactness = Exactness::new(storage, 8.0);
    for (planar, dy) in [&dy, &planes].into_iter().enumerate() {
        let dx = Array::output(storage, pixels);
        let params = KilnPoolParams {
            y: dy.address(),
            x: dx.address(),
            index: index.address(),
            planar: planar as u32,
            ..case.params(storage)
        };
        gpu.launch(&kernel, case.grid(storage, case.pixels()), &params);
        gpu.ledger().compare(&kernel, &format!("{case:?}"), &dx.read(), &sums, exactness);
    }
}

/// The numbers of an array as it was made with them.
fn narrow(array: &Array) -> Vec<f32> {
    array.values.iter().map(|&value| value as f32).collect()
}

fn mean(gpu: &Gpu, storage: Storage, case: &Case, divisor: Divisor) {
    let pixels = case.samples * case.pixels() * case.channels;
    let x = Array::new(storage, &Numbers::new(pixels).nonzero(pixels));
    let kernel = format!("avg_pool_{}", storage.name());
    let mut want = Vec::new();
    for sample in 0..case.samples {
        for place in case.each_place() {
            for channel in 0..case.channels {
                let mut sum = Want { value: 0.0, magnitude: 0.0 };
                for (_, element) in case.sources(place) {
                    let at = (sample * case.pixels() + element) * case.channels + channel;
                    add(&mut sum, x.values[at] / case.divisor(place, divisor));
                }
                want.push(sum);
            }
        }
    }
    let (told, exactness) = (format!("{case:?} by {divisor:?}"), Exactness::new(storage, 8.0));
    for planar in [0, 1] {
        let y = Array::output(storage, want.len());
        let params = KilnPoolParams {
            y: y.address(),
            x: x.address(),
            fixed: if divisor == Divisor::Fixed { 7 } else { 0 },
            padded: u32::from(divisor == Divisor::Padded),
            planar,
            ..case.params(storage)
        };
        gpu.launch(&kernel, case.grid(storage, case.spots()), &params);
        let want = if planar == 1 { case.by_planes(&want) } else { want.clone() };
        gpu.ledger().compare(&kernel, &told, &y.read(), &want, exactness);
    }
}

fn mean_gradient(gpu: &Gpu, storage: Storage, case: &Case, divisor: Divisor) {
    let pixels = case.samples * case.pixels() * case.channels;
    let count = case.samples * case.spots() * case.channels;
    let dy = Array::new(storage, &Numbers::new(count).nonzero(count));
    let planes = Array::new(storage, &case.by_planes(&narrow(&dy)));
    let kernel = format!("avg_pool_gradient_{}", storage.name());
    let mut want = vec![Want { value: 0.0, magnitude: 0.0 }; pixels];
    for sample in 0..case.samples {
        for (number, place) in case.each_place().into_iter().enumerate() {
            for (_, element) in case.sources(place) {
                for channel in 0..case.channels {
                    let dy = dy.values[(sample * case.spots() + number) * case.channels + channel];
                    let at = (sample * case.pixels() + element) * case.channels + channel;
                    add(&mut want[at], dy / case.divisor(place, divisor));
                }
            }
        }
    }
    let (told, exactness) = (format!("{case:?} by {divisor:?}"), Exactness::new(storage, 8.0));
    for (planar, dy) in [&dy, &planes].into_iter().enumerate() {
        let dx = Array::output(storage, pixels);
        let params = KilnPoolParams {
            y: dy.address(),
            x: dx.address(),
            fixed: if divisor == Divisor::Fixed { 7 } else { 0 },
            padded: u32::from(divisor == Divisor::Padded),
            planar: planar as u32,
            ..case.params(storage)
        };
        gpu.launch(&kernel, case.grid(storage, case.pixels()), &params);
        gpu.ledger().compare(&kernel, &told, &dx.read(), &want, exactness);
    }
}

/// Adds a term to a sum.
pub(crate) fn add(sum: &mut Want, term: f64) {
    sum.value += term;
    sum.magnitude += term.abs();
}
