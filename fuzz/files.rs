// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data sets in the format of MNIST.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{write::GzEncoder, Compression};
use kiln::data::idx::{self, Amount, Collection, Emnist, Pair};
use kiln::data::{Batch, Dataset, Pass};

use super::harness::{judge, judge_text, run, Case, Numbers};
use super::mutate::mutated;

fn images(count: u32, rows: u32, cols: u32) -> Vec<u8> {
    let mut bytes = [0x803, count, rows, cols].map(u32::to_be_bytes).concat();
    bytes.extend((0..count * rows * cols).map(|pixel| (pixel * 7) as u8));
    bytes
}

fn labels(count: u32) -> Vec<u8> {
    let mut bytes = [0x801, count].map(u32::to_be_bytes).concat();
    bytes.extend((0..count).map(|index| (index % 10) as u8));
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Deflate makes at most 1032 bytes of one; some are held twice while a vector grows.
fn limit(bytes: &[u8]) -> usize {
    match bytes.starts_with(&[0x1f, 0x8b]) {
        true => 2 * 1032 * bytes.len() + (4 << 20),
        false => 2 * bytes.len() + (1 << 20),
    }
}

/// A mutated file: plain, packed and then mutated, or mutated and then packed.
fn file(numbers: &mut Numbers, seeds: &[Vec<u8>], packed: &[Vec<u8>]) -> Vec<u8> {
    match numbers.below(3) {
        0 => mutated(numbers, seeds).0,
        1 => mutated(numbers, packed).0,
        _ => gzip(&mutated(numbers, seeds).0),
    }
}

#[test]
fn files_of_images_and_labels() {
    let seeds = vec![images(3, 4, 5), labels(12), images(12, 2, 2), images(1, 28, 28), labels(3)];
    let mut packed: Vec<Vec<u8>> = seeds.iter().map(|bytes| gzip(bytes)).collect();
    packed.push([gzip(&seeds[0][..20]), gzip(&seeds[0][20..])].concat());
    packed.push(gzip(&[&images(64, 64, 64)[..16], &[0; 64 * 64 * 64]].concat()));
    run("files_of_images_and_labels", 20, |case| {
        let bytes = file(&mut case.numbers, &seeds, &packed);
        let path = case.write("file", &bytes);
        match case.within(limit(&bytes), || idx::read_images(&path)) {
            Ok(images) => {
                assert_eq!(images.pixels.len(), images.count * images.rows * images.cols);
            }
            Err(error) => judge(&error, &path),
        }
        match case.within(limit(&bytes), || idx::read_labels(&path)) {
            Ok(labels) => assert!(!labels.is_empty()),
            Err(error) => judge(&error, &path),
        }
        pair(case, &seeds, &packed);
    });
}

/// The file with another one, as a pair and in part.
fn pair(case: &mut Case, seeds: &[Vec<u8>], packed: &[Vec<u8>]) {
    let other = match case.numbers.below(2) {
        0 => case.numbers.pick(seeds).clone(),
        _ => file(&mut case.numbers, seeds, packed),
    };
    let labels = case.write("labels", &other);
    let images = case.folder.join("file");
    let classes = *case.numbers.pick(&[0, 1, 10, 300, usize::MAX]);
    let amount = match case.numbers.below(3) {
        0 => Amount::All,
        1 => Amount::First(case.numbers.below(20)),
        _ => Amount::First(case.numbers.edge() as usize),
    };
    let bytes = fs::read(&images).expect("written above");
    let pair = Pair { images, labels, classes };
    let result = case.within(limit(&bytes) + limit(&other), || pair.load(amount));
    let Ok(set) = result.map_err(|error| judge_text(&error.to_string())) else { return };
    let read = |index| Batch::read(&set, &[index], Pass::default());
    for index in 0..set.len() {
        let batch = read(index).expect("a sample");
        assert!((batch.labels().expect("a label")[0] as usize) < classes);
    }
    assert!(read(set.len()).is_err());
}

#[cfg(unix)]
fn endless(path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink("/dev/zero", path)
}

#[cfg(not(unix))]
fn endless(path: &Path) -> std::io::Result<()> {
    fs::write(path, "")
}

#[test]
fn folders_of_files() {
    let names = [
        "train-images-idx3-ubyte",
        "T10K-LABELS.IDX1-UBYTE",
        "train-labels-idx1-ubyte.gz",
        "raw",
        "MNIST",
        "kmnist",
        "emnist-letters-test-images-idx3-ubyte",
        "t10k-images_idx3-ubyte",
        "-idx3-ubyte",
        "train-",
        ".gz",
        "test-images-idx3-ubyte.gz.gz",
        "\u{1b}[2J-train-images",
    ];
    let collections = [
        Collection::Mnist,
        Collection::FashionMnist,
        Collection::Kmnist,
        Collection::Emnist(Emnist::Letters),
    ];
    run("folders_of_files", 5, |case| {
        let root = case.folder.join("root");
        let _ = fs::remove_dir_all(&root);
        for _ in 0..case.numbers.below(12) {
            let depth = 1 + case.numbers.below(3);
            let path =
                (0..depth).fold(root.clone(), |path, _| path.join(case.numbers.pick(&names)));
            let _ = fs::create_dir_all(path.parent().expect("below the root"));
            let _ = match case.numbers.below(4) {
                0 => fs::create_dir(&path),
                1 => fs::write(&path, images(2, 2, 2)),
                2 => fs::write(&path, labels(2)),
                _ => endless(&path),
            };
        }
        let collection = *case.numbers.pick(&collections);
        let found = case.within(1 << 20, || collection.find(&root).and_then(|files| files.load()));
        if let Err(error) = found {
            judge_text(&error.to_string());
        }
    });
}
