// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::Arc;

use super::*;
use crate::data::{Augmentation, Augmented, Loader, LoaderConfig, Position, Shuffle};

const ALL: [Augmentation; 3] = [
    Augmentation::Crop { padding: 4 },
    Augmentation::Flip { probability: 0.5 },
    Augmentation::Cutout { side: 5, probability: 0.75 },
];

/// Images of two channels and no zeros, whose elements tell their places.
fn images(len: usize, [height, width]: [usize; 2]) -> Arc<MemoryDataset> {
    let each = 2 * height * width;
    let inputs = (0..len * each).map(|place| (place % each + 1) as f32).collect();
    let labels = vec![0; len];
    Arc::new(MemoryDataset::new(inputs, &[2, height, width], labels, 1).unwrap())
}

fn augmented(len: usize, size: [usize; 2], changes: &[Augmentation]) -> Augmented {
    Augmented::new(images(len, size), changes).unwrap()
}

fn sample(set: &dyn Dataset, index: usize, epoch: u64) -> Vec<f32> {
    let batch = Batch::read(set, &[index], Pass { seed: 7, epoch }).unwrap();
    batch.inputs[0].values().unwrap().to_vec()
}

/// Both channels by their definition, from where the crop began and whether it is mirrored.
fn by_definition(
    [height, width]: [usize; 2],
    place: impl Fn(usize, usize) -> Option<usize>,
) -> Vec<f32> {
    let mut all = Vec::new();
    for channel in 0..2 {
        for row in 0..height {
            for column in 0..width {
                let source = place(row, column);
                all.push(source.map_or(0.0, |at| (channel * height * width + at + 1) as f32));
            }
        }
    }
    all
}

#[test]
fn a_crop_is_a_window_of_the_bordered_image() {
    let (size, padding) = ([5, 7], 3);
    let set = augmented(400, size, &[Augmentation::Crop { padding }]);
    let mut counts = vec![0_i32; 49];
    for index in 0..400 {
        let mut draws = Pass { seed: 7, epoch: 2 }.draws(index, 0);
        let (top, left) = (draws.below(7) as usize, draws.below(7) as usize);
        let expected = by_definition(size, |row, column| {
            let (row, column) = ((row + top).checked_sub(3)?, (column + left).checked_sub(3)?);
            (row < 5 && column < 7).then_some(row * 7 + column)
        });
        assert_eq!(sample(&set, index, 2), expected, "{top} {left}");
        counts[top * 7 + left] += 1;
    }
    // All places but few occur: of 400 draws among 49, each is expected 8.2 times.
    assert!(counts.iter().filter(|count| **count == 0).count() <= 1, "{counts:?}");
}

#[test]
fn a_flip_mirrors_rows() {
    let size = [4, 6];
    let set = augmented(2000, size, &[Augmentation::Flip { probability: 0.3 }]);
    let plain = by_definition(size, |row, column| Some(row * 6 + column));
    let mirrored = by_definition(size, |row, column| Some(row * 6 + 5 - column));
    let flipped = (0..2000).filter(|index| {
        let got = sample(&set, *index, 0);
        assert!(got == plain || got == mirrored);
        got == mirrored
    });
    // 600 expected, the standard deviation is 20.5.
    let count = flipped.count();
    assert!(count.abs_diff(600) < 103, "{count}");
}

#[test]
fn a_cutout_is_a_square_anywhere_within() {
    let size = [6, 8];
    let set = augmented(3000, size, &[Augmentation::Cutout { side: 3, probability: 0.8 }]);
    let mut counts = [0_usize; 24];
    for index in 0..3000 {
        let got = sample(&set, index, 1);
        let Some(first) = got.iter().position(|value| *value == 0.0) else { continue };
        let (top, left) = (first / 8, first % 8);
        let expected = by_definition(size, |row, column| {
            let is_cut = (top..top + 3).contains(&row) && (left..left + 3).contains(&column);
            (!is_cut).then_some(row * 8 + column)
        });
        assert_eq!(got, expected);
        counts[top * 6 + left] += 1;
    }
    // 100 expected at each of 4 x 6 places, the standard deviation is 9.8.
    assert!(counts.iter().all(|count| count.abs_diff(100) < 50), "{counts:?}");
    // 2400 expected, the standard deviation is 21.9.
    assert!(counts.iter().sum::<usize>().abs_diff(2400) < 110, "{counts:?}");
}

#[test]
fn an_epoch_differs_from_the_next_and_not_from_itself() {
    let set = augmented(20, [32, 32], &ALL);
    for index in 0..20 {
        assert_ne!(sample(&set, index, 0), sample(&set, index, 1));
        assert_eq!(sample(&set, index, 1), sample(&set, index, 1));
    }
    // Nor are samples of an epoch, or a set around another, changed alike.
    assert_ne!(sample(&set, 0, 0), sample(&set, 1, 0));
    let flip = [Augmentation::Flip { probability: 0.5 }];
    let twice = |stage| {
        let inner = Arc::new(augmented(64, [4, 4], &flip));
        let around = Augmented::new(inner, flip).unwrap().from_stage(stage);
        let plain = sample(&*images(1, [4, 4]), 0, 0);
        (0..64).filter(|index| sample(&around, *index, 0) != plain).count()
    };
    assert_eq!(twice(0), 0); // the same choice twice
    assert!((16..48).contains(&twice(1)), "{}", twice(1));
}

#[test]
fn threads_and_resuming_change_no_bit() {
    let set = Arc::new(augmented(50, [32, 32], &ALL));
    let config = |prefetch| LoaderConfig {
        batch_size: 16,
        shuffle: Shuffle::Seeded(3),
        seed: 11,
        prefetch,
        ..LoaderConfig::default()
    };
    let batches = |loader: &mut Loader, count: usize| -> Vec<Batch> {
        (0..count).map(|_| loader.next_batch().unwrap()).collect()
    };
    let fresh = |prefetch| Loader::new(set.clone(), config(prefetch)).unwrap();
    let expected = batches(&mut fresh(0), 12);
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| batches(&mut fresh(0), 12)), expected, "{threads} threads");
    }
    assert_eq!(batches(&mut fresh(3), 12), expected);
    let mut resumed = fresh(2);
    resumed.seek(Position { epoch: 1, batch: 2 }).unwrap();
    assert_eq!(batches(&mut resumed, 6), expected[6..]);
    // Another seed makes other choices in the same order.
    let mut other = Loader::new(set.clone(), LoaderConfig { seed: 12, ..config(0) }).unwrap();
    let other = other.next_batch().unwrap();
    assert!(other.indices == expected[0].indices && other.inputs != expected[0].inputs);
}

#[test]
fn changes_that_cannot_be_made_are_refused() {
    let refused = |change| blamed(Augmented::new(images(1, [4, 6]), [change]));
    assert_eq!(refused(Augmentation::Crop { padding: 5 }), "padding");
    assert_eq!(refused(Augmentation::Cutout { side: 0, probability: 1.0 }), "side");
    assert_eq!(refused(Augmentation::Cutout { side: 5, probability: 1.0 }), "side");
    for probability in [-0.1, 1.1, f32::NAN] {
        assert_eq!(refused(Augmentation::Flip { probability }), "probability of flips");
        let cutout = Augmentation::Cutout { side: 1, probability };
        assert_eq!(refused(cutout), "probability of cutouts");
    }
    assert_eq!(blamed(Augmented::new(Arc::new(numbered(3, 3)), ALL)), "sample_shape");
    let most = augmented(1, [4, 4], &[Augmentation::Crop { padding: 4 }]);
    assert_eq!(sample(&most, 0, 0).len(), 32);
}
