// SPDX-License-Identifier: MIT OR Apache-2.0

use crate::data::random::{below, choose_front, permutation, stream, Purpose};

/// Resumed runs rest on these orders: a change here breaks them. The values come from a separate
/// implementation of ChaCha8 and of the draws.
#[test]
fn permutations_never_change() {
    let order = |seed, epoch| permutation(&mut stream(Purpose::EpochOrder, seed, epoch), 10);
    assert_eq!(order(7, 0), [0, 1, 9, 6, 8, 7, 3, 4, 2, 5]);
    assert_eq!(order(7, 1), [7, 1, 5, 8, 9, 0, 6, 2, 3, 4]);
    assert_eq!(order(8, 0), [3, 0, 6, 2, 9, 1, 7, 5, 4, 8]);
}

#[test]
fn purposes_do_not_share_a_stream() {
    let first = |purpose| permutation(&mut stream(purpose, 1, 0), 100);
    assert_ne!(first(Purpose::EpochOrder), first(Purpose::ShuffledSet));
    assert_ne!(first(Purpose::EpochOrder), first(Purpose::LabelNoise));
}

#[test]
fn every_permutation_is_equally_likely() {
    let mut rng = stream(Purpose::ShuffledSet, 3, 0);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..24_000 {
        *counts.entry(permutation(&mut rng, 4)).or_insert(0_i32) += 1;
    }
    assert_eq!(counts.len(), 24);
    // 1000 expected of each; the standard deviation is 31.
    assert!(counts.values().all(|count| (count - 1000).abs() < 5 * 31), "{counts:?}");
}

#[test]
fn draws_stay_below_their_bound() {
    let mut rng = stream(Purpose::LabelNoise, 0, 0);
    for bound in [1, 2, 3, 1000, usize::MAX] {
        assert!((0..100).all(|_| below(&mut rng, bound) < bound));
    }
}

#[test]
fn choosing_more_than_there_is_takes_all() {
    let mut indices = [5, 6, 7];
    choose_front(&mut stream(Purpose::LabelNoise, 0, 0), &mut indices, 9);
    indices.sort_unstable();
    assert_eq!(indices, [5, 6, 7]);
}
