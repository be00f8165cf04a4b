// SPDX-License-Identifier: MIT OR Apache-2.0
//! cross_entropy, cross_entropy_strided, linear_cross_entropy, and nll with its gradient.

use crate::abi::*;
use crate::driver::{Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::loss::{Loss, Variant, SHARP, SMOOTH};
use crate::memory::Array;
use crate::product::cut;

pub(crate) fn run(gpu: &Gpu) {
    for storage in Storage::ALL {
        for &(rows, classes) in gpu.cases(
            &[
                (1, 1),
                (37, 3),
                (37, 31),
                (33, 33),
                (65, 64),
                (5, 72),
                (9, 1000),
                (3, 1024),
                (3, 1500),
            ],
            &[(37, 31), (9, 72)],
        ) {
            for variant in SHARP {
                if classes % storage.vector() == 0 && classes <= KILN_ROW_REGISTERS as usize {
                    of_scores(gpu, "cross_entropy", storage, rows, classes, variant);
                }
            }
            for variant in SHARP.into_iter().chain(SMOOTH) {
                of_scores(gpu, "cross_entropy_strided", storage, rows, classes, variant);
                of_logarithms(gpu, storage, [rows, classes], variant);
            }
        }
        // Scores far from 0, as far as the type tells them apart.
        if storage == Storage::F32 {
            for variant in [SHARP[1], SMOOTH[1]] {
                let scores = Numbers::new(7).between(-5003.0, -4997.0, 19 * 31);
                of_these(gpu, "cross_entropy_strided", (storage, &scores), 31, variant);
            }
        }
        for &shape in gpu.cases(
            &[[1, 1, 1], [31, 33, 10], [37, 31, 3], [65, 40, 64], [33, 65, 33], [32, 128, 10]],
            &[[33, 31, 10], [9, 40, 64]],
        ) {
            for variant in SHARP.into_iter().chain(SMOOTH) {
                of_product(gpu, (storage.name(), storage), shape, variant);
                if storage == Storage::F32 {
                    of_product(gpu, ("tf32", storage), shape, variant);
                }
            }
        }
    }
}

fn of_scores(
    gpu: &Gpu,
    family: &str,
    storage: Storage,
    rows: usize,
    classes: usize,
    variant: Variant,
) {
    let scores = Numbers::new(classes).between(-3.0, 3.0, rows * classes);
    of_these(gpu, family, (storage, &scores), classes, variant);
}

/// Scores that are at most 6 apart. The gradient takes their place where the loss is weighted.
fn of_these(
    gpu: &Gpu,
    family: &str,
    (storage, scores): (Storage, &[f32]),
    classes: usize,
    variant: Variant,
) {
    let rows = scores.len() / classes;
    let blocks = rows.div_ceil(8);
    let loss = Loss::new(variant, rows, classes, blocks);
    let scores = Array::new(storage, scores);
    let separate = Array::output(storage, rows * classes);
    let d_scores = if variant.weighted { &scores } else { &separate };
    let params = KilnCrossEntropyParams {
        loss: loss.params(gpu),
        scores: scores.address(),
        d_scores: d_scores.address(),
    };
    let kernel = format!("{family}_{}", storage.name());
    gpu.launch(&kernel, Grid::of(blocks), &params);
    loss.compare(gpu, &kernel, &scores.values, 3.0, (&d_scores.read(), storage));
}

fn of_logarithms(gpu: &Gpu, storage: Storage, [rows, classes]: [usize; 2], variant: Variant) {
    let numbers = Numbers::new(rows * classes).between(-3.0, 0.0, rows * classes);
    let logarithms = Array::new(storage, &numbers);
    let gradient = Array::output(Storage::F32, rows * classes);
    let blocks = rows.div_ceil(8);
    let loss = Loss::new(variant, rows, classes, blocks).of_logarithms();
    let forward = KilnCrossEntropyParams {
        loss: loss.params(gpu),
        scores: logarithms.address(),
        ..KilnCrossEntropyParams::default()
    };
    let backward = KilnCrossEntropyParams {
        loss: loss.params(gpu),
        d_scores: gradient.address(),
        ..KilnCrossEntropyParams::default()
    };
    let kernel = format!("nll_{}", storage.name());
    gpu.launch(&kernel, Grid::of(blocks), &forward);
    gpu.launch("nll_gradient_f32", Grid::of(blocks), &backward);
    for kernel in [&kernel, "nll_gradient_f32"] {
        loss.compare(gpu, kernel, &logarithms.values, 3.0, (&gradient.read(), Storage::F32));
    }
}

/// `shape`: rows, features, classes. Without bias where the loss is weighted.
fn of_product(
    gpu: &Gpu,
    (precision, storage): (&str, Storage),
    shape: [usize; 3],
    variant: Variant,
) {
    let [rows, features, classes] = shape;
    let mut numbers = Numbers::new(features);
    let x = Array::new(storage, &numbers.between(-1.0, 1.0, rows * features));
    let weight = Array::new(storage, &numbers.between(-1.0, 1.0, classes * features));
    let bias = Array::new(Storage::F32, &numbers.between(-1.0, 1.0, classes));
    let (d_scores, scores) =
        (Array::output(storage, rows * classes), Array::output(storage, rows * classes));
    // All that a block takes, or as few as its warps.
    let rows_per_block = if rows > 32 { KILN_LINEAR_LOSS_ROWS as usize } else { 4 };
    let blocks = rows.div_ceil(rows_per_block);
    let loss = Loss::new(variant, rows, classes, blocks);
    let biased = !variant.weighted;
    let params = KilnLinearCrossEntropyParams {
        loss: loss.params(gpu),
        x: x.address(),
        weight: weight.address(),
        bias: if biased { bias.address() } else { Default::default() },
        d_scores: d_scores.address(),
        scores: scores.address(),
        features: features as u32,
        rows_per_block: rows_per_block as u32,
    };
    let kernel = format!("linear_cross_entropy_{precision}");
    let shared = if precision == "f32" { 18432 } else { KILN_GEMM_STAGES as usize * 6144 };
    let factor = |value: f64| if precision == "tf32" { cut(value) } else { value };
    let grid = Grid { blocks: [blocks, 1, 1], threads: [KILN_GEMM_THREADS as usize, 1], shared };
    gpu.launch(&kernel, grid, &params);
    let score = |at: usize| {
        let row = &x.values[at / classes * features..][..features];
        let class = &weight.values[at % classes * features..][..features];
        let first = if biased { bias.values[at % classes] } else { 0.0 };
        let terms = row.iter().zip(class).map(|(&x, &w)| factor(x) * factor(w));
        terms.fold(Want::plain(first), |sum, term| Want {
            value: sum.value + term,
            magnitude: sum.magnitude + term.abs(),
        })
    };
    let want: Vec<Want> = (0..rows * classes).map(score).collect();
    let case = format!("scores, {shape:?}");
    let scores = scores.read();
    gpu.ledger().compare(&kernel, &case, &scores, &want, Exactness::new(storage, 4.0));
    // The loss is that of the scores as they are stored, rounded.
    let size = scores.iter().fold(0f64, |size, score| size.max(score.abs()));
    loss.compare(gpu, &kernel, &scores, size, (&d_scores.read(), storage));
}
