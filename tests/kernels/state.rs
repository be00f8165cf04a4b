// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters and running statistics.

use crate::abi::*;
use crate::driver::{Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};

pub(crate) fn run(gpu: &Gpu) {
    for count in [0, 41, i64::from(u32::MAX), i64::MAX - 1] {
        count_pass(gpu, count);
    }
    for &elements in gpu.cases(&[1, 31, 256, 257, 1000], &[257]) {
        for count in [None, Some(1), Some(3), Some(1 << 40)] {
            running_average(gpu, elements, count);
        }
    }
}

fn count_pass(gpu: &Gpu, count: i64) {
    let state = Memory::of_bytes(&count.to_ne_bytes());
    let params = KilnStateParams { state: state.address(), ..KilnStateParams::default() };
    gpu.launch("count_pass_i64", Grid::of(1), &params);
    let want = (count + 1).to_ne_bytes();
    gpu.ledger().compare_bytes("count_pass_i64", &format!("{count}"), &state.read(), &want);
}

fn running_average(gpu: &Gpu, elements: usize, count: Option<i64>) {
    let mut numbers = Numbers::new(elements);
    let state = Array::new(Storage::F32, &numbers.between(-4.0, 4.0, elements));
    let statistic = Array::new(Storage::F32, &numbers.between(-2.0, 6.0, elements));
    let counter = count.map(|count| Memory::of_bytes(&count.to_ne_bytes()));
    let (kept, taken) = (0.9f32, 0.125f32);
    let params = KilnStateParams {
        state: state.address(),
        statistic: statistic.address(),
        count: counter.as_ref().map_or(Default::default(), Memory::address),
        elements: elements as u32,
        kept,
        taken,
    };
    let (before, batch) = (state.values.clone(), &statistic.values);
    gpu.launch("running_average_f32", Grid::of(elements.div_ceil(256)), &params);
    let (kept, taken) = (f64::from(kept), f64::from(taken));
    let want: Vec<Want> = before
        .iter()
        .zip(batch)
        .map(|(state, statistic)| {
            let value = match count {
                None => kept * state + taken * statistic,
                Some(count) => state + (taken * statistic - state) / count as f64,
            };
            Want { value, magnitude: state.abs() + statistic.abs() }
        })
        .collect();
    let what = format!("{elements} numbers, count {count:?}");
    let exactness = Exactness::new(Storage::F32, 4.0);
    gpu.ledger().compare("running_average_f32", &what, &state.read(), &want, exactness);
}
