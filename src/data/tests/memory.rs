// SPDX-License-Identifier: MIT OR Apache-2.0

use proptest::prelude::*;

use super::*;

#[test]
fn construction_reports_everything_that_does_not_fit() {
    let fails = |inputs: usize, shape: &[usize], labels: &[i32], classes| {
        blamed(MemoryDataset::new(vec![0.0; inputs], shape, labels.to_vec(), classes))
    };
    assert_eq!(fails(5, &[2], &[0, 1], 2), "inputs");
    assert_eq!(fails(0, &[2, 0], &[], 2), "sample_shape");
    assert_eq!(fails(0, &[usize::MAX, 2], &[], 2), "sample_shape");
    assert_eq!(fails(2, &[usize::MAX], &[0, 1], 2), "sample_shape");
    assert_eq!(fails(2, &[1 << 51], &[0, 1], 2), "inputs");
    assert_eq!(fails(2, &[1], &[0, 2], 2), "labels[1]");
    assert_eq!(fails(2, &[1], &[-1, 0], 2), "labels[0]");
    assert_eq!(fails(1, &[1], &[0], 0), "labels[0]");
    assert_eq!(fails(1, &[1], &[0], usize::MAX), "classes");

    let both = MemoryDataset::new(vec![0.0; 5], &[2], vec![0, 2], 2).unwrap_err();
    assert!(matches!(&both, Error::Many(errors) if errors.len() == 2), "{both}");
}

#[test]
fn reads_are_checked() {
    let set = numbered(3, 2);
    assert_eq!(read(&set, 2).unwrap(), (vec![2.0, -2.0], 0));
    assert_eq!(blamed(read(&set, 3)), "index");
    assert!(set.sample(3).is_none());
}

#[test]
fn an_empty_set_works() {
    let empty = MemoryDataset::new(vec![], &[4], vec![], 3).unwrap();
    assert!(empty.is_empty());
    assert!(empty.sample(0).is_none());
    assert!(empty.shuffled(1).is_empty());
    assert!(empty.with_label_noise(1.0, 1).unwrap().is_empty());
}

#[test]
fn subset_take_and_split_pick_samples() {
    let set = numbered(5, 5);
    assert_eq!(set.subset(&[4, 0, 4]).unwrap().labels(), [4, 0, 4]);
    assert_eq!(set.subset(&[4, 0]).unwrap().inputs(), [4.0, -4.0, 0.0, -0.0]);
    assert_eq!(blamed(set.subset(&[0, 5])), "indices");
    assert_eq!(set.take(2).unwrap().labels(), [0, 1]);
    assert_eq!(blamed(set.take(6)), "count");
    let (front, rest) = set.split(5).unwrap();
    assert_eq!((front.len(), rest.len()), (5, 0));
}

#[test]
fn a_shape_may_change_but_not_its_elements() {
    let set = numbered(2, 2).with_sample_shape(&[2, 1, 1]).unwrap();
    assert_eq!(set.sample_shape(), [2, 1, 1]);
    assert_eq!(blamed(set.with_sample_shape(&[3])), "sample_shape");
}

#[test]
fn any_data_set_can_be_read_into_memory() {
    let set = numbered(7, 3);
    assert_eq!(MemoryDataset::read_all(&set).unwrap(), set);
}

#[test]
fn fractions_outside_zero_to_one_are_refused() {
    for fraction in [f64::NAN, -0.1, 1.0001, f64::INFINITY] {
        assert_eq!(blamed(numbered(4, 2).with_label_noise(fraction, 0)), "fraction");
    }
    assert_eq!(blamed(numbered(4, 1).with_label_noise(0.5, 0)), "classes");
    assert_eq!(numbered(4, 1).with_label_noise(0.0, 0).unwrap(), numbered(4, 1));
}

#[test]
fn wrong_labels_are_uniform_over_the_other_classes() {
    let len = 30_000;
    let clean = MemoryDataset::new(vec![0.0; len], &[1], vec![3; len], 4).unwrap();
    let counts = clean.with_label_noise(1.0, 5).unwrap().class_counts();
    assert_eq!(counts[3], 0);
    // 10,000 expected in each; the standard deviation is 82.
    assert!(counts[..3].iter().all(|&count| count.abs_diff(10_000) < 5 * 82), "{counts:?}");
}

proptest! {
    #[test]
    fn label_noise_changes_exactly_its_share(
        len in 0_usize..300, fraction in 0.0..=1.0_f64, seed: u64, classes in 2_usize..12,
    ) {
        let clean = numbered(len, classes);
        let noisy = clean.clone().with_label_noise(fraction, seed).unwrap();
        let changed = clean.labels().iter().zip(noisy.labels()).filter(|(a, b)| a != b).count();
        prop_assert_eq!(changed, (fraction * len as f64).round() as usize);
        prop_assert!(noisy.labels().iter().all(|&label| (0..classes as i32).contains(&label)));
        prop_assert_eq!(noisy.inputs(), clean.inputs());
        prop_assert_eq!(clean.with_label_noise(fraction, seed).unwrap(), noisy);
    }

    #[test]
    fn shuffling_keeps_every_sample_with_its_label(len in 0_usize..200, seed: u64) {
        let set = numbered(len, 7);
        let shuffled = set.shuffled(seed);
        let firsts = shuffled.inputs().iter().step_by(2);
        let mut seen: Vec<usize> = firsts.map(|&first| first as usize).collect();
        for (&index, &label) in seen.iter().zip(shuffled.labels()) {
            prop_assert_eq!(label, (index % 7) as i32);
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..len).collect::<Vec<_>>());
        prop_assert_eq!(set.shuffled(seed), shuffled);
    }
}
