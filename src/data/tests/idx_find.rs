// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::idx_read::{gzip, images_file, labels_file};
use super::*;
use crate::data::idx::{mnist_dir, Collection, Emnist, Files};

/// Writes four files into `dir`, each under the name that `name` makes of its usual one, as many
/// images to train on as `count` says and one fewer to test with.
fn write(dir: &Path, count: u32, name: impl Fn(&str) -> String) {
    for (part, count) in [("train", count), ("t10k", count - 1)] {
        let labels: Vec<u8> = (0..count).map(|index| index as u8 % 10).collect();
        for (kind, bytes) in [
            ("images-idx3-ubyte", images_file(count, 2, 2)),
            ("labels-idx1-ubyte", labels_file(&labels)),
        ] {
            let path = dir.join(name(&format!("{part}-{kind}")));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let packed = path.to_str().unwrap().to_lowercase().ends_with(".gz");
            fs::write(path, if packed { gzip(&bytes) } else { bytes }).unwrap();
        }
    }
}

fn lengths(files: &Files) -> (usize, usize) {
    let sets = files.load().unwrap();
    (sets.train.len(), sets.test.len())
}

#[test]
fn mnist_is_found_under_every_name() {
    let names: [fn(&str) -> String; 12] = [
        |name| name.into(),
        |name| format!("{name}.gz"),
        |name| name.replace("-idx", ".idx"),
        |name| format!("{}.gz", name.replace("-idx", ".idx")),
        |name| name.replace("-idx", "_idx"),
        |name| name.to_uppercase(),
        |name| format!("{}.GZ", name.to_uppercase()),
        |name| name.replace("t10k", "test"),
        |name| format!("MNIST-{name}"),
        |name| format!("{name}/{name}"),
        |name| format!("{name}/data"),
        |name| format!("{}/{name}.gz", name.replace("-idx", ".idx")),
    ];
    for (index, name) in names.into_iter().enumerate() {
        let dir = TempDir::new().unwrap();
        write(dir.path(), 3, name);
        let mnist = mnist_dir(dir.path()).unwrap_or_else(|error| panic!("{index}: {error}"));
        assert_eq!((mnist.train.len(), mnist.test.len()), (3, 2), "{index}");
        assert_eq!((mnist.train.labels(), mnist.test.classes()), (&[0, 1, 2][..], 10));
    }
}

/// Plain before packed, and a file before a folder of its name.
#[test]
fn of_several_files_one_is_taken() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), 5, |name| format!("{}/x", name.replace("-idx", "_idx")));
    write(dir.path(), 4, |name| format!("{name}.gz"));
    write(dir.path(), 3, |name| name.replace("-idx", ".idx"));
    assert_eq!(lengths(&Collection::Mnist.find(dir.path()).unwrap()), (3, 2));
}

/// torchvision keeps collections side by side.
#[test]
fn a_folder_of_torchvision_holds_several_collections() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let letters = Collection::Emnist(Emnist::Letters);
    let digits = Collection::Emnist(Emnist::Digits);
    let cases = [
        (Collection::Mnist, "MNIST", 3),
        (Collection::FashionMnist, "FashionMNIST", 4),
        (Collection::Kmnist, "KMNIST", 5),
    ];
    for (_, folder, count) in cases {
        write(&root.join(folder).join("raw"), count, |name| name.into());
        write(&root.join(folder).join("raw"), count, |name| format!("{name}.gz"));
    }
    let emnist =
        |split: &str, name: &str| format!("emnist-{split}-{}", name.replace("t10k", "test"));
    write(&root.join("EMNIST/raw"), 6, |name| emnist("letters", name));
    write(&root.join("EMNIST/raw"), 7, |name| emnist("digits", name));
    // Nor does what lies at the root itself get in the way.
    write(root, 9, |name| name.into());
    for (collection, folder, count) in cases {
        for place in [root.into(), root.join(folder), root.join(folder).join("raw")] {
            let files = collection.find(&place).unwrap();
            assert_eq!(lengths(&files), (count as usize, count as usize - 1), "{place:?}");
        }
    }
    assert_eq!(lengths(&letters.find(root).unwrap()), (6, 5));
    assert_eq!(lengths(&digits.find(root.join("EMNIST")).unwrap()), (7, 6));
    assert_eq!(letters.find(root).unwrap().train.classes, 27);
    let missing = Collection::Emnist(Emnist::ByClass).find(root).unwrap_err().to_string();
    assert!(missing.contains("emnist-byclass-train-images-idx3-ubyte"), "{missing}");
    fs::rename(root.join("KMNIST"), root.join("kmnist")).unwrap();
    assert_eq!(lengths(&Collection::Kmnist.find(root).unwrap()), (5, 4));
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
    assert!(!message.contains("t10k-labels") && message.contains("MNIST/raw"), "{message}");
    let message = mnist_dir(dir.path().join("none")).unwrap_err().to_string();
    assert_eq!(message.matches("none of t").count(), 4, "{message}");
    let file = mnist_dir(dir.path().join("t10k-labels-idx1-ubyte")).unwrap_err().to_string();
    assert!(file.starts_with("cannot read ") && file.contains("Not a directory"), "{file}");
}
