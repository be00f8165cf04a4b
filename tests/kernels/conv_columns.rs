// SPDX-License-Identifier: MIT OR Apache-2.0
//! conv_statistics and conv_input_gradient_sums: what they find of the columns of their results, with few blocks along rows
//! and with more than meet at a time. And the gradient of a batch norm that comes with gradients of weights.

use crate::abi::*;
use crate::abi_images::*;
use crate::conv::{methods, thin_columns, Conv, Run, Way, MASK_SCALE, ROUNDINGS, SAME, TILE};
use crate::driver::{divider, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};
use crate::pooling::{add, Case};

const EPS: f32 = 1e-3;
/// Numbers that a thread finds of its columns, at most.
const NUMBERS: usize = 17;
/// Blocks along rows of few channels: more than meet at a time, and more than find something.
const THIN_BLOCKS: usize = 18;
/// 18 tiles of rows.
const MANY: Conv = Conv {
    images: Case { samples: 2, image: [1, 24, 23], places: [1, 24, 23], ..SAME },
    outputs: 12,
    groups: 1,
};

pub(crate) fn run(run: &Run<'_>) {
    statistics(run);
    if run.way == Way::Tiles {
        sums(run, false);
        sums(run, true);
    }
}

/// With so many rows that what blocks found is merged twice.
pub(crate) fn many(gpu: &Gpu) {
    for method in methods() {
        run(&Run { gpu, method, way: Way::Tiles, conv: MANY, splits: 1 });
    }
}

/// Launches, and fails unless tickets are as they were.
fn launch(run: &Run<'_>, kernel: &str, mut params: KilnConvParams) {
    let [m, n, k, ld] = [params.m, params.n, params.k, params.ld].map(|extent| extent as usize);
    let grid = match run.way {
        Way::Tiles => run.grid(m, n),
        Way::Thin => {
            let columns = thin_columns(ld);
            let row = params.gather.positions[2].divisor;
            params.strips = divider(row.div_ceil(KILN_THIN_STRIP) as usize);
            let threads = KILN_GEMM_THREADS as usize;
            let weights = k * (columns + KILN_THIN_PAD as usize);
            let shared = 4 * weights.max(NUMBERS * threads);
            Grid { blocks: [THIN_BLOCKS, ld.div_ceil(columns), 1], threads: [threads, 1], shared }
        }
    };
    let [rows, columns, _] = grid.blocks;
    let groups = rows.div_ceil(KILN_PARTS_TOGETHER as usize);
    let partials = Memory::partials(columns * (rows + groups) * NUMBERS * 8);
    let tickets = Memory::tickets(columns * (groups + 1));
    params.columns.partials = partials.address();
    params.columns.tickets = tickets.address();
    run.gpu.launch(kernel, grid, &params);
    tickets.assert_zero(kernel);
}

