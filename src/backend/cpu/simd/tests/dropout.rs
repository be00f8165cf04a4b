// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::dropout;
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
