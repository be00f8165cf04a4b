// SPDX-License-Identifier: MIT OR Apache-2.0
//! classifier_head: with and without what comes past batch norm, windows of several shapes, more samples than meet at a time,
//! ignored labels, scores that are wanted.

use crate::abi::*;
use crate::abi_images::*;
use crate::conv::methods;
use crate::driver::{Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};
use crate::normalize::EPS;
use crate::pooling::add;
use crate::product::cut;

const SOURCE_SCALE: f32 = 0.75;
const IGNORED: i32 = -100;

/// Samples, channels, classes, places and the window's extents.
#[derive(Clone, Copy, Debug)]
struct Case {
    samples: usize,
    channels: usize,
    classes: usize,
    places: [usize; 2],
    window: [usize; 2],
}

const CASES: [Case; 3] = [
    Case { samples: 5, channels: 16, classes: 10, places: [2, 3], window: [2, 1] },
    Case { samples: 18, channels: 8, classes: 3, places: [1, 1], window: [3, 2] },
    Case { samples: 2, channels: 64, classes: 40, places: [4, 4], window: [1, 2] },
];

pub(crate) fn run(gpu: &Gpu) {
    for method in methods() {
        for &case in gpu.cases(&CASES, &CASES[..2]) {
            for fused in [false, true] {
                head(gpu, method.name, method.storage, case, fused);
            }
        }
    }
}

