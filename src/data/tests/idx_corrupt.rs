// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::idx_read::{gzip, images_file, labels_file};
use super::*;
use crate::data::idx::{load_pair, read_images, read_labels, Amount, Pair};

struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// The offset, `expected` and `got` of an error in a file's contents.
fn complaint<T: std::fmt::Debug>(result: Result<T>, file: &PathBuf) -> (u64, String, String) {
    match result.unwrap_err() {
        Error::Data { path, offset, expected, got } => {
            assert_eq!(&path, file);
            (offset, expected, got)
        }
        other => panic!("expected a data error, got {other:?}"),
    }
}

#[test]
fn a_wrong_magic_number_is_named() {
    let scratch = Scratch::new();
    let path = scratch.file("labels", &labels_file(&[1, 2]));
    let (offset, expected, got) = complaint(read_images(&path), &path);
    assert_eq!(offset, 0);
    assert!(expected.contains("0x00000803"), "{expected}");
    assert_eq!(got, "0x00000801");
}

/// Whatever people save under the name of an IDX file.
#[test]
fn files_of_another_kind_are_called_what_they_are() {
    let scratch = Scratch::new();
    let page = b"\xef\xbb\xbf \n<!doctype HTML><title>404 Not Found</title>";
    let whole = images_file(2, 3, 4);
    let cases: [(&[u8], &str); 9] = [
        (page, "an HTML page"),
        (b"<html><body>", "an HTML page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "an XML text"),
        (b"{\"message\": \"Not Found\"}", "a JSON text"),
        (b"PK\x03\x04\x14\0\0\0", "a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"\xfd7zXZ\0\0\x04", "an xz file"),
        (&gzip(&whole), "a gzip file inside a gzip file"),
    ];
    for (bytes, name) in cases {
        let packed = scratch.file("images.gz", &gzip(bytes));
        let (offset, expected, got) = complaint(read_images(&packed), &packed);
        assert!(offset == 0 && expected.contains("0x00000803"), "{expected}");
        assert!(got.starts_with(name), "{got}");
        if !bytes.starts_with(b"\x1f\x8b") {
            let saved_as = scratch.file("train-images-idx3-ubyte.gz", bytes);
            let (.., got) = complaint(read_images(&saved_as), &saved_as);
            assert!(got.starts_with(name), "{got}");
        }
    }
}

/// A file of 3 MB that would unpack to 3 GB: nothing is unpacked that was not asked for, nor kept
/// beyond what the header announces.
#[test]
fn what_is_unpacked_is_what_is_asked_for() {
    let scratch = Scratch::new();
    let megabyte = gzip(&vec![0; 1 << 20]);
    let bomb = |count: u32| {
        let mut bytes = gzip(&[0x803, count, 1024, 1024].map(u32::to_be_bytes).concat());
        (0..3000).for_each(|_| bytes.extend_from_slice(&megabyte));
        scratch.file("images.gz", &bytes)
    };
    let mut labels = labels_file(&[]);
    labels[4..].copy_from_slice(&3000_u32.to_be_bytes());
    labels.resize(8 + 3000, 0);
    let pair = Pair { images: bomb(3000), labels: scratch.file("labels", &labels), classes: 10 };
    let start = std::time::Instant::now();
    let few = pair.load(Amount::First(10)).unwrap();
    assert_eq!((few.len(), few.images().pixels.len()), (10, 10 << 20));
    let liar = bomb(2);
    let wanted = (16 + (2 << 20), "the end of the file".into(), "more bytes".into());
    assert_eq!(complaint(read_images(&liar), &liar), wanted);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn dimensions_of_zero_are_refused() {
    let scratch = Scratch::new();
    for (dimension, offset) in [(0, 4), (1, 8), (2, 12)] {
        let mut bytes = images_file(2, 3, 4);
        bytes[4 + 4 * dimension..][..4].fill(0);
        let path = scratch.file("images", &bytes);
        let (at, expected, got) = complaint(read_images(&path), &path);
        assert_eq!((at, got.as_str()), (offset, "0"));
        assert_eq!(expected, format!("dimension {dimension} above 0"));
    }
}

#[test]
fn absurd_dimensions_cost_no_memory() {
    let scratch = Scratch::new();
    for sizes in [[u32::MAX; 3], [u32::MAX, 1, 1], [1 << 20, 1 << 12, 1 << 12], [60_000, 28, 28]] {
        let header = [0x803, sizes[0], sizes[1], sizes[2]].map(u32::to_be_bytes).concat();
        let plain = scratch.file("images", &header);
        let (offset, ..) = complaint(read_images(&plain), &plain);
        assert!([4, 16].contains(&offset));
        let packed = scratch.file("images.gz", &gzip(&header));
        let (offset, expected, _) = complaint(read_images(&packed), &packed);
        assert_eq!(offset, 4, "{expected}");
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let scratch = Scratch::new();
    let mut bytes = images_file(2, 3, 4);
    bytes.extend([1, 2, 3]);
    let plain = scratch.file("images", &bytes);
    let wanted = (40, "the end of the file".to_string(), "3 more bytes".to_string());
    assert_eq!(complaint(read_images(&plain), &plain), wanted);
    let packed = scratch.file("images.gz", &gzip(&bytes));
    assert_eq!(complaint(read_images(&packed), &packed).0, 40);

    let mut packed_bytes = gzip(&images_file(2, 3, 4));
    packed_bytes.extend(*b"garbage behind the stream");
    let garbage = scratch.file("garbage.gz", &packed_bytes);
    assert_eq!(complaint(read_images(&garbage), &garbage).0, 40);
}

#[test]
fn a_file_that_ends_early_says_where() {
    let scratch = Scratch::new();
    let bytes = images_file(2, 3, 4);
    for (length, offset) in [(0, 0), (3, 3), (4, 4), (15, 15), (16, 16), (39, 39)] {
        let path = scratch.file("images", &bytes[..length]);
        assert_eq!(complaint(read_images(&path), &path).0, offset);
        let path = scratch.file("images.gz", &gzip(&bytes[..length]));
        assert_eq!(complaint(read_images(&path), &path).0, offset);
    }
}

#[test]
fn a_damaged_gzip_stream_is_a_data_error() {
    let scratch = Scratch::new();
    let mut bytes = gzip(&images_file(9, 9, 9));
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    let path = scratch.file("images.gz", &bytes);
    let (_, expected, _) = complaint(read_images(&path), &path);
    assert_eq!(expected, "an intact gzip stream");
}

#[test]
fn a_pair_must_match() {
    let scratch = Scratch::new();
    let images = scratch.file("images", &images_file(3, 2, 2));
    let labels = scratch.file("labels", &labels_file(&[1, 2]));
    let (offset, expected, got) = complaint(load_pair(&images, &labels, 10), &labels);
    assert_eq!((offset, got.as_str()), (4, "2"));
    assert!(expected.starts_with("3 labels, as "), "{expected}");

    let labels = scratch.file("labels", &labels_file(&[1, 10, 2]));
    let wanted = (9, "a label below 10".to_string(), "10".to_string());
    assert_eq!(complaint(load_pair(&images, &labels, 10), &labels), wanted);

    let both = load_pair(&labels, &images, 10).unwrap_err();
    assert!(matches!(&both, Error::Many(errors) if errors.len() == 2), "{both}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_io_error() {
    let scratch = Scratch::new();
    let missing = read_labels(scratch.0.path().join("missing"));
    assert!(matches!(missing, Err(Error::Io { .. })), "{missing:?}");
    let directory = read_labels(scratch.0.path());
    assert!(matches!(directory, Err(Error::Io { .. })), "{directory:?}");
}

proptest! {
    #[test]
    fn every_truncation_is_an_error(count in 1_u32..6, side in 1_u32..6, cut: prop::sample::Index) {
        let scratch = Scratch::new();
        let bytes = images_file(count, side, side);
        let packed = gzip(&bytes);
        for bytes in [&bytes, &packed] {
            let path = scratch.file("images", &bytes[..cut.index(bytes.len())]);
            complaint(read_images(&path), &path);
        }
    }

    /// A flipped bit may go unseen in a plain file's pixels, but nothing else gives way.
    #[test]
    fn corrupt_files_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..5),
    ) {
        let scratch = Scratch::new();
        let bytes = images_file(3, 4, 4);
        for mut bytes in [bytes.clone(), gzip(&bytes)] {
            for (at, bit) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            let path = scratch.file("images", &bytes);
            if let Ok(images) = read_images(&path) {
                prop_assert_eq!(images.pixels.len(), images.count * images.rows * images.cols);
                prop_assert!(images.pixels.len() <= 48);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        head in 0_usize..4, tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let scratch = Scratch::new();
        let head: &[u8] = [&[][..], &[0, 0, 8, 3], &[0, 0, 8, 1], &[0x1f, 0x8b, 8]][head];
        let path = scratch.file("any", &[head, &tail].concat());
        let images = read_images(&path).map_or(0, |images| images.pixels.len());
        let labels = read_labels(&path).map_or(0, |labels| labels.len());
        prop_assert!(images + 16 <= 68 && labels + 8 <= 68, "{} images, {} labels", images, labels);
    }
}
