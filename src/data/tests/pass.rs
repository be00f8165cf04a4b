// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;

/// Resumed runs rest on these numbers: a change here breaks them.
#[test]
fn draws_never_change() {
    let pass = Pass { seed: 0x0123_4567_89ab_cdef, epoch: 3 };
    let mut draws = pass.draws(41, 2);
    let bits: Vec<u32> = (0..6).map(|_| draws.bits()).collect();
    assert_eq!(bits, GOLDEN);
    // Whatever was drawn before, and bits beyond 32 of an index count.
    assert_eq!(pass.draws(41, 2).bits(), GOLDEN[0]);
    assert_ne!(pass.draws(41 + (1 << 32), 2).bits(), GOLDEN[0]);
}

/// From a separate implementation of Philox, checked with the known answers of Random123.
const GOLDEN: [u32; 6] =
    [0x26ea_a853, 0x68fb_70e3, 0x1cab_2b57, 0xe38c_8d0f, 0x2815_2f91, 0xb82c_31c7];

#[test]
fn seed_epoch_sample_and_stage_each_matter() {
    let first = |seed, epoch, index, stage| Pass { seed, epoch }.draws(index, stage).bits();
    let all = [
        first(1, 1, 1, 1),
        first(2, 1, 1, 1),
        first(1 + (1 << 32), 1, 1, 1),
        first(1, 2, 1, 1),
        first(1, 1, 2, 1),
        first(1, 1, 1, 2),
    ];
    for (place, bits) in all.iter().enumerate() {
        assert!(!all[..place].contains(bits), "{all:?}");
    }
}

#[test]
fn draws_are_uniform() {
    let pass = Pass { seed: 5, epoch: 0 };
    let mut counts = [0_i32; 10];
    let (mut sum, mut yes) = (0.0, 0_i32);
    for index in 0..5000 {
        let mut draws = pass.draws(index, 0);
        for _ in 0..2 {
            counts[draws.below(10) as usize] += 1;
            let unit = draws.unit();
            assert!((0.0..1.0).contains(&unit));
            sum += f64::from(unit);
            yes += i32::from(draws.chance(0.25));
        }
    }
    // 1000 expected in each; the standard deviation is 30.
    assert!(counts.iter().all(|count| (count - 1000).abs() < 150), "{counts:?}");
    assert!((sum / 10_000.0 - 0.5).abs() < 0.015, "{sum}");
    assert!((yes - 2500).abs() < 220, "{yes}");
    let mut draws = pass.draws(0, 0);
    assert_eq!((draws.below(0), draws.below(1)), (0, 0));
    assert!(!draws.chance(0.0) && draws.chance(1.0));
}
