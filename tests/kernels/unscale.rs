// SPDX-License-Identifier: MIT OR Apache-2.0
//! unscale: what is done to gradients of a scaled loss, to the scale, and to the rates of an update.

use crate::abi::*;
use crate::driver::{scalars_memory, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

const KERNEL: &str = "unscale_f32";

/// Elements of each stretch, and blocks that look at them.
const PIECES: [(usize, usize); 3] = [(5, 1), (4099, 3), (64, 2)];

/// What the device keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    updates: u32,
    found_inf: u32,
    scale: f32,
    growth: u32,
    skipped: u32,
}

/// One update.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// A number in the place of an element of a stretch.
    put: Option<(usize, usize, f32)>,
    max_norm: f32,
    interval: u32,
    before: State,
    after: State,
    /// Which of the given rates hold: 0 for those that stand among the scalars.
    rates: usize,
}

pub(crate) fn run(gpu: &Gpu) {
    let before = State { updates: 9, found_inf: 0, scale: 1024.0, growth: 3, skipped: 7 };
    let after = State { growth: 4, ..before };
    let plain = Case { put: None, max_norm: 0.0, interval: 2000, before, after, rates: 0 };
    let skipped = State { found_inf: 1, scale: 512.0, growth: 0, skipped: 8, ..before };
    let least = State { scale: f32::MIN_POSITIVE, ..before };
    let most = State { scale: 2f32.powi(127), ..before };
    let mut cases = vec![
        plain,
        Case { max_norm: 0.25, ..plain },
        Case { max_norm: 1e9, ..plain },
        // It grows after as many updates as it says, and what was skipped before does not matter.
        Case { interval: 4, after: State { scale: 2048.0, growth: 0, ..before }, ..plain },
        Case { interval: 4, before: most, after: State { growth: 0, ..most }, ..plain },
        // A scale that stays.
        Case { interval: 0, after: before, ..plain },
        Case {
            interval: 0,
            put: Some((1, 7, f32::NAN)),
            after: State { scale: 1024.0, growth: 3, ..skipped },
            ..plain
        },
        Case {
            put: Some((0, 0, f32::INFINITY)),
            before: least,
            after: State { scale: f32::MIN_POSITIVE, ..skipped },
            ..plain
        },
    ];
    // Wherever it is and whatever it is.
    for (piece, element) in [(0, 4), (1, 0), (1, 4098), (2, 63)] {
        for number in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let put = Some((piece, element, number));
            cases.push(Case { put, max_norm: 1.0, after: skipped, ..plain });
        }
    }
    // The host knows of the first 5 that were skipped.
    for (known, rates) in [(7, 0), (6, 1), (4, 3), (3, 4)] {
        let before = State { skipped: 7, ..before };
        run_case(gpu, Case { before, after, rates, ..plain }, known);
    }
    for case in cases {
        run_case(gpu, case, case.before.skipped);
    }
    // Large numbers are finite, though their squares are not.
    let large =
        Case { put: Some((1, 5, 1e30)), before: State { scale: 2f32.powi(80), ..before }, ..plain };
    run_case(gpu, Case { after: State { growth: 4, ..large.before }, ..large }, 7);
}

fn run_case(gpu: &Gpu, case: Case, known: u32) {
    let mut values: Vec<Vec<f32>> =
        PIECES.iter().map(|&(count, _)| Numbers::new(count).nonzero(count)).collect();
    if let Some((piece, element, number)) = case.put {
        values[piece][element] = number;
    }
    let arrays: Vec<Array> = values.iter().map(|x| Array::new(Storage::F32, x)).collect();
    let all: usize = PIECES.iter().map(|(_, blocks)| blocks).sum();
    let [coefficient, overflow, norm] = [0; 3].map(|_| Array::output(Storage::F32, 1));
    let (partials, tickets) = (Memory::partials(2 * all), Memory::tickets(1));
    let given = KilnScalars {
        learning_rate: 0.5,
        momentum: 0.25,
        one_minus_momentum: 0.75,
        share: 3.0,
        exact_momentum: 0.25,
        pass: 6,
        sample_offset: 8,
        average: 0.125,
    };
    let (scalars, later) = (scalars_memory(&given), Memory::of_words(&later(known)));
    let progress = Memory::of_words(&words(case.before));
    let mut first_block = 0;
    for (x, &(count, blocks)) in arrays.iter().zip(&PIECES) {
        let params = KilnUnscaleParams {
            x: x.address(),
            coefficient: coefficient.address(),
            overflow: overflow.address(),
            norm: if case.max_norm == 0.0 { Default::default() } else { norm.address() },
            partials: partials.address(),
            tickets: tickets.address(),
            progress: progress.address(),
            scalars: scalars.address(),
            later: later.address(),
            count: count as u32,
            first_block,
            blocks: all as u32,
            max_norm: case.max_norm,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: case.interval,
        };
        gpu.launch(KERNEL, Grid::of(blocks), &params);
        first_block += blocks as u32;
    }
    tickets.assert_zero(KERNEL);
    let what = format!("{case:?}");
    let bytes =
        |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
    assert_eq!(progress.read(), bytes(&words(case.after)), "{what}");
    let found = case.after.found_inf != 0;
    assert_eq!(
        overflow.read()[0],
        if found { f64::from(case.before.scale) } else { 0.0 },
        "{what}"
    );
    let expected = match case.rates {
        0 => given,
        place => rates(place),
    };
    assert_eq!(scalars.read(), scalars_memory(&expected).read(), "{what}");

    let scale = f64::from(case.before.scale);
    let square: f64 = values.iter().flatten().map(|&x| (f64::from(x) / scale).powi(2)).sum();
    let clip = match case.max_norm {
        0.0 => 1.0,
        most => (f64::from(most) / (square.sqrt() + 1e-6)).min(1.0),
    };
    let exactness = Exactness::new(Storage::F32, 16.0);
    let want = if found { 0.0 } else { clip / scale };
    let got = coefficient.read();
    gpu.ledger().compare(KERNEL, &what, &got, &[Want::plain(want)], exactness);
    if case.max_norm != 0.0 && !found {
        let want = [Want::plain(square.sqrt())];
        gpu.ledger().compare(KERNEL, &format!("norm, {what}"), &norm.read(), &want, exactness);
    }
}

fn words(state: State) -> [u32; 8] {
    let State { updates, found_inf, scale, growth, skipped } = state;
    [updates, found_inf, scale.to_bits(), growth, skipped, 0, 0, 0]
}

/// The scalars of an update before which so many more were skipped than the host knew of.
fn rates(place: usize) -> KilnScalars {
    let number = place as f32;
    KilnScalars {
        learning_rate: number,
        momentum: 10.0 + number,
        one_minus_momentum: 20.0 + number,
        share: 3.0,
        exact_momentum: 1.0 / f64::from(number),
        pass: 6,
        sample_offset: 8,
        average: 30.0 + number,
    }
}

/// A `KilnLaterRates`.
fn later(known: u32) -> Vec<u32> {
    let mut words = vec![known];
    for place in 1..=KILN_LATER_RATES as usize {
        let own = rates(place);
        let numbers = [own.learning_rate, own.momentum, own.one_minus_momentum, own.average];
        words.extend(numbers.map(f32::to_bits));
        let exact = own.exact_momentum.to_ne_bytes();
        words.extend(exact.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)));
    }
    words
}
