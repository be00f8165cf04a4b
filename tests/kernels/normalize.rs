// SPDX-License-Identifier: MIT OR Apache-2.0
//! statistics, line and normalize_gradient, over columns in any number of parts and over rows.

use crate::abi_images::*;
use crate::driver::{divider, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Address, Array, Memory};
use crate::pooling::add;

/// Which elements belong together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// Those of a column; so many threads along the columns, so many parts of the rows.
    Columns(usize, usize),
    /// Those of a row, for a warp or for a block.
    Rows,
    LongRows,
}

pub(crate) const EPS: f32 = 1e-3;

pub(crate) fn run(gpu: &Gpu) {
    let plain = [
        ([37, 16], Way::Columns(4, 3)),
        ([50, 5], Way::Columns(2, 1)),
        ([9, 2056], Way::Columns(256, 2)),
        ([600, 1], Way::Columns(1, 2)),
        ([3, 40], Way::Columns(16, 1)),
        ([19, 40], Way::Rows),
        ([5, 33], Way::Rows),
        ([2, 3000], Way::LongRows),
        ([3, 1001], Way::LongRows),
    ];
    let checked = [
        ([37, 16], Way::Columns(4, 3)),
        ([50, 5], Way::Columns(2, 1)),
        ([9, 33], Way::Rows),
        ([2, 1001], Way::LongRows),
    ];
    for storage in Storage::ALL {
        for &(extents, way) in gpu.cases(&plain, &checked) {
            let matrix = Matrix { storage, extents, way };
            statistics(gpu, matrix);
            for affine in [true, false] {
                line(gpu, matrix, affine);
                gradient(gpu, matrix, affine);
            }
            statistics_gradient(gpu, matrix);
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) storage: Storage,
    pub(crate) extents: [usize; 2],
    pub(crate) way: Way,
}

impl Matrix {
    pub(crate) fn count(&self) -> usize {
        self.extents[0] * self.extents[1]
    }

    pub(crate) fn groups(&self) -> usize {
        match self.way {
            Way::Columns(..) => self.extents[1],
            Way::Rows | Way::LongRows => self.extents[0],
        }
    }

    fn group(&self, element: usize) -> usize {
        match self.way {
            Way::Columns(..) => element % self.extents[1],
            Way::Rows | Way::LongRows => element / self.extents[1],
        }
    }

    /// Elements of a group.
    pub(crate) fn elements(&self) -> f64 {
        (self.count() / self.groups()) as f64
    }

    fn chunks(&self) -> usize {
        self.extents[1].div_ceil(self.storage.vector())
    }

    pub(crate) fn params(&self) -> KilnGroups {
        let (width, splits) = match self.way {
            Way::Columns(width, splits) => (width, splits),
            Way::Rows | Way::LongRows => (1, 1),
        };
        KilnGroups {
            rows: self.extents[0] as u32,
            columns: self.extents[1] as u32,
            width: width as u32,
            splits: splits as u32,
            chunks: divider(self.chunks()),
            ..KilnGroups::default()
        }
    }

    /// Grid of a kernel that sums, and of one that does not.
    pub(crate) fn grids(&self) -> [Grid; 2] {
        let [rows, _] = self.extents;
        let by_chunk = Grid::of((rows * self.chunks()).div_ceil(256));
        match self.way {
            Way::Columns(width, splits) => {
                let blocks = [self.chunks().div_ceil(width), splits, 1];
                [Grid { blocks, ..Grid::of(1) }; 2]
            }
            Way::Rows => [Grid::of(rows.div_ceil(8)), by_chunk],
            Way::LongRows => [Grid::of(rows), by_chunk],
        }
    }

    fn kernel(&self, family: &str, long: bool) -> String {
        let variant = match self.way {
            Way::Columns(..) => "columns",
            Way::LongRows if long => "long_rows",
            Way::Rows | Way::LongRows => "rows",
        };
        format!("{family}_{variant}_{}", self.storage.name())
    }

    /// Partial sums and tickets; none for one part.
    pub(crate) fn parts(&self) -> (Memory, Memory) {
        let KilnGroups { width, splits, .. } = self.params();
        let blocks = self.chunks().div_ceil(width as usize);
        let numbers = 2 * self.storage.vector() + 1;
        let partials = Memory::partials(blocks * (width * splits) as usize * numbers);
        (partials, Memory::tickets(blocks))
    }

    pub(crate) fn numbers(&self, seed: usize, low: f32, high: f32) -> Array {
        let mut numbers = Numbers::new(seed + self.groups());
        Array::new(Storage::F32, &numbers.between(low, high, self.groups()))
    }

    /// Elements far from zero, so that sums of squares would cancel.
    pub(crate) fn elements_of(&self, seed: usize, centre: f32) -> Array {
        let mut numbers = Numbers::new(seed + self.count());
        Array::new(self.storage, &numbers.between(centre - 1.0, centre + 1.0, self.count()))
    }
}

/// Groups with memory for their parts.
pub(crate) fn groups(matrix: Matrix, (partials, tickets): &(Memory, Memory)) -> KilnGroups {
    match matrix.params() {
        whole @ KilnGroups { splits: 1, .. } => whole,
        parted => KilnGroups { partials: partials.address(), tickets: tickets.address(), ..parted },
    }
}

/// Twice, since tickets must be as they were; the second time without variances, but for those that run
/// along with columns.
fn statistics(gpu: &Gpu, matrix: Matrix) {
    let x = matrix.elements_of(1, 30.0);
    let parts = matrix.parts();
    let kernel = matrix.kernel("statistics", true);
    let mut sums = vec![0.0; matrix.groups()];
    for (element, value) in x.values.iter().enumerate() {
        sums[matrix.group(element)] += value / matrix.elements();
    }
    let mut squares = vec![0.0; matrix.groups()];
    for (element, value) in x.values.iter().enumerate() {
        let group = matrix.group(element);
        squares[group] += (value - sums[group]).powi(2) / matrix.elements();
    }
    let exactness = Exactness::new(Storage::F32, 16.0);
    for with_variance in [true, false] {
        let (mean, variance) = (
            Array::output(Storage::F32, matrix.groups()),
            Array::output(Storage::F32, matrix.groups()),
        );
        let mut params = KilnNormalizeParams {
            x: x.address(),
            mean: mean.address(),
            variance: if with_variance { variance.address() } else { Address::default() },
            groups: groups(matrix, &parts),
            ..KilnNormalizeParams::default()
        };
        let (state, count) = ([20, 21].map(|seed| matrix.numbers(seed, -2.0, 2.0)), 41i64);
        let count_at = Memory::of_bytes(&count.to_ne_bytes());
        let follows = matches!(matrix.way, Way::Columns(..));
        if follows {
            params.running = KilnRunning {
                mean: state[0].address(),
                variance: state[1].address(),
                count: count_at.address(),
                kept_mean: 0.75,
                taken_mean: 0.25,
                kept_variance: 0.5,
                taken_variance: 0.625,
            };
        }
        gpu.launch(&kernel, matrix.grids()[0], &params);
        parts.1.assert_zero(&kernel);
        let told = format!("{matrix:?}");
        let want: Vec<Want> = sums.iter().map(|&mean| Want::plain(mean)).collect();
        gpu.ledger().compare(&kernel, &told, &mean.read(), &want, exactness);
        if with_variance {
            // A mean is rounded where elements are large, and squares around it with it.
            let want = |&value: &f64| Want { value, magnitude: value.abs() + 30.0 };
            let want: Vec<Want> = squares.iter().map(want).collect();
            gpu.ledger().compare(&kernel, &told, &variance.read(), &want, exactness);
        }
        if follows {
            let rules = [(&sums, 0.75, 0.25), (&squares, 0.5, 0.625)];
            for (state, (statistics, kept, taken)) in state.iter().zip(rules) {
                let want = |(old, new): (&f64, &f64)| {
                    let value = kept * old + taken * new;
                    Want { value, magnitude: old.abs() + new.abs() + 30.0 }
                };
                let want: Vec<Want> = state.values.iter().zip(statistics).map(want).collect();
                gpu.ledger().compare(&kernel, &told, &state.read(), &want, exactness);
            }
            let want = (count + 1).to_ne_bytes();
            gpu.ledger().compare_bytes(&kernel, &told, &count_at.read(), &want);
        }
    }
}

fn line(gpu: &Gpu, matrix: Matrix, affine: bool) {
    let x = matrix.elements_of(2, 1.0);
    let (mean, variance) = (matrix.numbers(3, -1.0, 2.0), matrix.numbers(4, 0.01, 2.0));
    let (gamma, beta) = (matrix.numbers(5, -1.0, 1.0), matrix.numbers(6, -1.0, 1.0));
    let y = Array::output(matrix.storage, matrix.count());
    let mut params = KilnNormalizeParams {
        y: y.address(),
        x: x.address(),
        mean: mean.address(),
        variance: variance.address(),
        eps: EPS,
        groups: matrix.params(),
        ..KilnNormalizeParams::default()
    };
    if affine {
        (params.gamma, params.shift) = (gamma.address(), beta.address());
    }
    let kernel = matrix.kernel("line", false);
    gpu.launch(&kernel, matrix.grids()[1], &params);
    let want = |(element, &x): (usize, &f64)| {
        let group = matrix.group(element);
        let factor = 1.0 / (variance.values[group] + f64::from(EPS)).sqrt();
        let factor = if affine { factor * gamma.values[group] } else { factor };
        let shift = if affine { beta.values[group] } else { 0.0 };
        let size = x.abs() + mean.values[group].abs();
        let value = (x - mean.values[group]) * factor + shift;
        Want { value, magnitude: size * factor.abs() + shift.abs() }
    };
    let want: Vec<Want> = x.values.iter().enumerate().map(want).collect();
    let (told, exactness) = (format!("{matrix:?}"), Exactness::new(matrix.storage, 8.0));
    gpu.ledger().compare(&kernel, &told, &y.read(), &want, exactness);
}

fn statistics_gradient(gpu: &Gpu, matrix: Matrix) {
    let x = matrix.elements_of(7, 1.0);
    let [mean, d_mean, d_variance] = [8, 9, 10].map(|seed| matrix.numbers(seed, -1.0, 1.0));
    let y = Array::output(matrix.storage, matrix.count());
    let params = KilnNormalizeParams {
        y: y.address(),
        x: x.address(),
        mean: mean.address(),
        variance: d_variance.address(),
        shift: d_mean.address(),
        is_gradient: 1,
        groups: matrix.params(),
        ..KilnNormalizeParams::default()
    };
    let kernel = matrix.kernel("line", false);
    gpu.launch(&kernel, matrix.grids()[1], &params);
    let want = |(element, &x): (usize, &f64)| {
        let group = matrix.group(element);
        let (slope, shift) = (2.0 * d_variance.values[group], d_mean.values[group]);
        let size = x.abs() + mean.values[group].abs();
        let value = (slope * (x - mean.values[group]) + shift) / matrix.elements();
        Want { value, magnitude: (slope.abs() * size + shift.abs()) / matrix.elements() }
    };
    let want: Vec<Want> = x.values.iter().enumerate().map(want).collect();
    let (told, exactness) = (format!("{matrix:?}"), Exactness::new(matrix.storage, 8.0));
    gpu.ledger().compare(&kernel, &told, &y.read(), &want, exactness);
}

/// Twice, since tickets must be as they were; the second time with the gradient of the mean alone.
fn gradient(gpu: &Gpu, matrix: Matrix, affine: bool) {
    let (x, dy) = (matrix.elements_of(11, 1.0), matrix.elements_of(12, 0.0));
    let (mean, variance) = (matrix.numbers(13, -1.0, 2.0), matrix.numbers(14, 0.01, 2.0));
    let gamma = matrix.numbers(15, 0.5, 1.0);
    let parts = matrix.parts();
    let kernel = matrix.kernel("normalize_gradient", true);
    let scale = |group: usize| 1.0 / (variance.values[group] + f64::from(EPS)).sqrt();
    let factor = |group: usize| if affine { gamma.values[group] } else { 1.0 };
    let mut sums = vec![[Want { value: 0.0, magnitude: 0.0 }; 4]; matrix.groups()];
    for (element, (x, dy)) in x.values.iter().zip(&dy.values).enumerate() {
        let group = matrix.group(element);
        let (scale, factor) = (scale(group), factor(group));
        let normal = (x - mean.values[group]) * scale;
        let [of_mean, of_variance, of_gamma, of_beta] = &mut sums[group];
        add(of_mean, -dy * factor * scale);
        add(of_variance, -0.5 * dy * factor * normal * scale * scale);
        add(of_gamma, dy * normal);
        add(of_beta, *dy);
    }
    for all in [true, false] {
        let outputs = [(); 4].map(|()| Array::output(Storage::F32, matrix.groups()));
        let dx = Array::output(matrix.storage, matrix.count());
        let mut params = KilnNormalizeParams {
            y: dx.address(),
            x: x.address(),
            dy: dy.address(),
            mean: mean.address(),
            variance: variance.address(),
            d_mean: outputs[0].address(),
            eps: EPS,
            groups: groups(matrix, &parts),
            ..KilnNormalizeParams::default()
        };
        if affine {
            params.gamma = gamma.address();
        }
        if all {
            params.d_variance = outputs[1].address();
            params.d_gamma = outputs[2].address();
            params.d_beta = outputs[3].address();
        }
        gpu.launch(&kernel, matrix.grids()[0], &params);
        parts.1.assert_zero(&kernel);
        let told = format!("{matrix:?}");
        let want = |(element, dy): (usize, &f64)| {
            let group = matrix.group(element);
            Want::plain(dy * factor(group) * scale(group))
        };
        let want: Vec<Want> = dy.values.iter().enumerate().map(want).collect();
        let exactness = Exactness::new(matrix.storage, 8.0);
        gpu.ledger().compare(&kernel, &told, &dx.read(), &want, exactness);
        for (index, output) in outputs.iter().enumerate().take(if all { 4 } else { 1 }) {
            let want: Vec<Want> = sums.iter().map(|sums| sums[index]).collect();
            let (told, got) = (format!("{told} sum {index}"), output.read());
            gpu.ledger().compare(&kernel, &told, &got, &want, Exactness::new(Storage::F32, 24.0));
        }
    }
}
