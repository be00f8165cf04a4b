// SPDX-License-Identifier: MIT OR Apache-2.0
//! blend and blend_ragged: places of many terms, of one and of none.

use crate::abi_images::*;
use crate::driver::{divider, Gpu, Grid};
use crate::float::{Numbers, Storage};
use crate::ledger::{Exactness, Want};
use crate::memory::{Array, Memory};
use crate::pooling::add;

pub(crate) fn run(gpu: &Gpu) {
    for storage in Storage::ALL {
        for &[outer, extent, inner] in
            gpu.cases(&[[3, 5, 16], [7, 9, 1], [2, 4, 40]], &[[3, 5, 16]])
        {
            blend(gpu, storage, [outer, extent, inner], "");
            blend(gpu, storage, [outer, extent, inner], "_ragged");
        }
    }
}

fn blend(gpu: &Gpu, storage: Storage, [outer, extent, inner]: [usize; 3], variant: &str) {
    let step = if variant.is_empty() { storage.vector() } else { 1 };
    if inner % step != 0 {
        return;
    }
    let mut numbers = Numbers::new(extent + inner);
    let places: Vec<Vec<(usize, f32)>> = (0..extent + 3)
        .map(|place| {
            (0..place % 4).map(|_| (numbers.below(extent), numbers.next() - 0.5)).collect()
        })
        .collect();
    let (mut starts, mut table) = (vec![0u32], Vec::new());
    for (from, weight) in places.iter().flatten() {
        table.extend([*from as u32, weight.to_bits()]);
    }
    for place in &places {
        starts.push(starts[starts.len() - 1] + place.len() as u32);
    }
    let (starts, table) = (Memory::of_words(&starts), Memory::of_words(&table));
    let count = outer * extent * inner;
    let x = Array::new(storage, &Numbers::new(count).between(-1.0, 1.0, count));
    let y = Array::output(storage, outer * places.len() * inner);
    let params = KilnBlendParams {
        y: y.address(),
        x: x.address(),
        starts: starts.address(),
        terms: table.address(),
        outer: outer as u32,
        extent: extent as u32,
        chunks: divider(inner / step),
        places: divider(places.len()),
    };
    let kernel = format!("blend{variant}_{}", storage.name());
    let threads = outer * places.len() * (inner / step);
    gpu.launch(&kernel, Grid::of(threads.div_ceil(256)), &params);
    let mut wanted = Vec::new();
    for block in 0..outer {
        for place in &places {
            for at in 0..inner {
                let mut sum = Want { value: 0.0, magnitude: 0.0 };
                for (from, weight) in place {
                    let value = x.values[(block * extent + from) * inner + at];
                    add(&mut sum, f64::from(*weight) * value);
                }
                wanted.push(sum);
            }
        }
    }
    let case = format!("{outer} x {extent} x {inner}");
    let exactness = Exactness::new(storage, 8.0);
    gpu.ledger().compare(&kernel, &case, &y.read(), &wanted, exactness);
}