/// `fused`: with weight and bias of both layers, a residual, scores, and sums that are added to others.
fn head(gpu: &Gpu, name: &str, storage: Storage, case: Case, fused: bool) {
    let Case { samples, channels, classes, places, window } = case;
    let kernel = format!("classifier_head_{name}");
    let [height, width] = [0, 1].map(|axis| places[axis] * window[axis]);
    let (pixels, spots) = (height * width, places[0] * places[1]);
    let (count, features) = (samples * pixels * channels, channels * spots);
    let elements = |seed: usize, count: usize| {
        Array::new(storage, &Numbers::new(seed + count).between(-1.0, 1.0, count))
    };
    let numbers = |seed: usize, low: f32, high: f32, count: usize| {
        Array::new(Storage::F32, &Numbers::new(seed).between(low, high, count))
    };
    let (x, residual, weight) =
        (elements(1, count), elements(2, count), elements(3, classes * features));
    let (mean, variance) = (numbers(4, -0.5, 0.5, channels), numbers(5, 0.1, 2.0, channels));
    let (gamma, beta) = (numbers(6, 0.5, 1.0, channels), numbers(7, -0.5, 0.5, channels));
    let bias = numbers(8, -1.0, 1.0, classes);
    let held = [9, 10].map(|seed| numbers(seed, -1.0, 1.0, channels));
    let of_statistics = [(); 2].map(|()| Array::output(Storage::F32, channels));
    let label = |sample: usize| match sample {
        1 => IGNORED,
        _ => (sample * 7 % classes) as i32,
    };
    let labels: Vec<u32> = (0..samples).map(|sample| label(sample) as u32).collect();
    let labels_at = Memory::of_words(&labels);
    let (dy, pooled) = (Array::output(storage, count), Array::output(storage, samples * features));
    let [d_scores, scores] = [(); 2].map(|()| Array::output(storage, samples * classes));
    let loss = Array::output(Storage::F32, 1);
    let columns = channels / storage.vector();
    let groups = samples.div_ceil(KILN_PARTS_TOGETHER as usize);
    let partials = Memory::partials((samples + groups) * 2 * channels);
    let tickets = Memory::tickets(groups + 1);
    let (losses, loss_ticket) = (Memory::partials(samples), Memory::tickets(1));
    let mut params = KilnHeadParams {
        batch: KilnBatchNormParams {
            y: dy.address(),
            x: x.address(),
            mean: mean.address(),
            variance: variance.address(),
            d_mean: of_statistics[0].address(),
            d_variance: of_statistics[1].address(),
            d_gamma: held[0].address(),
            d_beta: held[1].address(),
            eps: EPS,
            source_scale: SOURCE_SCALE,
            store: if fused { KILN_STORE_ACCUMULATE } else { KILN_STORE_OVERWRITE },
            groups: KilnGroups {
                rows: (samples * pixels) as u32,
                columns: channels as u32,
                width: columns as u32,
                splits: samples as u32,
                partials: partials.address(),
                tickets: tickets.address(),
                ..KilnGroups::default()
            },
            ..KilnBatchNormParams::default()
        },
        loss: KilnCrossEntropyLoss {
            labels: labels_at.address(),
            scalars: gpu.scalars(),
            loss: loss.address(),
            partials: losses.address(),
            tickets: loss_ticket.address(),
            rows: samples as u32,
            classes: classes as u32,
            ignore_index: IGNORED,
            reduction: KILN_REDUCTION_MEAN,
            ..KilnCrossEntropyLoss::default()
        },
        weight: weight.address(),
        pooled: pooled.address(),
        d_scores: d_scores.address(),
        places: places.map(|extent| extent as u32),
        window: window.map(|extent| extent as u32),
        ..KilnHeadParams::default()
    };
    if fused {
        params.batch.gamma = gamma.address();
        params.batch.beta = beta.address();
        params.batch.residual = residual.address();
        (params.bias, params.scores) = (bias.address(), scores.address());
    }
    let shared = 4 * features.max(2 * storage.vector() * 256);
    gpu.launch(&kernel, Grid { shared, ..Grid::of(samples) }, &params);
    tickets.assert_zero(&kernel);
    loss_ticket.assert_zero(&kernel);
    let told = format!("{case:?} {fused}");
    let compare = |got: &[f64], want: &[Want], storage: Storage, roundings: f64| {
        gpu.ledger().compare(&kernel, &told, got, want, Exactness::new(storage, roundings));
    };
    let seen = |value: f64| if name == "tf32" { cut(value) } else { value };
    let nothing = Want { value: 0.0, magnitude: 0.0 };
    let scale = |channel: usize| 1.0 / (variance.values[channel] + f64::from(EPS)).sqrt();

    // Where each element's window is, as features are numbered.
    let feature_of = |at: usize| {
        let (channel, pixel) = (at % channels, at / channels % pixels);
        let place = pixel / width / window[0] * places[1] + pixel % width / window[1];
        at / channels / pixels * features + channel * spots + place
    };
    let y: Vec<f64> = (0..count)
        .map(|at| {
            let channel = at % channels;
            let normal = (x.values[at] - mean.values[channel]) * scale(channel);
            let value = match fused {
                true => normal * gamma.values[channel] + beta.values[channel] + residual.values[at],
                false => normal,
            };
            f64::from(storage.round(value.max(0.0) as f32))
        })
        .collect();
    let share = 1.0 / (window[0] * window[1]) as f64;
    let mut means = vec![nothing; samples * features];
    for (at, y) in y.iter().enumerate() {
        add(&mut means[feature_of(at)], y * share);
        // Where y is rounded, it may be to the other side.
        means[feature_of(at)].magnitude +=
            share * (4.0 + y * storage.rounding() / Storage::F32.rounding());
    }
    let got = pooled.read();
    compare(&got, &means, storage, 8.0);

    // From here on of what was stored.
    let mut want_scores = vec![nothing; samples * classes];
    for (at, sum) in want_scores.iter_mut().enumerate() {
        let (sample, class) = (at / classes, at % classes);
        for feature in 0..features {
            let of_weight = seen(weight.values[class * features + feature]);
            add(sum, seen(got[sample * features + feature]) * of_weight);
        }
        if fused {
            add(sum, bias.values[class]);
        }
    }
    let rounded: Vec<f64> = match fused {
        true => {
            compare(&scores.read(), &want_scores, storage, 8.0);
            scores.read()
        }
        false => want_scores.iter().map(|sum| f64::from(storage.round(sum.value as f32))).collect(),
    };
    let counted = (0..samples).filter(|&sample| label(sample) != IGNORED).count() as f64;
    let mut total = nothing;
    let mut gradients = Vec::new();
    for (sample, row) in rounded.chunks(classes).enumerate() {
        let sum: f64 = row.iter().map(|score| score.exp()).sum();
        let label = label(sample);
        if label != IGNORED {
            add(&mut total, (sum.ln() - row[label as usize]) / counted);
            // Scores that are not known to have been rounded to this side.
            total.magnitude += 16.0 * storage.rounding() / Storage::F32.rounding() / counted;
        }
        gradients.extend(row.iter().enumerate().map(|(class, score)| {
            let hit = f64::from(u8::from(class as i32 == label));
            let value =
                (score.exp() / sum - hit) * f64::from(crate::driver::SCALARS.share) / counted;
            let value = if label == IGNORED { 0.0 } else { value };
            let of_score = 4.0 * storage.rounding() / Storage::F32.rounding();
            Want { value, magnitude: (1.0 + of_score) / counted }
        }));
    }
    compare(&loss.read(), &[total], Storage::F32, 16.0);
    compare(&d_scores.read(), &gradients, storage, 16.0);

    let of_scores = d_scores.read();
    let mut of_means = vec![nothing; samples * features];
    for (at, sum) in of_means.iter_mut().enumerate() {
        let (sample, feature) = (at / features, at % features);
        for class in 0..classes {
            let of_weight = seen(weight.values[class * features + feature]);
            add(sum, seen(of_scores[sample * classes + class]) * of_weight);
        }
    }
    let passed = dy.read();
    let want: Vec<Want> = (0..count)
        .map(|at| {
            let Want { value, magnitude } = of_means[feature_of(at)];
            let twice =
                magnitude + 2.0 * value.abs() * storage.rounding() / Storage::F32.rounding();
            match (y[at] == 0.0, passed[at] == 0.0) {
                // Within rounding of 0 either is right.
                (true, false) | (false, true) if y[at].abs() < 1e-5 => Want::plain(passed[at]),
                (true, _) => nothing,
                (false, _) => {
                    let factor = share * f64::from(SOURCE_SCALE);
                    Want { value: value * factor, magnitude: twice * factor }
                }
            }
        })
        .collect();
    compare(&passed, &want, storage, 8.0);
    let begun = |value: &f64| Want::plain(if fused { *value } else { 0.0 });
    let [mut of_gamma, mut of_beta] =
        [&held[0], &held[1]].map(|held| held.values.iter().map(begun).collect::<Vec<_>>());
    let (mut of_mean, mut of_variance) = (vec![nothing; channels], vec![nothing; channels]);
    for (at, dy) in passed.iter().enumerate() {
        let channel = at % channels;
        let (scale, factor) = (scale(channel), if fused { gamma.values[channel] } else { 1.0 });
        let normal = (x.values[at] - mean.values[channel]) * scale;
        add(&mut of_gamma[channel], dy * normal);
        add(&mut of_beta[channel], *dy);
        add(&mut of_mean[channel], -dy * factor * scale);
        add(&mut of_variance[channel], -0.5 * dy * normal * factor * scale * scale);
    }
    for (got, want) in [
        (&held[0], &of_gamma),
        (&held[1], &of_beta),
        (&of_statistics[0], &of_mean),
        (&of_statistics[1], &of_variance),
    ] {
        compare(&got.read(), want, Storage::F32, 24.0);
    }
}
