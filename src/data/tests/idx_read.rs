// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;
use std::io::Write;

use flate2::{write::GzEncoder, Compression};
use tempfile::TempDir;

use super::*;
use crate::data::idx::{load_pair, mnist_dir, read_images, read_labels};

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
    assert_eq!((set.len(), set.classes(), set.sample_shape()), (2, 5, &[1, 2, 3][..]));
    assert_eq!((set.images().count, set.labels()), (2, &[4, 1][..]));

    let mut sample = [0.0; 6];
    assert_eq!(set.read(1, &mut sample).unwrap(), 1);
    assert_eq!(sample, [42, 49, 56, 63, 70, 77].map(|byte| byte as f32 / 255.0));
    assert_eq!(blamed(set.read(2, &mut sample)), "index");
    assert_eq!(label(&set, 0).unwrap(), 4);
}

#[test]
fn mnist_is_found_under_every_name() {
    for (separator, packed) in [("-", false), ("-", true), (".", false), (".", true)] {
        let dir = TempDir::new().unwrap();
        let write = |name: String, bytes: &[u8]| {
            let name = if packed { name + ".gz" } else { name };
            let bytes = if packed { gzip(bytes) } else { bytes.to_vec() };
            fs::write(dir.path().join(name), bytes).unwrap();
        };
        for (part, count) in [("train", 3), ("t10k", 2)] {
            write(format!("{part}-images{separator}idx3-ubyte"), &images_file(count, 28, 28));
            write(
                format!("{part}-labels{separator}idx1-ubyte"),
                &labels_file(&[9, 0, 5][..count as usize]),
            );
        }
        let mnist = mnist_dir(dir.path()).unwrap();
        assert_eq!((mnist.train.len(), mnist.test.len()), (3, 2));
        assert_eq!((mnist.train.labels(), mnist.test.classes()), (&[9, 0, 5][..], 10));
    }
}

#[test]
fn every_missing_file_is_named() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("t10k-labels-idx1-ubyte"), labels_file(&[1])).unwrap();
    let message = mnist_dir(dir.path()).unwrap_err().to_string();
    for name in ["train-images-idx3-ubyte", "train-labels.idx1-ubyte.gz", "t10k-images.idx3-ubyte"]
    {
        assert!(message.contains(name), "{name} is not in: {message}");
    }
    assert!(!message.contains("t10k-labels"), "{message}");
}