fn statistics(run: &Run<'_>) {
    let Conv { images, outputs, groups } = run.conv;
    let kernel = run.kernel("conv_statistics");
    let storage = run.method.storage;
    let (x, weights) = (run.numbers(run.images(), 1), run.numbers(run.weights(), 2));
    // Results far from zero, so that sums of squares would cancel.
    let bias = Array::new(Storage::F32, &Numbers::new(3).between(19.0, 21.0, outputs));
    let y = Array::output(storage, run.results());
    let found = [(); 2].map(|()| Array::output(Storage::F32, outputs));
    let state = [4, 5]
        .map(|seed| Array::new(Storage::F32, &Numbers::new(seed).between(-1.0, 1.0, outputs)));
    let count = Memory::of_bytes(&41i64.to_ne_bytes());
    let (m, n) = (images.samples * images.spots(), outputs / groups);
    let split = run.split(m, n);
    let mut params = KilnConvParams {
        d: y.address(),
        a: x.address(),
        b: weights.address(),
        split: split.params,
        bias: bias.address(),
        ..run.forward_extents()
    };
    params.columns.mean = found[0].address();
    params.columns.variance = found[1].address();
    params.columns.running = KilnRunning {
        mean: state[0].address(),
        variance: state[1].address(),
        count: count.address(),
        kept_mean: 0.75,
        taken_mean: 0.25,
        kept_variance: 0.5,
        taken_variance: 0.625,
    };
    launch(run, &kernel, params);
    split.tickets.assert_zero(&kernel);
    let case = format!("{:?} in {} parts, {:?}", run.conv, run.splits, run.way);
    let compare = |got: &Array, want: &[Want], exactness: Exactness| {
        run.gpu.ledger().compare(&kernel, &case, &got.read(), want, exactness);
    };
    let mut want = vec![Want { value: 0.0, magnitude: 0.0 }; run.results()];
    run.each(|at| add(&mut want[at.y], run.seen(&x, at.x) * run.seen(&weights, at.packed)));
    for (at, sum) in want.iter_mut().enumerate() {
        add(sum, bias.values[at % outputs]);
    }
    compare(&y, &want, Exactness::new(storage, ROUNDINGS));
    // Statistics are those of what was stored.
    let stored = y.read();
    let of_columns = |term: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; outputs];
        for (at, &value) in stored.iter().enumerate() {
            sums[at % outputs] += term(at % outputs, value) / m as f64;
        }
        sums
    };
    let means = of_columns(&|_, value| value);
    let variances = of_columns(&|column, value| (value - means[column]).powi(2));
    let wanted = |values: &[f64], more: f64| -> Vec<Want> {
        values.iter().map(|&value| Want { value, magnitude: value.abs() + more }).collect()
    };
    let exactness = Exactness::new(Storage::F32, 16.0);
    compare(&found[0], &wanted(&means, 0.0), exactness);
    // A mean is rounded where elements are large, and squares around it with it.
    compare(&found[1], &wanted(&variances, 30.0), exactness);
    for (state, values, kept, taken) in
        [(&state[0], &means, 0.75, 0.25), (&state[1], &variances, 0.5, 0.625)]
    {
        let moved = state.values.iter().zip(values).map(|(old, new)| kept * old + taken * new);
        compare(state, &wanted(&moved.collect::<Vec<_>>(), 30.0), exactness);
    }
    run.gpu.ledger().compare_bytes(&kernel, &case, &count.read(), &42i64.to_ne_bytes());
}

