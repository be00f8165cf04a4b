// SPDX-License-Identifier: MIT OR Apache-2.0
//! sum_rows, sum_middle, sum_middle_ragged and square_sum.

use crate::abi::*;
use crate::driver::{Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

pub(crate) fn run(gpu: &Gpu) {
    for storage in Storage::ALL {
        for &columns in gpu.cases(&[1, 31, 33, 64, 65, 1000, 2049], &[1, 33, 1000]) {
            rows(gpu, storage, columns);
        }
        for &inner in gpu.cases(&[1, 31, 33, 64, 65, 72, 136, 1000], &[33, 72, 264]) {
            for &(reduced, splits) in gpu.cases(&[(1, 1), (50, 1), (50, 4), (7, 3)], &[(50, 3)]) {
                if inner % storage.vector() == 0 {
                    middle(gpu, "sum_middle", storage, [2, reduced, inner], splits);
                }
                middle(gpu, "sum_middle_ragged", storage, [2, reduced, inner], splits);
            }
        }
    }
    for &(count, blocks) in
        gpu.cases(&[(1, 1), (5, 3), (4096, 1), (50_001, 7)], &[(5, 3), (4099, 2)])
    {
        square_sum(gpu, count, blocks);
    }
    square_sum_of_pieces(gpu);
}

fn rows(gpu: &Gpu, storage: Storage, columns: usize) {
    const ROWS: usize = 3;
    let x = Array::new(storage, &Numbers::new(columns).between(-1.0, 1.0, ROWS * columns));
    let y = Array::output(Storage::F32, ROWS);
    let params = KilnReduceParams {
        y: y.address(),
        x: x.address(),
        outer: ROWS as u32,
        reduced: columns as u32,
        inner: 1,
        splits: 1,
        scale: 2.0,
        store: KILN_STORE_OVERWRITE,
        ..KilnReduceParams::default()
    };
    let kernel = format!("sum_rows_{}", storage.name());
    gpu.launch(&kernel, Grid::of(ROWS), &params);
    let want: Vec<Want> =
        x.values.chunks(columns).map(|row| sum(row.iter().map(|x| 2.0 * x))).collect();
    let exactness = Exactness::new(Storage::F32, 8.0);
    gpu.ledger().compare(&kernel, &format!("{columns} columns"), &y.read(), &want, exactness);
}

/// Twice, since tickets must be as they were; added to what is there.
fn middle(gpu: &Gpu, family: &str, storage: Storage, shape: [usize; 3], splits: usize) {
    let [outer, reduced, inner] = shape;
    let mut numbers = Numbers::new(inner + reduced);
    let x = Array::new(storage, &numbers.between(-1.0, 1.0, outer * reduced * inner));
    let y = Array::new(Storage::F32, &numbers.between(-1.0, 1.0, outer * inner));
    let blocks = [inner.div_ceil(32 * storage.vector()), outer, splits];
    let partials = Memory::partials(splits * outer * inner);
    let tickets = Memory::tickets(blocks[0] * outer);
    let mut params = KilnReduceParams {
        y: y.address(),
        x: x.address(),
        outer: outer as u32,
        reduced: reduced as u32,
        inner: inner as u32,
        splits: splits as u32,
        scale: 1.0,
        store: KILN_STORE_ACCUMULATE,
        ..KilnReduceParams::default()
    };
    if splits > 1 {
        (params.partials, params.tickets) = (partials.address(), tickets.address());
    }
    let kernel = format!("{family}_{}", storage.name());
    let grid = Grid { blocks, ..Grid::of(1) };
    gpu.launch(&kernel, grid, &params);
    gpu.launch(&kernel, grid, &params);
    tickets.assert_zero(&kernel);
    let element = |at: usize| {
        let first = at / inner * reduced * inner + at % inner;
        let column = (0..reduced).map(|r| 2.0 * x.values[first + r * inner]);
        sum(column.chain([y.values[at]]))
    };
    let want: Vec<Want> = (0..outer * inner).map(element).collect();
    let case = format!("{shape:?} in {splits} parts");
    gpu.ledger().compare(&kernel, &case, &y.read(), &want, Exactness::new(Storage::F32, 8.0));
}

/// Norms above and below the limit; twice, since tickets must be as they were.
fn square_sum(gpu: &Gpu, count: usize, blocks: usize) {
    let x = Array::new(Storage::F32, &Numbers::new(count).nonzero(count));
    let (norm, coefficient) = (Array::output(Storage::F32, 1), Array::output(Storage::F32, 1));
    let partials = Memory::partials(blocks);
    let tickets = Memory::tickets(1);
    let square: f64 = x.values.iter().map(|x| x * x).sum();
    for max_norm in [1000.0, 0.1] {
        let params = KilnNormParams {
            x: x.address(),
            norm: norm.address(),
            coefficient: coefficient.address(),
            partials: partials.address(),
            tickets: tickets.address(),
            count: count as u32,
            first_block: 0,
            blocks: blocks as u32,
            max_norm,
        };
        let kernel = "square_sum_f32";
        gpu.launch(kernel, Grid::of(blocks), &params);
        tickets.assert_zero(kernel);
        let want = [square.sqrt(), (f64::from(max_norm) / (square.sqrt() + 1e-6)).min(1.0)];
        let got = [norm.read()[0], coefficient.read()[0]];
        let case = format!("{count} numbers, {blocks} blocks");
        let exactness = Exactness::new(Storage::F32, 16.0);
        gpu.ledger().compare(kernel, &case, &got, &want.map(Want::plain), exactness);
    }
}

/// A norm of what lies in several places: a launch for each, and the last block of all adds up.
fn square_sum_of_pieces(gpu: &Gpu) {
    let (kernel, pieces) = ("square_sum_f32", [(5, 1), (4099, 3), (64, 2)]);
    let arrays: Vec<Array> = pieces
        .iter()
        .map(|&(count, _)| Array::new(Storage::F32, &Numbers::new(count).nonzero(count)))
        .collect();
    let all: usize = pieces.iter().map(|(_, blocks)| blocks).sum();
    let (norm, coefficient) = (Array::output(Storage::F32, 1), Array::output(Storage::F32, 1));
    let (partials, tickets) = (Memory::partials(all), Memory::tickets(1));
    for _ in 0..2 {
        let mut first_block = 0;
        for (x, &(count, blocks)) in arrays.iter().zip(&pieces) {
            let params = KilnNormParams {
                x: x.address(),
                norm: norm.address(),
                coefficient: coefficient.address(),
                partials: partials.address(),
                tickets: tickets.address(),
                count: count as u32,
                first_block,
                blocks: all as u32,
                max_norm: 0.5,
            };
            gpu.launch(kernel, Grid::of(blocks), &params);
            first_block += blocks as u32;
        }
        tickets.assert_zero(kernel);
        let square: f64 = arrays.iter().flat_map(|x| &x.values).map(|x| x * x).sum();
        let want = [square.sqrt(), (0.5 / (square.sqrt() + 1e-6)).min(1.0)].map(Want::plain);
        let got = [norm.read()[0], coefficient.read()[0]];
        let exactness = Exactness::new(Storage::F32, 16.0);
        gpu.ledger().compare(kernel, "three pieces", &got, &want, exactness);
    }
}

fn sum(terms: impl Iterator<Item = f64>) -> Want {
    let add = |sum: Want, x: f64| Want { value: sum.value + x, magnitude: sum.magnitude + x.abs() };
    terms.fold(Want::plain(0.0), add)
}
