// SPDX-License-Identifier: MIT OR Apache-2.0
//! softmax and log_softmax with their gradients, cached and strided.

use crate::abi::*;
use crate::driver::{Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Address, Array};

const ROWS: usize = 11;

pub(crate) fn run(gpu: &Gpu) {
    for storage in Storage::ALL {
        for &columns in
            gpu.cases(&[1, 3, 31, 33, 64, 65, 72, 136, 1000, 1024, 1500], &[33, 72, 1024])
        {
            for logarithm in [false, true] {
                let aligned = columns % storage.vector() == 0;
                if aligned && columns <= KILN_ROW_REGISTERS as usize {
                    forward(gpu, "softmax", storage, columns, logarithm);
                }
                if aligned {
                    gradient(gpu, "softmax_gradient", storage, columns, logarithm);
                }
                forward(gpu, "softmax_strided", storage, columns, logarithm);
                gradient(gpu, "softmax_gradient_strided", storage, columns, logarithm);
            }
        }
    }
}

/// In place where the logarithm is wanted.
fn forward(gpu: &Gpu, family: &str, storage: Storage, columns: usize, logarithm: bool) {
    let x = Array::new(storage, &Numbers::new(columns).between(-5.0, 5.0, ROWS * columns));
    let separate = Array::output(storage, ROWS * columns);
    let y = if logarithm { &x } else { &separate };
    let params = KilnSoftmaxParams {
        out: y.address(),
        a: x.address(),
        dy: Address::default(),
        rows: ROWS as u32,
        columns: columns as u32,
        logarithm: u32::from(logarithm),
    };
    let kernel = format!("{family}_{}", storage.name());
    gpu.launch(&kernel, Grid::of(ROWS.div_ceil(8)), &params);
    let row = |row: &[f64]| {
        let log_sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
        let want = move |&x: &f64| match logarithm {
            true => Want { value: x - log_sum, magnitude: x.abs() + log_sum.abs() + 1.0 },
            false => Want::plain((x - log_sum).exp()),
        };
        row.iter().map(want).collect::<Vec<_>>()
    };
    let want: Vec<Want> = x.values.chunks(columns).flat_map(row).collect();
    let case = format!("{columns} columns, logarithm: {logarithm}");
    gpu.ledger().compare(&kernel, &case, &y.read(), &want, Exactness::new(storage, 16.0));
}

/// In place where the logarithm is wanted. Any numbers will do as outputs of the forward pass.
fn gradient(gpu: &Gpu, family: &str, storage: Storage, columns: usize, logarithm: bool) {
    let mut numbers = Numbers::new(columns);
    let (low, high) = if logarithm { (-5.0, -0.1) } else { (0.0, 1.0) };
    let y = Array::new(storage, &numbers.between(low, high, ROWS * columns));
    let dy = Array::new(storage, &numbers.between(-1.0, 1.0, ROWS * columns));
    let separate = Array::output(storage, ROWS * columns);
    let dx = if logarithm { &dy } else { &separate };
    let params = KilnSoftmaxParams {
        out: dx.address(),
        a: y.address(),
        dy: dy.address(),
        rows: ROWS as u32,
        columns: columns as u32,
        logarithm: u32::from(logarithm),
    };
    let kernel = format!("{family}_{}", storage.name());
    gpu.launch(&kernel, Grid::of(ROWS.div_ceil(8)), &params);
    let row = |(y, dy): (&[f64], &[f64])| {
        let terms = y.iter().zip(dy).map(|(y, dy)| if logarithm { *dy } else { y * dy });
        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
        let want = |(&y, &dy): (&f64, &f64)| match logarithm {
            true => Want { value: dy - y.exp() * sum, magnitude: dy.abs() + y.exp() * size },
            false => Want { value: y * (dy - sum), magnitude: y * (dy.abs() + size) },
        };
        y.iter().zip(dy).map(want).collect::<Vec<_>>()
    };
    let rows = y.values.chunks(columns).zip(dy.values.chunks(columns));
    let want: Vec<Want> = rows.flat_map(row).collect();
    let case = format!("{columns} columns, logarithm: {logarithm}");
    gpu.ledger().compare(&kernel, &case, &dx.read(), &want, Exactness::new(storage, 8.0));
}
