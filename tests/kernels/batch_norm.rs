// SPDX-License-Identifier: MIT OR Apache-2.0
//! batch_apply, batch_sums and batch_gradient: columns in any number of parts, with and without what stands
//! around batch norm.

use crate::abi::*;
use crate::abi_images::*;
use crate::driver::{divider, Gpu};
use crate::dropout::Site;
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::Array;
use crate::normalize::{groups, Matrix, Way, EPS};
use crate::pooling::add;

/// Rows of a sample; the matrices below have whole samples.
const PLACES: usize = 6;
const SOURCE_SCALE: f32 = 1.25;

pub(crate) fn run(gpu: &Gpu) {
    let plain = [
        ([36, 16], Way::Columns(4, 3)),
        ([48, 5], Way::Columns(2, 1)),
        ([12, 2056], Way::Columns(256, 2)),
        ([600, 8], Way::Columns(2, 5)),
    ];
    for storage in Storage::ALL {
        for &(extents, way) in gpu.cases(&plain, &plain[..2]) {
            let matrix = Matrix { storage, extents, way };
            for fused in [false, true] {
                apply(gpu, matrix, fused);
                gradient(gpu, matrix, fused);
            }
        }
    }
}

fn scale(variance: f64) -> f64 {
    1.0 / (variance + f64::from(EPS)).sqrt()
}

/// `fused`: with weight and bias, another value, ReLU, and, where columns are whole runs, dropout.
fn apply(gpu: &Gpu, matrix: Matrix, fused: bool) {
    let x = matrix.elements_of(1, 0.5);
    let skip = matrix.elements_of(2, 0.0);
    let (mean, variance) = (matrix.numbers(3, -1.0, 2.0), matrix.numbers(4, 0.01, 2.0));
    let (gamma, beta) = (matrix.numbers(5, -1.0, 1.0), matrix.numbers(6, -1.0, 1.0));
    let columns = matrix.groups();
    let kernel = format!("batch_apply_{}", matrix.storage.name());
    let site = Site::new("bn.dropout#0", 0.3);
    for dropout in 0..if fused && columns.is_multiple_of(8) { 3 } else { 1 } {
        let y = Array::output(matrix.storage, matrix.count());
        let mut params = KilnBatchNormParams {
            y: y.address(),
            x: x.address(),
            mean: mean.address(),
            variance: variance.address(),
            eps: EPS,
            groups: matrix.params(),
            ..KilnBatchNormParams::default()
        };
        if fused {
            (params.gamma, params.beta) = (gamma.address(), beta.address());
            (params.residual, params.relu) = (skip.address(), 1);
            params.dropout = dropout;
            params.scalars = gpu.scalars();
            params.places = divider(PLACES);
            params.mask = site.params;
        }
        gpu.launch(&kernel, matrix.grids()[1], &params);
        let want = |(at, &x): (usize, &f64)| {
            let (row, column) = (at / columns, at % columns);
            let factor = scale(variance.values[column]);
            let size = (x.abs() + mean.values[column].abs()) * factor;
            let value = (x - mean.values[column]) * factor;
            if !fused {
                return Want { value, magnitude: size };
            }
            let (gamma, beta) = (gamma.values[column], beta.values[column]);
            let value = (gamma * value + beta + skip.values[at]).max(0.0);
            let magnitude = gamma.abs() * size + beta.abs() + skip.values[at].abs();
            let element = match dropout {
                1 => row % PLACES * columns + column,
                _ => column,
            };
            let scale = match dropout {
                0 => 1.0,
                _ if site.keeps(row / PLACES, element) => f64::from(site.params.scale),
                _ => 0.0,
            };
            Want { value: scale * value, magnitude: scale * magnitude }
        };
        let want: Vec<Want> = x.values.iter().enumerate().map(want).collect();
        let told = format!("{matrix:?} {fused} {dropout}");
        let exactness = Exactness::new(matrix.storage, 8.0);
        gpu.ledger().compare(&kernel, &told, &y.read(), &want, exactness);
    }
}

