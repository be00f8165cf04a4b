// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::data::cifar::Cifar;
use crate::data::idx::Amount;

const PIXELS: usize = 3 * 32 * 32;

/// Images that tell their number, each with these labels.
fn write(path: &Path, numbers: std::ops::Range<u8>, labels: impl Fn(u8) -> Vec<u8>) {
    let image = |number: u8| {
        let mut bytes = labels(number);
        bytes.extend((0..PIXELS).map(|place| number.wrapping_add((place / 1024) as u8 * 50)));
        bytes
    };
    fs::write(path, numbers.flat_map(image).collect::<Vec<u8>>()).unwrap();
}

/// CIFAR-10 with two images in each file.
fn ten(at: &Path) {
    fs::create_dir_all(at).unwrap();
    for batch in 1..=5 {
        let first = (batch - 1) * 2;
        write(&at.join(format!("data_batch_{batch}.bin")), first..first + 2, |number| vec![number]);
    }
    write(&at.join("test_batch.bin"), 100..103, |number| vec![number - 100]);
}

#[test]
fn batches_follow_one_another() {
    let dir = TempDir::new().unwrap();
    ten(&dir.path().join("cifar-10-batches-bin"));
    let files = Cifar::Ten.find(dir.path()).unwrap();
    let train = files.load_train(Amount::All).unwrap();
    assert_eq!(train.labels(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!((train.len(), train.classes(), train.sample_shape()), (10, 10, vec![3, 32, 32]));
    let (pixels, label) = read(&train, 7).unwrap();
    assert_eq!(label, 7);
    let plane = |channel: usize| &pixels[channel * 1024..][..1024];
    for (channel, byte) in [(0, 7.0), (1, 57.0), (2, 107.0)] {
        assert!(plane(channel).iter().all(|value| *value == byte / 255.0), "{channel}");
    }
    assert_eq!(files.load_test(Amount::All).unwrap().labels(), [0, 1, 2]);
    // Across the border of two files, and of the folder itself.
    let inside = Cifar::Ten.find(dir.path().join("cifar-10-batches-bin")).unwrap();
    let first = inside.load_train(Amount::First(3)).unwrap();
    assert_eq!((first.labels(), first.pixels().len()), (&[0, 1, 2][..], 3 * PIXELS));
    assert_eq!(first.pixels(), &train.pixels()[..3 * PIXELS]);
    assert_eq!(blamed(inside.load_train(Amount::First(11))), "count");
}

#[test]
fn a_hundred_classes_are_in_twenty_groups() {
    let dir = TempDir::new().unwrap();
    for name in ["train.bin", "test.bin"] {
        write(&dir.path().join(name), 0..4, |number| vec![number * 5, number * 30]);
    }
    let labels = |which: Cifar| {
        let images = which.find(dir.path()).unwrap().load_train(Amount::All).unwrap();
        assert_eq!(images.classes(), which.classes());
        images.labels().to_vec()
    };
    assert_eq!(labels(Cifar::Hundred), [0, 30, 60, 90]);
    assert_eq!(labels(Cifar::HundredCoarse), [0, 5, 10, 15]);
}

#[test]
fn each_missing_file_is_named() {
    let dir = TempDir::new().unwrap();
    ten(dir.path());
    for batch in [2, 4] {
        fs::remove_file(dir.path().join(format!("data_batch_{batch}.bin"))).unwrap();
    }
    let error = Cifar::Ten.find(dir.path()).unwrap_err().to_string();
    assert!(error.contains("data_batch_2.bin") && error.contains("data_batch_4.bin"), "{error}");
    assert!(!error.contains("data_batch_3.bin"), "{error}");
    let error = Cifar::Hundred.find(dir.path()).unwrap_err().to_string();
    assert!(error.contains("train.bin") && error.contains("cifar-100-binary"), "{error}");
}

#[test]
fn what_is_wrong_is_named_with_its_offset() {
    let dir = TempDir::new().unwrap();
    ten(dir.path());
    let path = dir.path().join("data_batch_3.bin");
    let whole = fs::read(&path).unwrap();
    let with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let files = Cifar::Ten.find(dir.path()).unwrap();
        match files.load_train(Amount::All).unwrap_err() {
            Error::Data { path, offset, expected, got } => {
                assert!(path.ends_with("data_batch_3.bin"), "{path:?}");
                (offset, expected, got)
            }
            other => panic!("{other}"),
        }
    };
    let (offset, expected, got) = with(&whole[..6000]);
    assert_eq!((offset, got.as_str()), (6000, "the end of the file"));
    assert!(expected.contains("6146 bytes in all"), "{expected}");
    assert_eq!(with(&[]).0, 0);
    let mut foreign = whole.clone();
    foreign[PIXELS + 1] = 10;
    let (offset, expected, got) = with(&foreign);
    assert_eq!((offset, &*expected, &*got), (3073, "a label below 10", "10"));
    let (offset, _, got) = with(b"\x80\x02}q\x01(U\x0bbatch");
    assert!(offset == 0 && got.contains("pickle"), "{got}");
    let (_, _, got) = with(b"\x1f\x8b\x08\0\0\0\0\0");
    assert!(got.contains("gzip"), "{got}");
    let (_, _, got) = with(b"<!DOCTYPE html><html></html>");
    assert!(got.contains("HTML"), "{got}");
}

#[test]
fn wrong_labels_are_those_of_other_data_sets() {
    let dir = TempDir::new().unwrap();
    ten(dir.path());
    let train = Cifar::Ten.find(dir.path()).unwrap().load_train(Amount::All).unwrap();
    let copy = MemoryDataset::read_all(&train).unwrap().with_label_noise(0.5, 3).unwrap();
    let around = crate::data::Mislabelled::new(std::sync::Arc::new(train.clone()), 0.5, 3).unwrap();
    let noisy = train.clone().with_label_noise(0.5, 3).unwrap();
    let labels: Vec<i32> = noisy.labels().iter().map(|label| i32::from(*label)).collect();
    assert_eq!(labels, copy.labels());
    assert_eq!(MemoryDataset::read_all(&around).unwrap().labels(), copy.labels());
    assert_eq!(around.count(), 5);
    assert!(labels.iter().zip(train.labels()).filter(|(a, b)| **a != i32::from(**b)).count() == 5);
}
