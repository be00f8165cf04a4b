// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums, extremes and their places along the middle of three extents.

use crate::abi::*;
use crate::driver::{divider, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

const THREADS: usize = 256;

/// Outer, reduced and inner extent.
type Middle = [usize; 3];

pub(crate) fn run(gpu: &Gpu) {
    let few: &[Middle] = &[[1, 200, 1], [3, 16, 1], [2, 7, 8], [5, 3, 2]];
    let more: &[Middle] =
        &[[1, 1, 1], [1, 5000, 1], [70, 64, 1], [300, 9, 1], [1, 40, 264], [9, 33, 16], [4, 0, 8]];
    for &middle in few.iter().chain(gpu.cases(more, &[])) {
        for storage in Storage::ALL {
            let [_, reduced, inner] = middle;
            let vector = storage.vector();
            let mut families = vec!["fold_any"];
            families.extend((inner == 1 && reduced % vector == 0).then_some("fold_rows"));
            families.extend((inner % vector == 0).then_some("fold_columns"));
            for (turns, splits) in [(1, 1), (8, 1), (32, 3), (256, 1), (256, 5)] {
                for family in &families {
                    for function in [KILN_FOLD_SUM, KILN_FOLD_MAX, KILN_FOLD_MIN] {
                        fold(gpu, family, function, storage, middle, [turns, splits]);
                    }
                }
                if reduced > 0 {
                    for function in [KILN_FOLD_MAX, KILN_FOLD_MIN] {
                        place(gpu, function, storage, middle, [turns, splits]);
                    }
                }
            }
        }
    }
    sums_of_infinity(gpu);
}

/// What a launch of `lines` per thread works with.
struct Launch {
    params: KilnFoldParams,
    grid: Grid,
    partials: Memory,
    places: Memory,
    tickets: Memory,
}

fn launch(
    [outer, reduced, inner]: Middle,
    function: KilnFold,
    per_thread: usize,
    [turns, splits]: [usize; 2],
) -> Launch {
    let lines = outer * inner;
    let blocks = (lines / per_thread).div_ceil(THREADS / turns);
    let partials = Memory::partials(lines * splits);
    let places = Memory::partials(lines * splits);
    let tickets = Memory::tickets(blocks);
    let mut params = KilnFoldParams {
        function,
        lines: lines as u32,
        reduced: reduced as u32,
        inner: inner as u32,
        turns: turns as u32,
        splits: splits as u32,
        columns: divider(inner / per_thread),
        ..KilnFoldParams::default()
    };
    if splits > 1 {
        params.partials = partials.address();
        params.places = places.address();
        params.tickets = tickets.address();
    }
    let grid = Grid { blocks: [blocks, 1, splits], ..Grid::of(1) };
    Launch { params, grid, partials, places, tickets }
}

/// Twice, since tickets must be as they were.
fn launch_twice(gpu: &Gpu, kernel: &str, of: &Launch) {
    gpu.launch(kernel, of.grid, &of.params);
    gpu.launch(kernel, of.grid, &of.params);
    of.tickets.assert_zero(kernel);
    assert_eq!(of.partials.read().len(), of.places.read().len());
}

/// The elements that each result is made of.
fn lines([outer, reduced, inner]: Middle, x: &[f64]) -> Vec<Vec<f64>> {
    let line = |line: usize| {
        let first = line / inner * reduced * inner + line % inner;
        (0..reduced).map(|r| x[first + r * inner]).collect()
    };
    (0..outer * inner).map(line).collect()
}

/// Numbers of which many are equal; every hundredth or so is NaN, if it may be.
fn numbers(storage: Storage, count: usize, with_nan: bool) -> Array {
    let mut numbers = Numbers::new(count);
    let value = |x: f32| match x {
        x if with_nan && x > 0.98 => f32::NAN,
        x => (8.0 * x).round(),
    };
    let values: Vec<f32> = numbers.between(-1.0, 1.0, count).into_iter().map(value).collect();
    Array::new(storage, &values)
}

fn fold(
    gpu: &Gpu,
    family: &str,
    function: KilnFold,
    storage: Storage,
    middle: Middle,
    shares: [usize; 2],
) {
    let [outer, reduced, inner] = middle;
    let is_sum = function == KILN_FOLD_SUM;
    let x = numbers(storage, outer * reduced * inner, !is_sum);
    let y = Array::output(Storage::F32, outer * inner);
    let per_thread = if family == "fold_columns" { storage.vector() } else { 1 };
    let mut of = launch(middle, function, per_thread, shares);
    (of.params.x, of.params.y) = (x.address(), y.address());
    let kernel = format!("{family}_{}", storage.name());
    launch_twice(gpu, &kernel, &of);
    let want = |line: Vec<f64>| match function {
        KILN_FOLD_SUM => {
            Want { value: line.iter().sum(), magnitude: line.iter().map(|x| x.abs()).sum() }
        }
        _ if line.iter().any(|x| x.is_nan()) => Want::plain(f64::NAN),
        KILN_FOLD_MAX => Want::plain(line.into_iter().fold(f64::NEG_INFINITY, f64::max)),
        _ => Want::plain(line.into_iter().fold(f64::INFINITY, f64::min)),
    };
    let want: Vec<Want> = lines(middle, &x.values).into_iter().map(want).collect();
    let case = format!("{middle:?}, function {function}, turns and splits {shares:?}");
    let exactness = Exactness::new(Storage::F32, if is_sum { 8.0 } else { 0.0 });
    gpu.ledger().compare(&kernel, &case, &y.read(), &want, exactness);
}

/// NaN is the most extreme number, and of equal ones the first counts.
fn place(gpu: &Gpu, function: KilnFold, storage: Storage, middle: Middle, shares: [usize; 2]) {
    let [outer, reduced, inner] = middle;
    let x = numbers(storage, outer * reduced * inner, true);
    let y = Memory::of_words(&vec![u32::MAX; outer * inner]);
    let mut of = launch(middle, function, 1, shares);
    (of.params.x, of.params.y) = (x.address(), y.address());
    let kernel = format!("place_{}", storage.name());
    launch_twice(gpu, &kernel, &of);
    let first = |line: Vec<f64>| {
        let mut best = 0;
        for (place, &value) in line.iter().enumerate() {
            let is_beyond = match function {
                KILN_FOLD_MAX => value > line[best],
                _ => value < line[best],
            };
            if !line[best].is_nan() && (value.is_nan() || is_beyond) {
                best = place;
            }
        }
        best as u32
    };
    let places = lines(middle, &x.values).into_iter().map(first);
    let want: Vec<u8> = places.flat_map(u32::to_ne_bytes).collect();
    let case = format!("{middle:?}, function {function}, turns and splits {shares:?}");
    gpu.ledger().compare_bytes(&kernel, &case, &y.read(), &want);
}

/// A sum that grows beyond the largest number is infinite, and stays so.
fn sums_of_infinity(gpu: &Gpu) {
    let x = Array::new(Storage::F32, &[3e38, 3e38, 1.0, 1.0]);
    let y = Array::output(Storage::F32, 1);
    let mut of = launch([1, 4, 1], KILN_FOLD_SUM, 1, [1, 1]);
    (of.params.x, of.params.y) = (x.address(), y.address());
    launch_twice(gpu, "fold_any_f32", &of);
    assert_eq!(y.read(), [f64::INFINITY]);
}