/// Both launches; `fused`: with a weight, a mask, and sums that are added to others.
fn gradient(gpu: &Gpu, matrix: Matrix, fused: bool) {
    let (x, dy) = (matrix.elements_of(11, 0.5), matrix.elements_of(12, 0.0));
    let source = Array::new(matrix.storage, &Numbers::new(13).sparse(matrix.count()));
    let (mean, variance) = (matrix.numbers(14, -1.0, 2.0), matrix.numbers(15, 0.01, 2.0));
    let gamma = matrix.numbers(16, 0.5, 1.0);
    let held = [17, 18].map(|seed| matrix.numbers(seed, -1.0, 1.0));
    let sums = [(); 2].map(|()| Array::output(Storage::F32, matrix.groups()));
    let parts = matrix.parts();
    let columns = matrix.groups();
    let masked = Array::output(matrix.storage, matrix.count());
    let mut params = KilnBatchNormParams {
        x: x.address(),
        dy: dy.address(),
        mean: mean.address(),
        variance: variance.address(),
        d_mean: sums[0].address(),
        d_variance: sums[1].address(),
        d_gamma: held[0].address(),
        d_beta: held[1].address(),
        eps: EPS,
        store: if fused { KILN_STORE_ACCUMULATE } else { KILN_STORE_OVERWRITE },
        groups: groups(matrix, &parts),
        ..KilnBatchNormParams::default()
    };
    if fused {
        (params.source, params.source_scale) = (source.address(), SOURCE_SCALE);
        (params.gamma, params.y) = (gamma.address(), masked.address());
    }
    let kernel = format!("batch_sums_{}", matrix.storage.name());
    gpu.launch(&kernel, matrix.grids()[0], &params);
    parts.1.assert_zero(&kernel);
    let told = format!("{matrix:?} {fused}");
    let passed = |at: usize| match fused {
        true if source.values[at] == 0.0 => 0.0,
        true => dy.values[at] * f64::from(SOURCE_SCALE),
        false => dy.values[at],
    };
    let factor = |column: usize| if fused { gamma.values[column] } else { 1.0 };
    let begun = |value: &f64| Want::plain(if fused { *value } else { 0.0 });
    let [mut of_gamma, mut of_beta] =
        [&held[0], &held[1]].map(|held| held.values.iter().map(begun).collect::<Vec<_>>());
    let nothing = vec![Want { value: 0.0, magnitude: 0.0 }; columns];
    let (mut of_mean, mut of_variance) = (nothing.clone(), nothing);
    for (at, x) in x.values.iter().enumerate() {
        let column = at % columns;
        let (scale, dy) = (scale(variance.values[column]), passed(at));
        let normal = (x - mean.values[column]) * scale;
        add(&mut of_gamma[column], dy * normal);
        add(&mut of_beta[column], dy);
        add(&mut of_mean[column], -dy * factor(column) * scale);
        add(&mut of_variance[column], -0.5 * dy * normal * factor(column) * scale * scale);
    }
    let exactness = Exactness::new(Storage::F32, 24.0);
    for (got, want) in [
        (&held[0], &of_gamma),
        (&held[1], &of_beta),
        (&sums[0], &of_mean),
        (&sums[1], &of_variance),
    ] {
        gpu.ledger().compare(&kernel, &told, &got.read(), want, exactness);
    }
    if fused {
        let want: Vec<Want> = (0..matrix.count()).map(|at| Want::plain(passed(at))).collect();
        let exactness = Exactness::new(matrix.storage, 2.0);
        gpu.ledger().compare(&kernel, &told, &masked.read(), &want, exactness);
    }
    let dx = Array::output(matrix.storage, matrix.count());
    params.y = dx.address();
    let kernel = format!("batch_gradient_{}", matrix.storage.name());
    gpu.launch(&kernel, matrix.grids()[1], &params);
    let want = |(at, x): (usize, &f64)| {
        let column = at % columns;
        let (shift, slope) = (of_mean[column], of_variance[column]);
        let direct = passed(at) * factor(column) * scale(variance.values[column]);
        let apart = x - mean.values[column];
        let value = direct + (shift.value + 2.0 * slope.value * apart) / matrix.elements();
        let of_sums = (shift.magnitude + 2.0 * slope.magnitude * (apart.abs() + 1.0)) * 4.0;
        Want { value, magnitude: direct.abs() + of_sums / matrix.elements() }
    };
    let want: Vec<Want> = x.values.iter().enumerate().map(want).collect();
    let exactness = Exactness::new(matrix.storage, 24.0);
    gpu.ledger().compare(&kernel, &told, &dx.read(), &want, exactness);
}