/// `fused`: with a weight, a mask, another gradient, and sums that are added to others.
fn sums(run: &Run<'_>, fused: bool) {
    let Conv { images, outputs, groups } = run.conv;
    let kernel = run.kernel("conv_input_gradient_sums");
    let storage = run.method.storage;
    let channels = images.channels;
    let (dy, weights) = (run.numbers(run.results(), 4), run.numbers(run.weights(), 5));
    let (skip, x) = (run.numbers(run.images(), 11), run.numbers(run.images(), 12));
    let source = Array::new(storage, &Numbers::new(6).sparse(run.images()));
    let numbers = |seed: usize, low: f32, high: f32| {
        Array::new(Storage::F32, &Numbers::new(seed).between(low, high, channels))
    };
    let (mean, variance) = (numbers(7, -1.0, 1.0), numbers(8, 0.1, 2.0));
    let gamma = numbers(9, 0.5, 1.0);
    let held = [13, 14].map(|seed| numbers(seed, -1.0, 1.0));
    let of_statistics = [(); 2].map(|()| Array::output(Storage::F32, channels));
    let dx = Array::output(storage, run.images());
    let (m, n) = (images.samples * images.pixels(), channels / groups);
    let split = run.split(m, n);
    let mut params = KilnConvParams {
        d: dx.address(),
        a: dy.address(),
        b: weights.address(),
        gather: run.result_places(),
        m: m as i32,
        n: n as i32,
        k: (run.taps() * outputs / groups) as i32,
        ld: channels as i32,
        column_tiles: divider(n.div_ceil(TILE)),
        split: split.params,
        mean: mean.address(),
        variance: variance.address(),
        eps: EPS,
        columns: KilnColumnSums {
            x: x.address(),
            d_mean: of_statistics[0].address(),
            d_variance: of_statistics[1].address(),
            d_gamma: held[0].address(),
            d_beta: held[1].address(),
            store: if fused { KILN_STORE_ACCUMULATE } else { KILN_STORE_OVERWRITE },
            ..KilnColumnSums::default()
        },
        ..KilnConvParams::default()
    };
    if fused {
        params.residual = skip.address();
        params.mask_source = source.address();
        params.mask_scale = MASK_SCALE;
        params.gamma = gamma.address();
    }
    launch(run, &kernel, params);
    split.tickets.assert_zero(&kernel);
    let case = format!("{:?} in {} parts, {fused}", run.conv, run.splits);
    let compare = |got: &Array, want: &[Want], exactness: Exactness| {
        run.gpu.ledger().compare(&kernel, &case, &got.read(), want, exactness);
    };
    let passed = |at: usize| match fused {
        true if source.values[at] == 0.0 => 0.0,
        true => f64::from(MASK_SCALE),
        false => 1.0,
    };
    let mut want = vec![Want { value: 0.0, magnitude: 0.0 }; run.images()];
    for (at, sum) in want.iter_mut().enumerate().filter(|_| fused) {
        add(sum, passed(at) * skip.values[at]);
    }
    run.each(|at| {
        let term = run.seen(&dy, at.y) * run.seen(&weights, at.packed);
        add(&mut want[at.x], passed(at.x) * term);
    });
    compare(&dx, &want, Exactness::new(storage, ROUNDINGS));
    let begun = |value: &f64| Want::plain(if fused { *value } else { 0.0 });
    let [mut of_gamma, mut of_beta] =
        [&held[0], &held[1]].map(|held| held.values.iter().map(begun).collect::<Vec<_>>());
    let nothing = vec![Want { value: 0.0, magnitude: 0.0 }; channels];
    let (mut of_mean, mut of_variance) = (nothing.clone(), nothing);
    for (at, dy) in dx.read().into_iter().enumerate() {
        let column = at % channels;
        let scale = 1.0 / (variance.values[column] + f64::from(EPS)).sqrt();
        let factor = if fused { gamma.values[column] } else { 1.0 };
        let normal = (x.values[at] - mean.values[column]) * scale;
        add(&mut of_gamma[column], dy * normal);
        add(&mut of_beta[column], dy);
        add(&mut of_mean[column], -dy * factor * scale);
        add(&mut of_variance[column], -0.5 * dy * normal * factor * scale * scale);
    }
    let exactness = Exactness::new(Storage::F32, 24.0);
    compare(&held[0], &of_gamma, exactness);
    compare(&held[1], &of_beta, exactness);
    compare(&of_statistics[0], &of_mean, exactness);
    compare(&of_statistics[1], &of_variance, exactness);
}

/// A batch norm whose gradient is worked out of what is behind its mask, with the gradients of weights.
pub(crate) struct Line {
    /// Of mean, variance, gamma, and the gradients of mean and variance.
    numbers: [Array; 5],
    x: Array,
    /// The gradient.
    pub(crate) values: Vec<f64>,
}

impl Line {
    pub(crate) fn new(run: &Run<'_>, masked: &Array) -> Self {
        let outputs = run.conv.outputs;
        let numbers = [(-1.0, 1.0), (0.1, 2.0), (0.5, 1.0), (-1.0, 1.0), (-1.0, 1.0)];
        let mut seed = 20;
        let numbers = numbers.map(|(low, high)| {
            seed += 1;
            Array::new(Storage::F32, &Numbers::new(seed).between(low, high, outputs))
        });
        let x = run.numbers(run.results(), 26);
        let rows = (run.results() / outputs) as f64;
        let [mean, variance, gamma, d_mean, d_variance] = &numbers;
        let value = |(at, dy): (usize, &f64)| {
            let column = at % outputs;
            let scale = 1.0 / (variance.values[column] + f64::from(EPS)).sqrt();
            let apart = x.values[at] - mean.values[column];
            let of_sums = d_mean.values[column] + 2.0 * d_variance.values[column] * apart;
            dy * gamma.values[column] * scale + of_sums / rows
        };
        let values = masked.values.iter().enumerate().map(value).collect();
        Line { numbers, x, values }
    }

    pub(crate) fn params(&self) -> KilnBatchLine {
        let [mean, variance, gamma, d_mean, d_variance] = &self.numbers;
        KilnBatchLine {
            x: self.x.address(),
            mean: mean.address(),
            variance: variance.address(),
            gamma: gamma.address(),
            d_mean: d_mean.address(),
            d_variance: d_variance.address(),
            eps: EPS,
        }
    }
}
