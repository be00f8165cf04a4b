// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{dropout, dropout_columns, Columns};
use super::*;
use crate::philox::{keep, MaskKey};

#[test]
fn masks_are_the_scalar_masks_bit_by_bit() {
    for (elements, samples, drop15) in [
        (1, 70, 16384),
        (10, 33, 9830),
        (31, 9, 1),
        (128, 5, 32768),
        (1000, 7, 0),
        (4099, 3, 26214),
    ] {
        let key = MaskKey { seed: u64::MAX - 5, site: 0xdead_beef, step: 1 << 31 | 3, drop15 };
        let first = u32::MAX - 1;
        let x = vec![1.0; elements * samples];
        everywhere(|pool, isa| {
            let mut y = vec![f32::NAN; x.len()];
            dropout(pool, isa, &key, first, elements, &x, &mut y);
            for (index, &got) in y.iter().enumerate() {
                let sample = first.wrapping_add((index / elements) as u32);
                let kept = keep(&key, sample, (index % elements) as u32);
                assert_eq!(got, if kept { key.scale() } else { 0.0 }, "{isa} element {index}");
            }
        });
    }
}

#[test]
fn large_tensors_take_the_streaming_path_to_the_same_values() {
    let key = MaskKey { seed: 3, site: 4, step: 5, drop15: 1 << 14 };
    // Three elements over; only what begins at a whole vector is streamed.
    let elements = (4 << 20) + 3;
    let x = noise(elements, 8);
    let want: Vec<f32> = (0..elements)
        .map(|index| if keep(&key, 9, index as u32) { x[index] * 2.0 } else { 0.0 })
        .collect();
    for isa in Isa::available() {
        let mut memory = vec![f32::NAN; elements + 17];
        let aligned = memory.as_ptr().align_offset(64);
        for (threads, start) in [(2, aligned), (1, aligned), (2, aligned + 1)] {
            let y = &mut memory[start..start + elements];
            y.fill(f32::NAN);
            dropout(&pool(threads), isa, &key, 9, elements, &x, y);
            let wrong = (0..elements).find(|&index| y[index] != want[index]);
            assert_eq!(wrong, None, "{isa}, {threads} threads, {} off", start - aligned);
        }
    }
}

#[test]
fn whole_columns_of_a_sample_are_kept_or_dropped() {
    for (rows_per_sample, columns, samples, drop15) in
        [(9, 64, 5, 16384), (5, 3, 7, 9830), (300, 1, 9, 16384), (1, 131, 4, 26214), (4, 16, 3, 0)]
    {
        let key = MaskKey { seed: 77, site: 0xdead_beef, step: 12, drop15 };
        let (first, matrix) = (u32::MAX - 1, Columns { rows_per_sample, columns });
        let x = noise(samples * rows_per_sample * columns, 4);
        everywhere(|pool, isa| {
            let mut y = vec![f32::NAN; x.len()];
            dropout_columns(pool, isa, &key, first, matrix, &x, &mut y);
            for (index, &got) in y.iter().enumerate() {
                let sample = first.wrapping_add((index / (rows_per_sample * columns)) as u32);
                let kept = keep(&key, sample, (index % columns) as u32);
                let wanted = if kept { x[index] * key.scale() } else { 0.0 };
                assert_eq!(got, wanted, "{isa} {matrix:?} element {index}");
            }
        });
    }
}

#[test]
fn columns_of_large_tensors_take_the_streaming_path_to_the_same_values() {
    let key = MaskKey { seed: 3, site: 4, step: 5, drop15: 1 << 14 };
    let matrix = Columns { rows_per_sample: 1 << 16, columns: 64 };
    let x = noise(matrix.rows_per_sample * matrix.columns, 8);
    for isa in Isa::available() {
        let mut memory = vec![f32::NAN; x.len() + 17];
        let aligned = memory.as_ptr().align_offset(64);
        for start in [aligned, aligned + 1] {
            let y = &mut memory[start..start + x.len()];
            dropout_columns(&pool(2), isa, &key, 9, matrix, &x, y);
            let right = |index: usize| match keep(&key, 9, (index % 64) as u32) {
                true => x[index] * 2.0,
                false => 0.0,
            };
            let wrong = (0..x.len()).find(|&index| y[index] != right(index));
            assert_eq!(wrong, None, "{isa}, {} off", start - aligned);
        }
    }
}
