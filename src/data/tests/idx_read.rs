// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;
use std::io::Write;

use flate2::{write::GzEncoder, Compression};
use tempfile::TempDir;

use super::*;
use crate::data::idx::{load_pair, read_images, read_labels, Amount, Pair};

pub(super) fn images_file(count: u32, rows: u32, cols: u32) -> Vec<u8> {
    let mut bytes = [0x803, count, rows, cols].map(u32::to_be_bytes).concat();
    bytes.extend((0..count * rows * cols).map(|pixel| (pixel * 7) as u8));
    bytes
}

pub(super) fn labels_file(labels: &[u8]) -> Vec<u8> {
    let mut bytes = [0x801, labels.len() as u32].map(u32::to_be_bytes).concat();
    bytes.extend_from_slice(labels);
    bytes
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn plain_and_gzip_are_equal_whatever_their_names() {
    let dir = TempDir::new().unwrap();
    let [plain, packed] = ["plain.gz", "packed"].map(|name| dir.path().join(name));
    let bytes = images_file(3, 4, 5);
    fs::write(&plain, &bytes).unwrap();
    fs::write(&packed, gzip(&bytes)).unwrap();

    let images = read_images(&plain).unwrap();
    assert_eq!((images.count, images.rows, images.cols), (3, 4, 5));
    assert_eq!(images.pixels, bytes[16..]);
    assert_eq!(read_images(&packed).unwrap(), images);

    fs::write(&plain, labels_file(&[3, 1, 2])).unwrap();
    fs::write(&packed, gzip(&labels_file(&[3, 1, 2]))).unwrap();
    assert_eq!(read_labels(&plain).unwrap(), [3, 1, 2]);
    assert_eq!(read_labels(&packed).unwrap(), [3, 1, 2]);
}

#[test]
fn a_gzip_file_of_several_members_is_one_stream() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("labels.gz");
    let bytes = labels_file(&[3, 1, 2]);
    fs::write(&path, [gzip(&bytes[..9]), gzip(&bytes[9..])].concat()).unwrap();
    assert_eq!(read_labels(&path).unwrap(), [3, 1, 2]);
}

#[test]
fn highly_packed_files_are_not_taken_for_bombs() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("images.gz");
    let mut bytes = [0x803_u32, 2000, 32, 32].map(u32::to_be_bytes).concat();
    bytes.resize(16 + 2000 * 32 * 32, 0);
    fs::write(&path, gzip(&bytes)).unwrap();
    assert_eq!(read_images(&path).unwrap().pixels.len(), 2000 * 32 * 32);
}

#[test]
fn a_pair_is_a_data_set() {
    let dir = TempDir::new().unwrap();
    let [images, labels] = ["i", "l"].map(|name| dir.path().join(name));
    fs::write(&images, images_file(2, 2, 3)).unwrap();
    fs::write(&labels, labels_file(&[4, 1])).unwrap();
    let set = load_pair(&images, &labels, 5).unwrap();
    assert_eq!((set.len(), set.classes(), set.sample_shape()), (2, 5, vec![1, 2, 3]));
    assert_eq!((set.images().count, set.labels()), (2, &[4, 1][..]));

    let (sample, label_of_it) = read(&set, 1).unwrap();
    assert_eq!(label_of_it, 1);
    assert_eq!(sample, [42, 49, 56, 63, 70, 77].map(|byte| byte as f32 / 255.0));
    assert_eq!(blamed(read(&set, 2)), "index");
    assert_eq!(label(&set, 0).unwrap(), 4);
}

/// What is asked for is read, whatever lies behind it.
#[test]
fn the_first_images_alone_are_read() {
    let dir = TempDir::new().unwrap();
    let [images, labels] = ["i", "l"].map(|name| dir.path().join(name));
    let all = images_file(9, 2, 3);
    fs::write(&labels, labels_file(&[4, 1, 0, 3, 2, 2, 1, 0, 3])).unwrap();
    let pair = Pair { images: images.clone(), labels, classes: 5 };
    for (bytes, packed) in [(all.clone(), false), (gzip(&all), true), (gzip(&all[..30]), true)] {
        fs::write(&images, &bytes).unwrap();
        let few = pair.load(Amount::First(2)).unwrap();
        assert_eq!((few.len(), few.labels(), few.images().count), (2, &[4, 1][..], 2));
        assert_eq!(few.images().pixels, all[16..28]);
        assert_eq!(pair.load(Amount::First(0)).unwrap().len(), 0);
        if !packed || bytes == gzip(&all) {
            assert_eq!(pair.load(Amount::First(9)).unwrap(), pair.load(Amount::All).unwrap());
        }
        let error = pair.load(Amount::First(10)).unwrap_err().to_string();
        assert!(error.starts_with("count: expected at most 9, all of "), "{error}");
    }
}

#[test]
fn labels_of_bytes_get_the_noise_of_others() {
    let dir = TempDir::new().unwrap();
    let [images, labels] = ["i", "l"].map(|name| dir.path().join(name));
    fs::write(&images, images_file(50, 1, 1)).unwrap();
    let right: Vec<u8> = (0..50).map(|index| index % 7).collect();
    fs::write(&labels, labels_file(&right)).unwrap();
    let set = load_pair(&images, &labels, 7).unwrap();
    let floats = MemoryDataset::read_all(&set).unwrap().with_label_noise(0.3, 5).unwrap();
    let bytes = set.clone().with_label_noise(0.3, 5).unwrap();
    let widened: Vec<i32> = bytes.labels().iter().map(|&label| label.into()).collect();
    assert_eq!(widened, floats.labels());
    assert_eq!(right.iter().zip(bytes.labels()).filter(|(a, b)| a != b).count(), 15);
    assert_eq!(set.clone().with_label_noise(0.0, 5).unwrap(), set);
    assert_eq!(blamed(set.with_label_noise(f64::NAN, 5)), "fraction");
    let wide = load_pair(&images, &labels, 300).unwrap();
    assert_eq!(blamed(wide.with_label_noise(0.3, 5)), "classes");
}
